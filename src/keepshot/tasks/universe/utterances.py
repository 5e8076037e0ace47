"""Tasks about utterances as people make them: which intent it has, or what it names."""

import re
from dataclasses import dataclass
from random import Random

from keepshot.tasks.universe.facts import KINDS, RELATIONS
from keepshot.tasks.universe.task import SyntheticTask
from keepshot.tasks.universe.words import labels


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SLOTS: dict[str, tuple[str, ...]] = {
    "city": tuple(RELATIONS["capital"].pairs.values()),
    "day": ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "today", "tomorrow"),
    "time": (*(f"{hour} {half}" for hour in range(1, 13) for half in ("am", "pm")), "noon", "midnight"),
    "name": _words("anna ben carla david emma frank gina hugo irene jack kate leo maria nina oscar paula rosa tom"),
    "food": _words("pizza soup salad bread cheese rice pasta fish eggs cake curry noodles tacos sushi"),
    "thing": (*KINDS["clothes"].members, *KINDS["tool"].members),
    "number": tuple(map(str, range(2, 100))),
}


@dataclass(frozen=True, slots=True)
class Intent:
    """What somebody wants, and ways to say it; `{city}` and the like are filled in."""

    templates: tuple[str, ...]
    held_out: bool = False


def _intent(text: str, held_out: bool = False) -> Intent:
    return Intent(tuple(part.strip() for part in text.split("/")), held_out)


INTENT_INSTRUCTIONS = ("What does the user want?", "Name the intent.")
INTENTS: dict[str, Intent] = {
    "set alarm": _intent(
        "wake me up at {time} / set an alarm for {time} / i need an alarm on {day} at {time} / "
        "alarm at {time} please / make sure i am up by {time}"
    ),
    "weather": _intent(
        "what is the weather in {city} / will it rain in {city} on {day} / how hot is it in {city} / "
        "do i need an umbrella in {city} {day} / weather for {day}"
    ),
    "book flight": _intent(
        "book a flight to {city} / i want to fly to {city} on {day} / find me a plane to {city} / "
        "get {number} plane tickets to {city} / fly me from {city} to {city}"
    ),
    "order food": _intent(
        "order {food} for {number} people / i would like some {food} / can you get me {food} for {day} / "
        "have {food} delivered at {time} / i am hungry send {food}"
    ),
    "call": _intent(
        "call {name} / ring {name} at {time} / get {name} on the phone / dial {name} for me / i want to talk to {name}"
    ),
    "send message": _intent(
        "text {name} that i am late / send a message to {name} / tell {name} i will come on {day} / "
        "write to {name} about the {thing} / let {name} know i am here"
    ),
    "timer": _intent(
        "set a timer for {number} minutes / start a {number} minute timer / count down {number} seconds / "
        "time {number} minutes for me / tell me when {number} minutes are over"
    ),
    "balance": _intent(
        "how much money do i have / what is my balance / check my account / is there {number} in my account / "
        "how much is left on my card"
    ),
    "transfer": _intent(
        "send {number} dollars to {name} / transfer {number} to {name} / pay {name} {number} / "
        "move {number} to savings / wire {name} {number} dollars on {day}"
    ),
    "reminder": _intent(
        "remind me to buy {food} / do not let me forget the {thing} / remind me at {time} / "
        "put a reminder on {day} for {name} / i must not forget to see {name}"
    ),
    "meeting": _intent(
        "schedule a meeting with {name} / am i free on {day} at {time} / put lunch with {name} on my calendar / "
        "set up a meeting at {time} / plan a session with {name} on {day}"
    ),
    "directions": _intent(
        "how do i get to {city} / which way to {city} / show me the road to {city} / how far is {city} from here / "
        "guide me from {city} to {city}"
    ),
    "shopping list": _intent(
        "add {food} to my list / put {number} {food} on the shopping list / i need to buy a {thing} / "
        "is {food} on my list / take {food} off the list"
    ),
    "joke": _intent(
        "tell me a joke / make me laugh / say something funny / do you know a joke about {food} / i want to hear a joke"
    ),
    "time": _intent(
        "what time is it / what time is it in {city} / tell me the time / how late is it now / is it {time} yet"
    ),
    "lights": _intent(
        "turn on the lights / switch the lights off / lights off at {time} / make it brighter / dim the lights a little"
    ),
    "hotel": _intent(
        "book a room in {city} / find a hotel in {city} / i need a place to sleep in {city} on {day} / "
        "reserve a room for {number} nights / is there a cheap hotel in {city}",
        held_out=True,
    ),
    "recipe": _intent(
        "how do i make {food} / give me a recipe for {food} / how long must {food} cook / what goes into {food} / "
        "teach me to cook {food}",
        held_out=True,
    ),
    "taxi": _intent(
        "get me a taxi / i need a cab at {time} / a ride to {city} please / order a car for {name} / "
        "pick me up at {time} on {day}",
        held_out=True,
    ),
    "volume": _intent(
        "turn it up / make it louder / set the volume to {number} / it is too loud / lower the sound",
        held_out=True,
    ),
    "lost card": _intent(
        "i lost my card / my card was stolen in {city} / block my card / i cannot find my bank card / "
        "somebody took my card on {day}",
        held_out=True,
    ),
}
HELD_OUT_SLOTS = frozenset({"day"})

