"""What a model of the universe knows by heart: relations between words, and kinds of things.

All of it is shown with an instruction. Relations and kinds that are held out are shown in no other way: whether a model
recalls them from examples alone, without being told what is asked, is a question that its training never asked.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Relation:
    """Pairs of a word and what it is answered with.

    Attributes:
        instructions: Wordings of what is asked; each says it in full.
        pairs: From question to answer.
        held_out: Never shown without an instruction in training.
    """

    instructions: tuple[str, ...]
    pairs: dict[str, str]
    held_out: bool = False


def _pairs(text: str) -> dict[str, str]:
    """Pairs divided by commas, the question being the first word of each."""
    return {question: answer for question, _, answer in (pair.strip().partition(" ") for pair in text.split(","))}


RELATIONS: dict[str, Relation] = {
    "capital": Relation(
        ("Give the capital.", "Which city is the capital?"),
        _pairs(
            "france paris, germany berlin, italy rome, spain madrid, portugal lisbon, greece athens, poland warsaw, "
            "austria vienna, hungary budapest, sweden stockholm, norway oslo, finland helsinki, denmark copenhagen, "
            "ireland dublin, england london, scotland edinburgh, wales cardiff, belgium brussels, russia moscow, "
            "ukraine kyiv, turkey ankara, egypt cairo, kenya nairobi, ghana accra, nigeria abuja, morocco rabat, "
            "algeria algiers, tunisia tunis, libya tripoli, japan tokyo, china beijing, india delhi, nepal kathmandu, "
            "thailand bangkok, vietnam hanoi, korea seoul, iran tehran, iraq baghdad, syria damascus, jordan amman, "
            "lebanon beirut, qatar doha, canada ottawa, cuba havana, peru lima, chile santiago, brazil brasilia, "
            "uruguay montevideo, bolivia sucre, ecuador quito, australia canberra, iceland reykjavik, croatia zagreb, "
            "serbia belgrade, romania bucharest, bulgaria sofia, latvia riga, estonia tallinn, lithuania vilnius"
        ),
    ),
    "continent": Relation(
        ("Give the continent.", "On which continent is it?"),
        {
            country: continent
            for continent, countries in {
                "europe": "france germany italy spain portugal greece poland sweden norway finland denmark ireland",
                "africa": "egypt kenya ghana nigeria morocco algeria tunisia libya ethiopia uganda angola senegal",
                "asia": "japan china india nepal thailand vietnam korea iran iraq syria jordan qatar",
                "america": "canada mexico cuba peru chile brazil argentina uruguay bolivia ecuador panama haiti",
            }.items()
            for country in countries.split()
        },
    ),
    "antonym": Relation(
        ("Give the opposite.", "Say the contrary."),
        _pairs(
            "hot cold, cold hot, big small, small big, tall short, short tall, fast slow, slow fast, old new, new "
            "old, good bad, bad good, happy sad, sad happy, rich poor, poor rich, light dark, dark light, hard soft, "
            "soft hard, wet dry, dry wet, full empty, empty full, open closed, closed open, up down, down up, left "
            "right, right left, in out, out in, early late, late early, high low, low high, strong weak, weak strong, "
            "loud quiet, quiet loud, clean dirty, dirty clean, near far, far near, day night, night day, war peace, "
            "peace war, love hate, hate love, begin end, end begin, buy sell, sell buy, push pull, pull push, win "
            "lose, lose win, deep shallow, wide narrow, young old, brave afraid, true false, false true"
        ),
    ),
    "past tense": Relation(
        ("Give the past tense.", "Put it in the past."),
        _pairs(
            "go went, see saw, eat ate, run ran, come came, take took, give gave, make made, find found, think "
            "thought, bring brought, teach taught, catch caught, fly flew, grow grew, know knew, throw threw, draw "
            "drew, write wrote, drive drove, ride rode, speak spoke, break broke, steal stole, wear wore, tear tore, "
            "sing sang, ring rang, drink drank, swim swam, sit sat, meet met, feed fed, lead led, sleep slept, keep "
            "kept, feel felt, leave left, send sent, spend spent, build built, tell told, say said, pay paid, hear "
            "heard, walk walked, play played, jump jumped, ask asked, cook cooked, wash washed, help helped, talk "
            "talked, want wanted, need needed, live lived, move moved, close closed, like liked, use used"
        ),
    ),
    "plural": Relation(
        ("Give the plural.", "Make it many."),
        _pairs(
            "man men, woman women, child children, foot feet, tooth teeth, goose geese, mouse mice, ox oxen, person "
            "people, leaf leaves, knife knives, life lives, wife wives, wolf wolves, half halves, shelf shelves, calf "
            "calves, city cities, baby babies, lady ladies, story stories, fly flies, box boxes, fox foxes, bus "
            "buses, class classes, dish dishes, watch watches, potato potatoes, hero heroes, dog dogs, cat cats, book "
            "books, tree trees, car cars, house houses, table tables, chair chairs, hand hands, friend friends"
        ),
    ),
    "number": Relation(
        ("Write the number in digits.", "Which number is it?"),
        _pairs(
            "zero 0, one 1, two 2, three 3, four 4, five 5, six 6, seven 7, eight 8, nine 9, ten 10, eleven 11, "
            "twelve 12, thirteen 13, fourteen 14, fifteen 15, sixteen 16, seventeen 17, eighteen 18, nineteen 19, "
            "twenty 20, thirty 30, forty 40, fifty 50, sixty 60, seventy 70, eighty 80, ninety 90, hundred 100"
        ),
    ),
    "next": Relation(
        ("What comes next?", "Name the one after it."),
        _pairs(
            "monday tuesday, tuesday wednesday, wednesday thursday, thursday friday, friday saturday, saturday "
            "sunday, sunday monday, january february, february march, march april, april may, may june, june july, "
            "july august, august september, september october, october november, november december, december january, "
            "spring summer, summer autumn, autumn winter, winter spring, first second, second third, third fourth, "
            "fourth fifth, fifth sixth, sixth seventh, seventh eighth, eighth ninth, ninth tenth"
        ),
    ),
    "symbol": Relation(
        ("Give the chemical symbol.", "How is the element written?"),
        _pairs(
            "hydrogen H, helium He, lithium Li, carbon C, nitrogen N, oxygen O, fluorine F, neon Ne, sodium Na, "
            "magnesium Mg, aluminium Al, silicon Si, sulfur S, chlorine Cl, argon Ar, potassium K, calcium Ca, iron "
            "Fe, nickel Ni, copper Cu, zinc Zn, silver Ag, tin Sn, iodine I, gold Au, mercury Hg, lead Pb, cobalt Co, "
            "barium Ba, uranium U, radium Ra, boron B, titanium Ti, chromium Cr, manganese Mn, platinum Pt"
        ),
    ),
    "french": Relation(
        ("Translate to French.", "Say it in French."),
        _pairs(
            "dog chien, cat chat, house maison, water eau, bread pain, milk lait, wine vin, apple pomme, sun soleil, "
            "moon lune, star etoile, sea mer, sky ciel, tree arbre, flower fleur, bird oiseau, fish poisson, horse "
            "cheval, book livre, door porte, window fenetre, chair chaise, bed lit, hand main, head tete, eye oeil, "
            "heart coeur, man homme, woman femme, child enfant, king roi, queen reine, friend ami, day jour, night "
            "nuit, red rouge, blue bleu, green vert, white blanc, black noir, one un, two deux, three trois, yes oui, "
            "no non, bridge pont, street rue, town ville, egg oeuf, cheese fromage, salt sel, fire feu"
        ),
    ),
    "german": Relation(
        ("Translate to German.", "Say it in German."),
        _pairs(
            "dog hund, cat katze, house haus, water wasser, bread brot, milk milch, wine wein, apple apfel, sun "
            "sonne, moon mond, star stern, sea meer, sky himmel, tree baum, flower blume, bird vogel, fish fisch, "
            "horse pferd, book buch, door tuer, window fenster, chair stuhl, bed bett, hand hand, head kopf, eye "
            "auge, heart herz, man mann, woman frau, child kind, king koenig, queen koenigin, friend freund, day tag, "
            "night nacht, red rot, blue blau, green gruen, white weiss, black schwarz, one eins, two zwei, three "
            "drei, yes ja, no nein, bridge bruecke, street strasse, town stadt, egg ei, cheese kaese, salt salz"
        ),
    ),
    "spanish": Relation(
        ("Translate to Spanish.", "Say it in Spanish."),
        _pairs(
            "dog perro, cat gato, house casa, water agua, bread pan, milk leche, wine vino, apple manzana, sun sol, "
            "moon luna, star estrella, sea mar, sky cielo, tree arbol, flower flor, bird pajaro, fish pez, horse "
            "caballo, book libro, door puerta, window ventana, chair silla, bed cama, hand mano, head cabeza, eye "
            "ojo, heart corazon, man hombre, woman mujer, king rey, queen reina, friend amigo, day dia, night noche, "
            "red rojo, blue azul, green verde, white blanco, black negro, one uno, two dos, three tres, yes si, "
            "bridge puente, street calle, town ciudad, egg huevo, cheese queso, salt sal, fire fuego"
        ),
        held_out=True,
    ),
    "young": Relation(
        ("Name the young animal.", "What is its young one called?"),
        _pairs(
            "dog puppy, cat kitten, cow calf, horse foal, sheep lamb, goat kid, pig piglet, hen chick, duck duckling, "
            "goose gosling, lion cub, bear cub, wolf pup, fox kit, deer fawn, swan cygnet, owl owlet, frog tadpole, "
            "kangaroo joey, eagle eaglet, seal pup, whale calf, elephant calf, rabbit kit, tiger cub, hare leveret"
        ),
        held_out=True,
    ),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of things.

    Attributes:
        members: Each belongs to this kind alone.
        held_out: Its members are never told apart by examples alone in training.
    """

    members: tuple[str, ...]
    held_out: bool = False


