import hashlib
import itertools
import re
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepshot.tasks.universe import SyntheticTask, draw_task, episode, families, functions, labels, word
from keepshot.tasks.universe.batches import batch, batches

# sha256 over token ids and mask of 500 episodes drawn from one generator: what the bundled model was trained on. The
# keys are the generator's seed and whether the tasks are held out.
GOLDEN = {
    (0, False): "26288a3ffe90e9dc229ded1cd72b8a279df0335185f99d50725bcaa5738b8877",
    (1, False): "f76da7ad06762415d2a34749c48584fca404596000f75a2b51485e8e09091541",
    (2, False): "948de68d2a943bf703061b4f18f1b3545a7d1c3949e91c4eb791d6d72cf580fd",
    (3, False): "85a4782831a5be982efb078830b96895041c97e13cf219388cf2c10c08d342df",
    (0, True): "e1449a85cea987db0ff9a94d30fca136c8a508f29af46ddddf36f612c8e37451",
    (1, True): "c86b583fff518deba8e3e0eeccc6cb561050ffc173505d5d80fb3df53fb9db37",
    (2, True): "343cd1204a0eec89a81de6decbf93dfd73bc45e0003555869d9fa275224771c6",
    (3, True): "a4e9c2798e909be653c50a3270dee238ac1e0155b0e0ddea1e52963ed923898c",
}


@pytest.mark.parametrize(("seed", "heldout"), GOLDEN)
def test_episodes_are_those_that_the_bundled_model_was_trained_on(seed: int, heldout: bool) -> None:
    generator, digest = Random(seed), hashlib.sha256()
    for _ in range(500):
        ids, mask = episode(generator, heldout=heldout)
        digest.update(bytes(ids))
        digest.update(bytes(mask))
    assert digest.hexdigest() == GOLDEN[seed, heldout]


@given(st.integers(0, 10**6), st.integers(40, 512), st.booleans())
def test_an_episode_fits_and_marks_its_answers(seed: int, max_length: int, heldout: bool) -> None:
    ids, mask = episode(Random(seed), max_length, heldout)
    assert len(ids) == len(mask) <= max_length
    assert ids[0] == 1
    assert mask[0] == 0
    text = bytes(ids[1:]).decode()
    assert re.fullmatch(r"(Q: [^\n]+\nA: [^\n]+\n)+", text)
    answers = bytes(token for token, answer in zip(ids, mask, strict=True) if answer).decode()
    assert answers == "".join(f" {answer}\n" for answer in re.findall(r"A: (.+)\n", text))


def test_an_episode_of_a_given_task_shows_that_task() -> None:
    task = SyntheticTask("strings", "upper", word, str.upper)
    text = bytes(episode(Random(0), 100, task=task)[0][1:]).decode()
    questions, answers = re.findall(r"Q: (.+)\n", text), re.findall(r"A: (.+)\n", text)
    assert len(questions) >= 3
    assert answers == [question.upper() for question in questions]


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(0, 4))
def test_words_alternate_vowels_and_consonants(seed: int, shortest: int, more: int) -> None:
    drawn = word(Random(seed), shortest, shortest + more)
    assert shortest <= len(drawn) <= shortest + more
    kinds = [letter in "aeiou" for letter in drawn]
    assert all(left != right for left, right in itertools.pairwise(kinds))


def test_labels_differ() -> None:
    assert all(len(set(labels(Random(seed), 30))) == 30 for seed in range(20))


# What each row of the tables does, by name; with a generator that draws the first constant of the row.
STRINGS = {
    "reverse": ("lemon", "nomel"),
    "first": ("lemon", "l"),
    "last": ("lemon", "n"),
    "second": ("lemon", "e"),
    "upper": ("lemon", "LEMON"),
    "double-first": ("lemon", "llemon"),
    "drop-first": ("lemon", "emon"),
    "drop-last": ("lemon", "lemo"),
    "swap-ends": ("lemon", "nemol"),
    "rotate": ("lemon", "emonl"),
    "shift(1)": ("zebra", "afcsb"),
    "prepend(a)": ("lemon", "alemon"),
    "append(a)": ("lemon", "lemona"),
    "consonants": ("lemon", "lmn"),
    "sort": ("lemon", "elmno"),
    "vowels": ("lemon", "eo"),
    "mirror": ("lem", "lemmel"),
    "drop-middle": ("lemo", "leo"),
    "capitalise-last": ("lemon", "lemoN"),
}
PREDICATES = {
    "contains(a)": ("banu", "benu"),
    "starts-with-vowel": ("ana", "nan"),
    "ends-with-vowel": ("nana", "nan"),
    "even-length": ("nana", "nan"),
    "at-least-letters(4)": ("nana", "nan"),
    "at-least-vowels(2)": ("nano", "nan"),
    "first-before-last": ("ban", "nab"),
    "first-before(g)": ("fan", "gan"),
    "last-before(g)": ("naf", "nag"),
    "repeated-letter": ("nab", "nan"),
    "second-is-vowel": ("nab", "abe"),
    "middle-before(g)": ("afa", "aga"),
}
NUMBERS = {
    "add(1)": ("7", "8"),
    "subtract(1)": ("0", "-1"),
    "multiply(2)": ("7", "14"),
    "modulo(2)": ("7", "1"),
    "larger": ("7 12", "12"),
    "smaller": ("7 12", "7"),
    "digits-reversed": ("10", "01"),
    "digit-sum": ("79", "16"),
    "first-is-larger": ("7 7", "no"),
    "odd": ("7", "yes"),
    "above(20)": ("21", "yes"),
    "sum": ("7 12", "19"),
    "difference": ("7 12", "5"),
    "last-digit": ("37", "7"),
    "apart-by-over-33": ("50 16", "yes"),
    "sum-over-99": ("50 49", "no"),
}
BITS = {
    "bit": ("010", "100"),
    "and": ("110", "100"),
    "or": ("010", "001"),
    "xor": ("100", "110"),
    "majority": ("110", "100"),
    "parity": ("100", "110"),
    "nand": ("100", "110"),
    "equal-ends": ("101", "100"),
}


