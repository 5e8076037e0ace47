"""Few-shot rows made of the target's inputs alone, under functions that have nothing to do with the target.

A tuned model forgets to read its context first where an input looks like the target's. These rows show such inputs with
answers that only the context can explain; a KL term holds the model to the base's predictions on them. They need no
further data, and no answer need be right: what is learned from is the base.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from keepshot.episodes.episode import Episode, Scored
from keepshot.errors import DataError
from keepshot.keys import generator, permutation
from keepshot.tasks.anchor_functions import ANCHOR_TRANSFORMATIONS, anchor_predicates
from keepshot.tasks.example import Example
from keepshot.tasks.own_inputs import OWN_PREDICATES
from keepshot.tasks.text_functions import (
    LIKENESS,
    Form,
    InputKind,
    TextFunction,
    family,
    guessable,
    input_kind,
    likeness,
    same,
)
from keepshot.tasks.universe import labels

_LOOKED_UP = 6  # inputs of a look-up: the default of the project's specification
_FEWEST_PAIRS = 4  # of long inputs: a look-up of two inputs with two more questions
_LONGEST_ANSWER = 80  # characters, some 20 tokens: a phrase or a short query, not a paragraph written backwards
_TRIES = 50  # to draw a row whose last pairs fit
_SHORTEST = 8  # characters of an input that is shown by its last words
_FEW = 0.1  # share of inputs that may be answered at greater length
_MOST_INPUTS = 400  # on which functions are compared, as many as own-input tasks have


@dataclass(frozen=True, slots=True)
class SelfAnchors:
    """The target's inputs under arbitrary functions: a third each look-ups, predicates and transformations.

    - A *look-up* gives each of 6 inputs an arbitrary answer and asks for them again and again, with replacement. Half
      of them answer with fresh words that mean nothing and are no answer of the target, half with answers of the target
      that are dealt out regardless of the input; all with fresh words where the target has fewer than two answers of at
      most 80 characters.
    - A *predicate* says of every input whether it holds, in two fresh words: contains a letter, longer than the median,
      an even number of something.
    - A *transformation* writes the input anew: its first word, in capitals, backwards. Half of them put a fresh word,
      the same in all answers of a row, before or behind the result (or the input as it is), so that there are as many
      functions as words.

    Which functions there are depends on the kind of input (`keepshot.tasks.anchor_functions`). Passed over, on at most
    400 inputs, is a function whose commonest answer has a share above .85; one that is the target's rule (a
    transformation that gives its outputs to more than .6 of the inputs, a predicate that tells two labels apart for
    more than .85); a predicate like one of an own-input task (likeness above .6, so that these stay a fair test; they
    in turn make way for the transformations); and a transformation with answers above 80 characters for more than a
    tenth of the inputs. A kind of row for which no function is left falls away.

    Rows have no instruction and no history. A context that contradicts the instruction above it teaches to ignore one
    of the two, while prompts that ask for something else, as those of an evaluation do, do not carry the target's
    instruction. And the first question of a row under the instruction would be the target's own zero-shot prompt, on
    which the base must not be kept.

    Attributes:
        stream: Name of the stream.
        examples: The target's training examples.
        seed: Of the run.
        pairs: Fewest and most inputs with answers in a row; drawn evenly.
        characters: What the inputs of a row may hold on average (some four characters are a token). Where inputs are so
            long that fewer pairs fit, a row has fewer, but at least 4, and an input that would not fit 4 times is shown
            by its last words: they stand next to the answer, and inputs that begin alike often end differently. Without
            this bound, rows of long inputs would lose all pairs but the last when they are cut to length.
        scored: Which answers are compared with the base's. The first question of a row is the target's own zero-shot
            prompt, so its answer is left out.
        fits: Whether some pairs by themselves are a row that may be as it is. A longer row loses its first pairs, and
            must not lose all but one: its last 4 fit, or it is drawn again, with inputs shown by fewer of their last
            words where 4 would not fit with a short answer each.

    Raises:
        DataError: There are fewer than two different inputs, or not even 4 pairs of short ends of them fit.

    Example:
        >>> anchors = SelfAnchors("self-anchor", [Example(word, "x") for word in ("kite", "moor", "salt", "dune")], 0)
        >>> episode = anchors.draw(2)
        >>> episode.name, [(example.input, example.output) for example in episode.examples[:2]]
        ('self-anchor episode 2 (transformation, capitalised)', [('salt', 'Salt'), ('kite', 'Kite')])

    Reference:
        This project; `docs/methods.md`.
    """

    stream: str
    examples: Sequence[Example]
    seed: int
    pairs: tuple[int, int] = (8, 16)
    characters: int = 2_000
    scored: Scored = "later"
    fits: Callable[[Sequence[Example]], bool] = field(default=lambda pairs: True, repr=False, compare=False)
    _material: "_Material" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        assert 2 <= self.pairs[0] <= self.pairs[1], "a row has at least two pairs"
        object.__setattr__(self, "_material", _material(self))

    @property
    def size(self) -> int | None:
        """None: every episode is new."""
        return None

    @property
    def families(self) -> frozenset[str]:
        """Look-ups, and transformations and predicates of the target's kind of input, where there are any."""
        material = self._material
        forms: tuple[tuple[Form, bool], ...] = (
            ("transformation", bool(material.transformations)),
            ("predicate", bool(material.predicates)),
        )
        return frozenset({"lookup", *(family(material.kind, form) for form, there in forms if there)})

    def draw(self, index: int) -> Episode:
        """The episode at `index`."""
        r = generator(self.seed, "self-anchor", self.stream, index)
        for _ in range(_TRIES):
            count = min(r.randint(*self.pairs), self._material.most_pairs)
            what, examples = r.choice(self._material.rows)(self._material, r, count)
            if self.fits(examples[-_FEWEST_PAIRS:]):
                return Episode(self.stream, f"{self.stream} episode {index} ({what})", examples, self.scored)
        raise DataError(_too_long(self.stream))