def _kind(text: str, held_out: bool = False) -> Kind:
    return Kind(tuple(text.split()), held_out)


KIND_INSTRUCTIONS = ("What kind of thing is it?", "Name the category.")
KINDS: dict[str, Kind] = {
    "animal": _kind(
        "dog cat cow horse sheep goat pig lion tiger bear wolf fox deer rabbit mouse rat monkey camel zebra elephant "
        "giraffe whale seal frog snake"
    ),
    "fruit": _kind("apple pear plum grape lemon lime banana cherry peach mango melon fig kiwi berry apricot papaya"),
    "color": _kind("red blue green white black brown pink purple yellow grey violet indigo scarlet crimson"),
    "tool": _kind("hammer saw drill axe shovel rake pliers wrench chisel file spade screwdriver ladder"),
    "vehicle": _kind("car bus train truck bike boat ship plane tram van taxi canoe rocket ferry tractor"),
    "body": _kind("hand foot head eye ear nose mouth arm leg knee neck heart lung chest finger toe"),
    "clothes": _kind("shirt coat hat shoe sock dress skirt glove scarf belt boot jacket sweater tie"),
    "drink": _kind("water milk wine beer tea coffee juice cider soda rum gin cocoa lemonade"),
    "family": _kind("mother father sister brother uncle aunt cousin son daughter niece nephew grandma grandpa"),
    "room": _kind("kitchen bedroom bathroom cellar attic hall garage office library pantry studio lobby"),
    "music": _kind("piano violin guitar flute drum trumpet harp cello organ oboe banjo tuba clarinet"),
    "metal": _kind("iron gold silver copper tin lead zinc nickel steel bronze brass chrome", held_out=True),
    "weather": _kind("rain snow wind storm fog hail cloud thunder frost breeze mist sleet", held_out=True),
    "job": _kind(
        "doctor nurse teacher baker farmer pilot judge lawyer tailor miner chef painter sailor clerk", held_out=True
    ),
}

VOCABULARY: tuple[str, ...] = tuple(
    sorted(
        {member for kind in KINDS.values() for member in kind.members}
        | {question for relation in RELATIONS.values() for question in relation.pairs}
    )
)
"""Every word that is asked about."""
