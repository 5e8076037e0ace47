"""Models whose habits are known get the scores that they must: knows, copies, or does each in its place."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from keepshot.episodes import Bm25, Neighbours
from keepshot.errors import DataError
from keepshot.keys import generator
from keepshot.probes import Pool, Scores, probe, questions
from keepshot.probes.context_use import interval, overlap
from keepshot.tasks.example import Example

Shown = Sequence[tuple[Example, ...]]


def toy() -> list[Example]:
    """Sequences of eight words in capitals; each of the second half is one of the first with a word changed."""
    random = generator("test", "probes")
    words = [f"w{i}" for i in range(60)]
    first = [random.choices(words, k=8) for _ in range(200)]
    second = [[*text[:3], random.choice(words), *text[4:]] for text in first]
    return [Example(" ".join(text), " ".join(text).upper()) for text in (*first, *second)]


POOL = toy()
QUERIES = POOL[:100]
SAID = {
    number: (replace(one, input=f"{one.input} please", output=f"{one.output} PLEASE"),)
    for number, one in enumerate(QUERIES)
}


def knows(example: Example) -> str:
    return example.input.upper()


def weights_only(prompts: Shown) -> list[str]:
    return [knows(prompt[-1]) for prompt in prompts]


def blind_copy(prompts: Shown) -> list[str]:
    return [prompt[0].output if len(prompt) > 1 else knows(prompt[-1]) for prompt in prompts]


def mixture(prompts: Shown) -> list[str]:
    """The label of a demonstration that is really close, else what it knows."""
    answers = []
    for *shown, query in prompts:
        best = max(shown, key=lambda one: overlap(one.input, query.input), default=None)
        close = best is not None and overlap(best.input, query.input) > 0.75
        answers.append(best.output if best is not None and close else knows(query))
    return answers


def compare(text: str, answers: Sequence[str]) -> float:
    return overlap(text, answers[0])


def scored(model: object, labels: tuple[str, ...] = ()) -> Scores:
    near = Neighbours(POOL, Bm25([one.input for one in POOL], "words"))
    found, _ = probe(questions(Pool(near, labels, SAID, seed=11), QUERIES), model, compare)  # type: ignore[arg-type]
    return found


def test_one_that_only_knows() -> None:
    found = scored(weights_only)
    right = (found.iwl, found.zero_shot, found.similar)
    assert [score.value for score in right] == [1, 1, 1]
    assert [score.value for score in (found.icl, found.copy, found.leak)] == [0, 0, 0]
    assert {step.correct.value for step in (*found.grades, *found.bins)} == {1}


def test_one_that_copies_whatever_stands_first() -> None:
    found = scored(blind_copy)
    assert found.zero_shot.value == 1
    assert found.iwl.value == pytest.approx(0.10, abs=0.05)
    assert found.similar.value == pytest.approx(0.26, abs=0.12)
    assert found.icl.value == pytest.approx(0.20, abs=0.12)
    assert found.copy.value == pytest.approx(0.79, abs=0.05)
    assert found.leak.value == pytest.approx(1, abs=0.02)


def test_one_that_does_each_in_its_place() -> None:
    found = scored(mixture)
    assert found.zero_shot.value == 1
    assert found.iwl.value >= 0.98
    assert found.similar.value == pytest.approx(0.94, abs=0.03)
    assert found.icl.value == pytest.approx(0.98, abs=0.04)
    assert found.copy.value <= 0.02
    assert found.leak.value == pytest.approx(0, abs=0.05)


def test_the_sweep_goes_from_far_to_near() -> None:
    found = scored(mixture)
    similarity = {step.name: step.similarity for step in found.grades}
    assert list(similarity)[:2] == ["none", "random"]
    assert similarity["none"] == 0
    rising = ["percentile 25", "percentile 50", "percentile 75", "nearest", "similar"]
    assert [similarity[name] for name in rising] == sorted(similarity[name] for name in rising)
    assert similarity["all nearest"] == similarity["nearest"]
    bins = [step.similarity for step in found.bins]
    assert len(bins) == 8
    assert bins == sorted(bins)
    assert {step.correct.n for step in found.grades} == {100}


def test_questions_differ_in_one_thing() -> None:
    near = Neighbours(POOL, Bm25([one.input for one in POOL], "words"))
    for number in range(0, 100, 7):
        by_context = {
            question.context: question
            for question in questions(Pool(near, (), SAID, seed=3), QUERIES)
            if question.query == number
        }
        for first, second in (("similar", "counterfactual"), ("random", "leak")):
            one, other = by_context[first], by_context[second]
            changed = [place for place in range(6) if one.examples[place] != other.examples[place]]
            assert len(changed) == 1
            before, after = one.examples[changed[0]], other.examples[changed[0]]
            assert after.input == before.input
            assert after.output == f"{before.output} {one.marker}"
            assert one.marker == other.marker
            assert one.marker not in QUERIES[number].output
        for question in by_context.values():
            assert question.examples[-1] == QUERIES[number]
            assert QUERIES[number].input not in [shown.input for shown in question.examples[:-1]]


def test_an_edited_label_is_another_label() -> None:
    labels = ("red", "green", "blue", "grey")
    random = generator("test", "labels")
    pool = [replace(one, output=random.choice(labels)) for one in POOL]
    near = Neighbours(pool, Bm25([one.input for one in pool], "words"))
    found = questions(Pool(near, labels, None, seed=1), pool[:40])
    for question in found:
        if question.context in ("counterfactual", "leak"):
            assert question.whole
            assert question.marker in labels
            assert question.marker != question.examples[-1].output
            assert question.marker in [shown.output for shown in question.examples[:-1]]
    copying, _ = probe(found, blind_copy, lambda text, answers: float(text in answers))
    assert copying.leak.value > 0.8


def test_of_two_labels_the_edit_is_a_word_that_is_none():
    random = generator("test", "two labels")
    pool = [replace(one, output=random.choice(("red", "green"))) for one in POOL]
    near = Neighbours(pool, Bm25([one.input for one in pool], "words"))
    found = questions(Pool(near, ("green", "red"), None, seed=1), pool[:40])
    edited = [one for one in found if one.context in ("counterfactual", "leak")]
    assert len(edited) == 80
    for question in edited:
        assert question.marker in [shown.output for shown in question.examples[:-1]]
        assert question.marker not in question.examples[-1].answers
    assert any(one.marker not in ("red", "green") for one in edited)
    copying, _ = probe(found, blind_copy, lambda text, answers: float(text in answers))
    assert copying.leak.value > 0.8


def test_intervals() -> None:
    assert interval([1.0, 1.0]) == interval([1.0, 1.0])
    assert (interval([1.0]).low, interval([1.0]).high) == (0, 1), "one query says nothing"
    assert (interval([1.0] * 60).low, interval([0.0] * 60).high) == (0.95, 0.05)
    assert (interval([0.0] * 60, (-1.0, 1.0)).low, interval([0.0] * 60, (-1.0, 1.0)).high) == (-0.05, 0.05)
    found = interval([0.0, 1.0] * 50)
    assert found.low < 0.5 < found.high
    assert found.high - found.low == pytest.approx(0.2, abs=0.03)


def test_too_little_to_ask() -> None:
    near = Neighbours(POOL, Bm25([one.input for one in POOL], "words"))
    with pytest.raises(DataError, match="no queries"):
        questions(Pool(near), [])
    with pytest.raises(DataError, match="lower the number of shots"):
        questions(Pool(near, shots=400), QUERIES)
    with pytest.raises(DataError, match="no questions"):
        probe([], weights_only, compare)