class First(Random):
    """A generator whose choices are always the first."""

    def choice(self, seq):
        return seq[0]

    def randint(self, a: int, b: int) -> int:
        return a

    def random(self) -> float:
        return 0.0


def test_string_functions() -> None:
    rows = [draw(First()) for draw in (*functions.STRINGS, *functions.HELD_OUT_STRINGS)]
    assert [row.name for row in rows] == list(STRINGS)
    for row in rows:
        text, answer = STRINGS[row.name]
        assert row.apply(text) == answer, row.name


def test_no_string_function_leaves_nothing() -> None:
    rows = [draw(First()) for draw in functions.STRINGS]
    for first in rows:
        for second in rows:
            for text in ("aia", "bcd", "u", "k"):
                assert second.apply(first.apply(text)), (first.name, second.name)


def test_predicates() -> None:
    rows = [draw(First()) for draw in (*functions.PREDICATES, *functions.HELD_OUT_PREDICATES)]
    assert [row.name for row in rows] == list(PREDICATES)
    for row in rows:
        holds, fails = PREDICATES[row.name]
        if row.name == "repeated-letter":
            holds, fails = fails, holds
        assert (row.apply(holds), row.apply(fails)) == (True, False), row.name


def test_number_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "labels", lambda random, count: ("yes", "no"))
    tasks = [draw(First()) for draw in (*families._NUMBERS, *families._HELD_OUT_NUMBERS)]
    assert [task.name for task in tasks] == list(NUMBERS)
    for task in tasks:
        text, answer = NUMBERS[task.name]
        assert len(task.draw(Random(0)).split()) == len(text.split()), task.name
        assert task.answer(text) == answer, task.name


def test_bit_functions() -> None:
    rows = (*functions.BITS, *functions.HELD_OUT_BITS)
    assert [name for name, _ in rows] == list(BITS)
    for name, apply in rows:
        holds, fails = BITS[name]
        assert (apply(holds, 1 if name == "bit" else 0, 1), apply(fails, 1 if name == "bit" else 0, 1)) == (True, False)


def test_two_string_functions_work_in_turn() -> None:
    random = Random(0)
    task = next(task for task in (families.strings(random) for _ in range(9999)) if task.name == "reverse+drop-last")
    assert task.answer("lemon") == "nome"


def test_a_lookup_returns_to_few_words() -> None:
    task = families.lookup(Random(0))
    random = Random(1)
    keys = {task.draw(random) for _ in range(100)}
    assert 2 <= len(keys) <= 8
    assert all(task.answer(key) for key in keys)
    with pytest.raises(KeyError):
        task.answer("notakey")


def test_linear_tasks_weigh_the_digits() -> None:
    random = Random(0)
    task = next(task for task in (families.linear(random) for _ in range(999)) if task.name == "linear(2,-1)")
    above = task.answer("9 0")
    assert task.answer("3 1") == above  # 5 > 4.5
    assert task.answer("2 0") != above  # 4 < 4.5


def test_labels_of_a_classification_are_the_answers() -> None:
    random = Random(0)
    for _ in range(50):
        task = families.classify(random)
        assert len({task.answer(task.draw(random)) for _ in range(300)}) == 2


def test_every_family_is_drawn_and_held_out_ones_stay_apart() -> None:
    random = Random(0)
    trained = [draw_task(random) for _ in range(3000)]
    held_out = [draw_task(random, heldout=True) for _ in range(500)]
    assert {task.family for task in trained} == {"strings", "classify", "numbers", "bits", "lookup", "linear"}
    assert {task.family for task in held_out} == {"strings", "classify", "numbers", "bits"}

    def stems(tasks: list[SyntheticTask]) -> set[str]:
        return {part.split("(")[0] for task in tasks for part in task.name.split("+")}

    assert not stems(trained) & stems(held_out)


def test_a_batch_holds_episodes_and_padding() -> None:
    ids, answers = batch(seed=0, index=3, rows=6, length=100)
    assert ids.shape == answers.shape == (6, 100)
    assert (ids[:, 0] == 1).all()
    assert ids[answers].all()
    assert (ids == 0).any()
    assert not np.array_equal(ids, batch(seed=0, index=4, rows=6, length=100)[0])


def test_batches_do_not_depend_on_the_number_of_workers() -> None:
    expected = [batch(seed=7, index=index, rows=2, length=64) for index in range(5, 10)]
    for workers in (1, 3):
        with batches(seed=7, rows=2, length=64, workers=workers, start=5) as stream:
            for ids, answers in expected:
                made_ids, made_answers = next(stream)
                assert np.array_equal(ids, made_ids)
                assert np.array_equal(answers, made_answers)
