"""In-context tasks over the user's own inputs: where forgetting is worst, and where a suite of other tasks is blind.

A model that was tuned on some kind of input tends to answer every input of that kind in the target's way, whatever the
demonstrations show. These tasks ask for something else about the same inputs. Their functions are generic, and none is
used by an anchor in training, so that a good score is kept ability and not practice.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from keepshot import keys
from keepshot.errors import DataError
from keepshot.tasks.anchor_functions import ANCHOR_TRANSFORMATIONS
from keepshot.tasks.example import Example, Task
from keepshot.tasks.read import finite_labels
from keepshot.tasks.text_functions import (
    InputKind,
    TextFunction,
    Value,
    family,
    guessable,
    if_characters,
    if_numbers,
    if_words,
    input_kind,
    on_characters,
    on_numbers,
    on_words,
    same,
)
from keepshot.tasks.universe import VOWELS, word

FEWEST_INPUTS = 40  # one demonstration set of 16 and two dozen queries
_MOST_INPUTS = 400
_TRANSFORMATIONS = 4
_PREDICATES = 2


def own_input_tasks(examples: Sequence[Example], seed: int) -> tuple[Task, ...]:
    """Six in-context tasks made of the inputs of `examples`: four transformations and two predicates.

    Inputs of one word are asked about characters, inputs of several words about words, digits about numbers. A function
    that says little about these inputs makes way for the next of a fixed list: one whose commonest answer has a share
    above .85, or that mostly agrees with another task or with a function that anchors use. Where the list runs out
    there are fewer tasks. Where the answers of a transformation are few, they are its labels. Predicates are answered
    with two label words that mean nothing and are no answer of the target.

    Args:
        examples: Examples of the target; only their inputs are used, at most 400 of them by a keyed choice.
        seed: Keys the choice of inputs and the label words.

    Returns:
        Tasks of the group `own-input`, each over the same inputs.

    Raises:
        DataError: There are fewer than 40 different inputs.

    Example:
        >>> examples = [Example(f"{a}{b}rin", "x") for a in "bdfgklmpae" for b in "aeiou"]
        >>> [task.name for task in own_input_tasks(examples, seed=0)][:4]
        ['own/drop-first', 'own/second', 'own/swap-ends', 'own/vowels']
    """
    inputs = _distinct_inputs(examples, seed)
    kind = input_kind(inputs)
    answers = {answer.casefold() for example in examples for answer in (*example.answers, *example.options)}
    reserved = ANCHOR_TRANSFORMATIONS[kind]
    transformations = _informative(OWN_TRANSFORMATIONS[kind], inputs, _TRANSFORMATIONS, reserved)
    predicates = _informative(OWN_PREDICATES[kind], inputs, _PREDICATES, ())
    return (
        *(_transformation_task(function, inputs, kind) for function in transformations),
        *(
            _predicate_task(function, inputs, kind, _label_words(answers, seed, function.name))
            for function in predicates
        ),
    )


def _distinct_inputs(examples: Sequence[Example], seed: int) -> tuple[str, ...]:
    inputs = [text for text in dict.fromkeys(example.input for example in examples) if text.strip()]
    if len(inputs) < FEWEST_INPUTS:
        raise DataError(
            f"{len(inputs)} different inputs are too few for tasks over the target's own inputs, which need at least "
            f"{FEWEST_INPUTS}: add test examples"
        )
    order = keys.permutation(len(inputs), seed, "own-input", "inputs")
    return tuple(inputs[place] for place in order[:_MOST_INPUTS])


def _informative(
    candidates: Iterable[TextFunction[Value]],
    inputs: Sequence[str],
    count: int,
    reserved: Iterable[TextFunction[Value]],
) -> list[TextFunction[Value]]:
    """The first `count` candidates that tell the inputs apart, each in a way of its own."""
    taken = [[function.apply(text) for text in inputs] for function in reserved]
    chosen: list[TextFunction[Value]] = []
    for candidate in candidates:
        values = [candidate.apply(text) for text in inputs]
        if guessable(values) or any(same(values, others) for others in taken):
            continue
        chosen.append(candidate)
        taken.append(values)
        if len(chosen) == count:
            break
    return chosen


def _transformation_task(function: TextFunction[str], inputs: Sequence[str], kind: InputKind) -> Task:
    examples = tuple(Example(text, function.apply(text)) for text in inputs)
    labels = finite_labels(Counter(example.output for example in examples))
    asked = family(kind, "transformation")
    return Task(f"own/{function.name}", examples, labels=labels, group="own-input", family=asked)


def _predicate_task(
    function: TextFunction[bool], inputs: Sequence[str], kind: InputKind, labels: tuple[str, str]
) -> Task:
    yes, no = labels
    examples = tuple(Example(text, yes if function.apply(text) else no) for text in inputs)
    return Task(f"own/{function.name}", examples, labels=labels, group="own-input", family=family(kind, "predicate"))


def _label_words(answers: set[str], seed: int, name: str) -> tuple[str, str]:
    """Two words that are no answers of the target and differ from the first letter on."""
    random = keys.generator(seed, "own-input", "labels", name)
    words: list[str] = []
    while len(words) < 2:
        drawn = word(random, 3, 4)
        if drawn not in answers and all(drawn[0] != other[0] for other in words):
            words.append(drawn)
    return words[0], words[1]


def _swap_ends(text: str) -> str:
    return text[-1] + text[1:-1] + text[0] if len(text) > 1 else text


def _vowels(text: str) -> str:
    return "".join(letter for letter in text if letter.casefold() in VOWELS)


def _initials(words: list[str]) -> str:
    return "".join(word[0] for word in words[:3])


# In the order of preference. Anchors' transformations come first: what says the same as one of them makes way.
OWN_TRANSFORMATIONS: Mapping[InputKind, tuple[TextFunction[str], ...]] = {
    "characters": (
        on_characters("drop-first", lambda text: text[1:]),
        on_characters("second", lambda text: text[1:2]),
        on_characters("swap-ends", _swap_ends),
        on_characters("vowels", _vowels),
        on_characters("drop-last", lambda text: text[:-1]),
        on_characters("rotate", lambda text: text[1:] + text[0]),
        on_characters("double-first", lambda text: text[0] + text),
        on_characters("middle", lambda text: text[len(text) // 2]),
    ),
    "words": (
        on_words("second-word", lambda words: words[min(1, len(words) - 1)]),
        on_words("last-then-first-word", lambda words: f"{words[-1]} {words[0]}"),
        on_words("longest-word", lambda words: max(words, key=len)),
        on_words("second-last-word", lambda words: words[max(len(words) - 2, 0)]),
        on_words("third-word", lambda words: words[min(2, len(words) - 1)]),
        on_words("initials", _initials),
        on_words("shortest-word", lambda words: min(words, key=len)),
        on_words("cut-first-word", lambda words: words[0][1:] or words[0]),
        on_words("cut-last-word", lambda words: words[-1][1:] or words[-1]),
    ),
    "digits": (
        on_characters("drop-first", lambda text: text[1:]),
        on_characters("second", lambda text: text[1:2]),
        on_characters("swap-ends", _swap_ends),
        on_characters("largest-digit", max),
        on_characters("drop-last", lambda text: text[:-1]),
        on_characters("digits-in-order", lambda text: "".join(sorted(text))),
        on_characters("rotate", lambda text: text[1:] + text[0]),
        on_numbers("plus-3", lambda numbers: numbers[0] + 3),
        on_numbers("doubled", lambda numbers: numbers[0] * 2),
        on_numbers("plus-10", lambda numbers: numbers[0] + 10),
        on_numbers("tripled", lambda numbers: numbers[0] * 3),
    ),
    "numbers": (
        on_numbers("largest", max),
        on_numbers("smallest", min),
        on_numbers("difference-of-ends", lambda numbers: abs(numbers[0] - numbers[-1])),
        on_numbers("sum-of-ends", lambda numbers: numbers[0] + numbers[-1]),
        on_words("last-then-first", lambda words: f"{words[-1]} {words[0]}"),
        on_words("second", lambda words: words[min(1, len(words) - 1)]),
        on_words("second-last", lambda words: words[max(len(words) - 2, 0)]),
    ),
}

# In the order of preference. Anchors' predicates make way for these.
OWN_PREDICATES: Mapping[InputKind, tuple[TextFunction[bool], ...]] = {
    "characters": (
        if_characters("starts-with-vowel", lambda text: text[0] in VOWELS),
        if_characters("first-before-last", lambda text: text[0] < text[-1]),
        if_characters("ends-with-vowel", lambda text: text[-1] in VOWELS),
        if_characters("second-is-vowel", lambda text: text[1:2] in tuple(VOWELS)),
        if_characters("first-before-second", lambda text: text[:1] < text[1:2]),
        if_characters("middle-before-last", lambda text: text[len(text) // 2] < text[-1]),
        if_characters("second-before-last", lambda text: text[1:2] < text[-1]),
    ),
    "words": (
        if_words("first-word-shorter-than-last", lambda words: len(words[0]) < len(words[-1])),
        if_words("starts-with-vowel", lambda words: words[0][0] in VOWELS),
        if_words("first-word-before-last", lambda words: words[0] < words[-1]),
        if_words("last-word-starts-with-vowel", lambda words: words[-1][0] in VOWELS),
        if_words("second-word-shorter-than-first", lambda words: len(words[min(1, len(words) - 1)]) < len(words[0])),
        if_words("second-word-starts-with-vowel", lambda words: words[min(1, len(words) - 1)][0] in VOWELS),
        if_words("some-word-twice", lambda words: len(set(words)) < len(words)),
    ),
    "digits": (
        if_characters("first-digit-below-last", lambda text: text[0] < text[-1]),
        if_characters("second-digit-even", lambda text: text[1:2] in tuple("02468")),
        if_characters("first-digit-even", lambda text: text[0] in "02468"),
        if_characters("first-digit-below-second", lambda text: text[:1] < text[1:2]),
        if_characters("last-digit-even", lambda text: text[-1] in "02468"),
        if_characters("same-ends", lambda text: text[0] == text[-1]),
    ),
    "numbers": (
        if_numbers("first-below-last", lambda numbers: numbers[0] < numbers[-1]),
        if_numbers("first-even", lambda numbers: numbers[0] % 2 == 0),
        if_numbers("last-even", lambda numbers: numbers[-1] % 2 == 0),
        if_numbers("second-below-first", lambda numbers: numbers[min(1, len(numbers) - 1)] < numbers[0]),
        if_numbers("largest-first", lambda numbers: numbers[0] == max(numbers)),
        if_numbers("some-number-twice", lambda numbers: len(set(numbers)) < len(numbers)),
    ),
}
