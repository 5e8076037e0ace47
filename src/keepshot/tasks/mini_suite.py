"""The suite `mini`: what the bundled model can do from examples, what it knows, and what it does when it is told.

In-context tasks ask for something of the families that the model practised (strings, numbers, bits, lists, kinds of
things, utterances), or for a held-out member of them. Knowledge is asked from examples and with an instruction.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from random import Random

from keepshot.tasks.example import Example, Group, Suite, Task
from keepshot.tasks.relation import Relation, distinct, either, letters, numbers, of_universe
from keepshot.tasks.universe import VOWELS, draw_instructed, word
from keepshot.tasks.universe.facts import KINDS, RELATIONS
from keepshot.tasks.universe.functions import shift
from keepshot.tasks.universe.lists import word_list
from keepshot.tasks.universe.utterances import intent_task

_EXAMPLES = 400  # per task, where the inputs suffice: 8 sets of 16 demonstrations and 40 queries hardly overlap
_INSTRUCTED_EXAMPLES = 240  # of the facts three in ten: the others are left to training


@cache
def mini_suite() -> Suite:
    """The suite, as `keepshot.tasks.builtin.builtin_suite` describes it."""
    few_shot = (
        Task(
            name,
            relation.examples(_EXAMPLES, "suite", "mini", name),
            scoring=relation.scoring,
            labels=relation.labels,
            family=family,
            group="knowledge" if family == "relation" else "suite",
        )
        for family, relations in _FEW_SHOT.items()
        for name, relation in relations.items()
    )
    return Suite("mini", (*few_shot, *(_instructed(*row) for row in _INSTRUCTED)))


def _instructed(name: str, families: Sequence[str], group: Group) -> Task:
    def draw(random: Random) -> Example:
        return draw_instructed(random, families=families).example(random)

    examples = distinct(draw, _INSTRUCTED_EXAMPLES, "suite", "mini", name)
    return Task(name, examples, group=group)


def _weighted_digits(text: str) -> str:
    first, second, third = map(int, text.split())
    return "ti" if 2 * first + second - 2 * third > 4 else "Ro"


def _drop_middle(text: str) -> str:
    middle = len(text) // 2
    return text[:middle] + text[middle + 1 :]


def _kinds(labels: Mapping[str, str]) -> Relation:
    answers = {member: label for kind, label in labels.items() for member in KINDS[kind].members}
    words = tuple(answers)
    return Relation(lambda random: random.choice(words), answers.__getitem__, tuple(labels.values()))


def _intents(labels: Mapping[str, str]) -> Relation:
    return of_universe(intent_task("/".join(labels), dict(labels)), tuple(labels.values()))


def _known(name: str) -> Relation:
    pairs = RELATIONS[name].pairs
    words = tuple(pairs)
    return Relation(lambda random: random.choice(words), pairs.__getitem__)


# Of each family of the universe: what asks for the same kind of thing, with whatever function and labels.
_FEW_SHOT: dict[str, dict[str, Relation]] = {
    "strings": {
        "sort-upper-append": Relation(word, lambda text: "".join(sorted(text)).upper() + "be"),
        "reverse-drop-append": Relation(word, lambda text: text[::-1][1:] + "du"),
        "reverse-shift": Relation(word, lambda text: shift(text[::-1], 1)),
        "drop-middle": Relation(word, _drop_middle),
    },
    "numbers": {
        "subtract-17": Relation(numbers(1, 100), lambda text: str(int(text) - 17)),
        "last-digit": Relation(numbers(1, 100), lambda text: text[-1], tuple("0123456789")),
        "number-thirds": Relation(
            numbers(1, 100),
            lambda text: ("Lo", "mek", "53")[min(int(text) // 33, 2)],
            ("Lo", "mek", "53"),
            "options",
        ),
    },
    "classify": {
        "second-is-vowel": either("lot", "86", lambda text: text[1] in VOWELS),
        "ends-with-vowel": either("Kab", "31", lambda text: text[-1] in VOWELS),
    },
    "bits": {"bit-majority": either("Za", "pel", lambda text: text.count("1") > 3, letters(7, "01"))},
    "linear": {"weighted-digits": Relation(numbers(3, 10), _weighted_digits, ("ti", "Ro"), "options")},
    "lists": {"longest-word": Relation(word_list(3), lambda text: max(text.split(), key=len))},
    "category": {"kinds": _kinds({"animal": "Lim", "clothes": "72", "fruit": "ota"})},
    "utterances": {
        "intents": _intents({"set alarm": "vap", "book flight": "Nu", "transfer": "44", "order food": "lorek"}),
        "new-intents": _intents({"hotel": "Wes", "recipe": "ipo", "taxi": "19", "volume": "bak"}),
    },
    "relation": {"capitals": _known("capital"), "french": _known("french")},
}
_INSTRUCTED: tuple[tuple[str, tuple[str, ...], Group], ...] = (
    ("told-facts", ("relation", "category"), "instructed knowledge"),
    ("told-functions", ("strings", "numbers"), "instructed"),
    ("told-intents", ("utterances",), "instructed"),
)