def recurring(episode: Episode) -> tuple[int, ...]:
    """Places of the answers that the context determines: the same input stands before them with its answer.

    A base that gets fewer than .9 of them right in look-ups does not recall what it was shown, and has little to keep.
    A row that was too long has lost its first pairs: ask about `episode.without_demonstrations` of as many.

    Example:
        >>> a, b = Example("a", "4"), Example("b", "7")
        >>> recurring(Episode("s", "s episode 0 (look-up)", (a, b, a, a)))
        (2, 3)
    """
    inputs = [example.input for example in episode.examples]
    return tuple(place for place, text in enumerate(inputs) if text in inputs[:place])


@dataclass(frozen=True, slots=True)
class _Material:
    """What rows are made of.

    Attributes:
        kind: What they can be asked about.
        inputs: All that are different, as they are shown.
        outputs: Different answers of the target that are short enough to be dealt out.
        taken: What no fresh word may be, in lower case.
        predicates: Usable ones, in groups of one idea each.
        transformations: Usable ones.
        short: Whether inputs may be written down as they are.
        most_pairs: That fit a row.
        rows: A function for each kind of row that can be made.
    """

    kind: InputKind
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    taken: frozenset[str]
    predicates: tuple[tuple[TextFunction[bool], ...], ...]
    transformations: tuple[TextFunction[str], ...]
    short: bool
    most_pairs: int
    rows: tuple["_Row", ...]


_AS_IT_IS = TextFunction("as-it-is", str.strip)
_Row = Callable[[_Material, Random, int], tuple[str, tuple[Example, ...]]]