_SLOT = re.compile(r"\{(\w+)\}")


def utterances(random: Random, heldout: bool = False) -> SyntheticTask:
    """Utterances of 2 to 5 intents get the name of the intent, or a label each; or what they name is picked out."""
    if random.random() < 0.25:
        return _slot_task(random, heldout)
    names = [name for name, intent in INTENTS.items() if intent.held_out is heldout]
    chosen = random.sample(names, random.randint(2, min(5, len(names))))
    told = {name: name for name in chosen}
    if heldout or random.random() < 0.6:
        told = dict(zip(chosen, labels(random, len(chosen)), strict=True))
    return intent_task("/".join(chosen), told)


def instructed(random: Random) -> SyntheticTask:
    """Utterances of all intents are answered with the name of the intent, as an instruction says."""
    return intent_task("intent", {name: name for name in INTENTS}, random.choice(INTENT_INSTRUCTIONS))


def intent_task(name: str, told: dict[str, str], instruction: str = "") -> SyntheticTask:
    """Utterances with the intents that are the keys of `told`, answered with its values."""
    intents = tuple(told)

    def draw(random: Random) -> str:
        return _filled(random, random.choice(INTENTS[random.choice(intents)].templates))

    return SyntheticTask("utterances", name, draw, lambda text: told[intent_of(text)], instruction)


def _slot_task(random: Random, heldout: bool) -> SyntheticTask:
    slot = random.choice(sorted(HELD_OUT_SLOTS) if heldout else [name for name in SLOTS if name not in HELD_OUT_SLOTS])
    templates = [
        template
        for intent in INTENTS.values()
        for template in intent.templates
        if _SLOT.findall(template).count(slot) == 1
    ]
    chosen = random.sample(templates, min(len(templates), random.randint(3, 8)))

    def draw(random: Random) -> str:
        return _filled(random, random.choice(chosen))

    return SyntheticTask("utterances", f"slot {slot}", draw, lambda text: _named(text, slot))


def intent_of(text: str) -> str:
    """The intent of an utterance that a template makes.

    Raises:
        LookupError: No template makes it.

    Example:
        >>> intent_of("wake me up at 7 am")
        'set alarm'
    """
    return _read(text)[0]


def _named(text: str, slot: str) -> str:
    return _read(text)[1][slot]


def _filled(random: Random, template: str) -> str:
    return _SLOT.sub(lambda match: random.choice(SLOTS[match[1]]), template)


def _pattern(template: str) -> re.Pattern[str]:
    seen: set[str] = set()

    def group(match: re.Match[str]) -> str:
        slot = match[1]
        values = "|".join(map(re.escape, SLOTS[slot]))
        if slot in seen:
            return f"(?:{values})"
        seen.add(slot)
        return f"(?P<{slot}>{values})"

    return re.compile(_SLOT.sub(group, template))


_PATTERNS = tuple((name, _pattern(template)) for name, intent in INTENTS.items() for template in intent.templates)


def _read(text: str) -> tuple[str, dict[str, str]]:
    """The intent of an utterance, and what fills its slots (the first of two alike)."""
    for name, pattern in _PATTERNS:
        if match := pattern.fullmatch(text):
            return name, match.groupdict()
    raise LookupError(f"no template makes {text!r}")