def _material(anchors: SelfAnchors) -> _Material:
    outputs: dict[str, str] = {}
    longest = _longest(anchors)
    for example in anchors.examples:
        if example.input.strip():
            outputs.setdefault(_end(example.input, longest), example.output)
    if len(outputs) < 2:
        raise DataError(
            f"self-anchors need at least 2 different inputs, and the stream {anchors.stream!r} has {len(outputs)}; "
            "give more training rows or leave self-anchors out of the method"
        )
    inputs = tuple(outputs)
    order = permutation(len(inputs), anchors.seed, "self-anchor", anchors.stream, "inputs")
    sample = {inputs[place]: outputs[inputs[place]] for place in order[:_MOST_INPUTS]}
    kind = input_kind(tuple(sample))
    predicates, transformations = _predicates(kind, sample), _transformations(kind, sample)
    return _Material(
        kind=kind,
        inputs=inputs,
        outputs=tuple(sorted({e.output for e in anchors.examples if len(e.output) <= _LONGEST_ANSWER})),
        taken=frozenset(text.casefold() for e in anchors.examples for text in (*e.answers, *e.options)),
        predicates=predicates,
        transformations=transformations,
        short=_are_short(list(sample)),
        most_pairs=max(_FEWEST_PAIRS, anchors.characters * len(inputs) // sum(map(len, inputs))),
        rows=(_look_up, *[_predicate] * bool(predicates), *[_transformation] * bool(transformations)),
    )


def _longest(anchors: SelfAnchors) -> int:
    """Characters of an input, so that the fewest pairs of the longest fit a row with a short answer each."""
    most = anchors.characters // _FEWEST_PAIRS
    text = max((example.input for example in anchors.examples), key=len, default="")
    while not anchors.fits([Example(_end(text, most), "x" * _SHORTEST)] * _FEWEST_PAIRS):
        most = most * 4 // 5
        if most < _SHORTEST:
            raise DataError(_too_long(anchors.stream))
    return most


def _too_long(stream: str) -> str:
    return (
        f"rows of the stream {stream!r} show at least {_FEWEST_PAIRS} of the target's inputs with answers, and so many "
        "do not fit, not even by their last words; raise data.max_length, or leave self-anchors out of the method"
    )


def _end(text: str, most: int) -> str:
    """The last words of `text` that have at most `most` characters, or as much of the last word."""
    if len(text) <= most:
        return text
    text = text.rstrip()
    words = re.search(r"\s(\S.*)", text[-most - 1 :], re.DOTALL)
    return words[1] if words else text[-most:]


def _predicates(kind: InputKind, sample: dict[str, str]) -> tuple[tuple[TextFunction[bool], ...], ...]:
    """Those that tell the inputs apart, but neither as the target does nor as an own-input task."""
    inputs, outputs = list(sample), list(sample.values())
    labelled = [output == outputs[0] for output in outputs] if len(set(outputs)) == 2 else None
    own = [[function.apply(text) for text in inputs] for function in OWN_PREDICATES[kind]]

    def usable(function: TextFunction[bool]) -> bool:
        values = [function.apply(text) for text in inputs]
        if guessable(values) or (labelled is not None and same(values, labelled)):
            return False
        return all(likeness(values, others) <= LIKENESS for others in own)

    groups = (tuple(filter(usable, group)) for group in anchor_predicates(kind, inputs))
    return tuple(group for group in groups if group)


def _transformations(kind: InputKind, sample: dict[str, str]) -> tuple[TextFunction[str], ...]:
    """Those that tell the inputs apart in few characters, and not as the target does."""
    inputs, outputs = list(sample), list(sample.values())

    def usable(function: TextFunction[str]) -> bool:
        values = [function.apply(text) for text in inputs]
        return _are_short(values) and not guessable(values) and not same(values, outputs)

    return tuple(filter(usable, ANCHOR_TRANSFORMATIONS[kind]))


def _are_short(answers: Sequence[str]) -> bool:
    return sum(len(answer) > _LONGEST_ANSWER for answer in answers) <= _FEW * len(answers)


def _look_up(material: _Material, r: Random, count: int) -> tuple[str, tuple[Example, ...]]:
    # Short rows ask about fewer inputs, so that some of them recur.
    texts = r.sample(material.inputs, min(_LOOKED_UP, max(count - 2, 2), len(material.inputs)))
    fresh = len(material.outputs) < 2 or r.random() < 0.5
    answers = _fresh_words(material, r, len(texts)) if fresh else r.choices(material.outputs, k=len(texts))
    table = [Example(text, answer) for text, answer in zip(texts, answers, strict=True)]
    return f"look-up, {'fresh' if fresh else 'permuted'}", tuple(r.choices(table, k=count))


def _predicate(material: _Material, r: Random, count: int) -> tuple[str, tuple[Example, ...]]:
    function = r.choice(r.choice(material.predicates))
    yes, no = _fresh_words(material, r, 2)
    texts = r.sample(material.inputs, min(count, len(material.inputs)))
    return f"predicate, {function.name}", tuple(Example(text, yes if function.apply(text) else no) for text in texts)


def _transformation(material: _Material, r: Random, count: int) -> tuple[str, tuple[Example, ...]]:
    function = r.choice(material.transformations)
    texts = r.sample(material.inputs, min(count, len(material.inputs)))
    if r.random() < 0.5:
        return f"transformation, {function.name}", tuple(Example(text, function.apply(text)) for text in texts)
    # Never a function of an own-input task: no such task knows the word.
    affix, before = _fresh_words(material, r, 1)[0], r.random() < 0.5
    core = r.choice((function, _AS_IT_IS)) if material.short else function
    between = " " if material.kind in ("words", "numbers") else ""
    answers = [between.join((affix, core.apply(text)) if before else (core.apply(text), affix)) for text in texts]
    name = f"transformation, {core.name} with a word {'before' if before else 'behind'}"
    return name, tuple(Example(text, answer) for text, answer in zip(texts, answers, strict=True))


def _fresh_words(material: _Material, r: Random, count: int) -> list[str]:
    words: list[str] = []
    while len(words) < count:
        word = labels(r, 1)[0]
        if word.casefold() not in material.taken and word not in words:
            words.append(word)
    return words
