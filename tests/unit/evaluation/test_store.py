import sqlite3
from array import array
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.architectures import ARCHITECTURES

from keepshot.errors import RunError
from keepshot.evaluation import AnswerStore, Backend, LocalModel, Score, StoredAnswers
from keepshot.keys import generator
from keepshot.models.load import load_tokenizer
from keepshot.prompts import Row


def score_of(row):
    """What `Counting` says of a row: different for every row and answer span."""
    first, last = row.answers[-1]
    return Score(-sum(row.ids) / (3 * first), last - first, sum(row.ids) % 2 == 0, row.ids[first:])


def text_of(row, stop, max_new_tokens):
    return f"{row.ids[: row.answers[-1][0]]} {stop} {max_new_tokens}"


class Counting:
    """A backend that writes down what it is asked; fails at the level after `levels`."""

    def __init__(self, name="model", levels=1000):
        self.name, self.levels = name, levels
        self.scored, self.written, self.calls = [], [], 0

    @property
    def shares(self):
        return True

    def identity(self):
        return self.name

    def score(self, levels):
        self.calls += 1
        for rows in levels:
            if not self.levels:
                raise KeyboardInterrupt
            self.levels -= 1
            self.scored.append(list(rows))
            yield [score_of(row) for row in rows]

    def generate(self, rows, stop, max_new_tokens):
        self.calls += 1
        self.written.append(list(rows))
        return [text_of(row, stop, max_new_tokens) for row in rows]


def rows_of(count, start=0):
    return [Row((1, start + i, 7, 8, 9), ((2, 4),)) for i in range(count)]


def levels_of(*counts):
    return [rows_of(count, 100 * level) for level, count in enumerate(counts)]


def scores_of(levels):
    return [[score_of(row) for row in rows] for rows in levels]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "answers.sqlite"


def asking(path, **settings):
    """A backend over the file as a process that starts anew would open it, and whom it asks."""
    backend = Counting(**settings)
    return StoredAnswers(backend, AnswerStore(path)), backend


def test_it_is_a_backend_with_the_other_s_identity(path):
    stored, _ = asking(path, name="some digest")
    assert isinstance(stored, Backend)
    assert stored.identity() == "some digest"
    assert stored.shares


def test_what_is_known_is_not_asked_again(path):
    levels = levels_of(3, 2, 4)
    stored, backend = asking(path)
    assert list(stored.score(levels)) == scores_of(levels)
    assert backend.scored == levels
    for again, other in ((stored, backend), asking(path)):
        other.calls = 0
        assert list(again.score(levels)) == scores_of(levels)
        assert list(again.score(levels[1:])) == scores_of(levels[1:])
        assert list(again.score([])) == []
        assert other.calls == 0


def test_written_texts_that_are_known_are_not_asked_again(path):
    rows = rows_of(4)
    stored, backend = asking(path)
    expected = [text_of(row, ["\n"], 9) for row in rows]
    assert stored.generate(rows[1:3], ["\n"], 9) == expected[1:3]
    assert stored.generate(rows, ["\n"], 9) == expected
    assert backend.written == [rows[1:3], [rows[0], rows[3]]]
    again, other = asking(path)
    assert again.generate(rows[::-1], ["\n"], 9) == expected[::-1]
    assert again.generate([], ["\n"], 9) == []
    assert other.calls == 0


def test_only_what_is_missing_is_asked_and_the_order_stays(path):
    levels = levels_of(6, 5, 4, 3)
    stored, _ = asking(path)
    list(stored.score([levels[0][1::2], levels[1], levels[3][:1]]))
    again, backend = asking(path)
    assert list(again.score(levels)) == scores_of(levels)
    assert backend.scored == [levels[0][::2], levels[2], levels[3][1:]]


def test_a_question_that_stands_twice_is_answered_twice(path):
    [rows] = levels_of(2)
    for _ in range(2):
        stored, _ = asking(path)
        assert list(stored.score([[*rows, *rows]])) == scores_of([[*rows, *rows]])
        assert stored.generate([*rows, *rows], [], 1) == [text_of(row, [], 1) for row in (*rows, *rows)]


ROW = Row((1, 2, 3, 4, 5), ((1, 2), (3, 5)))


@pytest.mark.parametrize(
    "other",
    [
        Row((1, 2, 3, 4, 6), ((1, 2), (3, 5))),
        Row((1, 2, 3, 9, 5), ((1, 2), (3, 5))),
        Row((9, 2, 3, 4, 5), ((1, 2), (3, 5))),
        Row((1, 2, 3, 4, 5), ((1, 2), (3, 4))),
        Row((1, 2, 3, 4, 5), ((1, 2), (2, 5))),
        Row((1, 2, 3, 4, 5, 0), ((1, 2), (3, 6))),
        Row((1, 2, 3, 4, 5 + 2**32), ((1, 2), (3, 5))),
    ],
    ids=str,
)
def test_other_questions_are_never_taken_for_known_ones(path, other):
    stored, backend = asking(path)
    assert list(stored.score([[ROW]])) == [[score_of(ROW)]]
    assert list(stored.score([[other]])) == [[score_of(other)]]
    assert backend.scored == [[ROW], [other]]


def test_other_models_are_never_taken_for_known_ones(path):
    for name in ("a", "b", "a(3, 5)", ""):
        stored, backend = asking(path, name=name)
        list(stored.score([[ROW]]))
        stored.generate([ROW], [], 1)
        assert backend.calls == 2
    stored, backend = asking(path, name="a")
    list(stored.score([[ROW]]))
    assert backend.calls == 0


def test_texts_that_end_otherwise_are_never_taken_for_known_ones(path):
    stored, backend = asking(path)
    settings = [(["a"], 5), (["a"], 6), (["a", "b"], 5), (["ab"], 5), (["a', 'b"], 5), (["b", "a"], 5), ([], 5)]
    for stop, count in settings:
        assert stored.generate([ROW], stop, count) == [text_of(ROW, stop, count)]
    assert backend.calls == len(settings)
    other = Row((1, 2, 3, 7, 7), ((1, 2), (3, 5)))  # another answer to the same prompt
    stored.generate([other], ["a"], 5)
    assert backend.calls == len(settings)
    stored.generate([Row(ROW.ids, ((1, 2), (4, 5)))], ["a"], 5)
    assert backend.calls == len(settings) + 1


def test_scores_and_texts_do_not_mix(path):
    stored, backend = asking(path)
    stored.generate([ROW], [], 5)
    list(stored.score([[ROW]]))
    assert backend.calls == 2


@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_killed_evaluation_continues(path, done):
    levels = levels_of(3, 2, 4)
    stored, _ = asking(path, levels=done)
    answers = stored.score(levels)
    assert [next(answers) for _ in range(done)] == scores_of(levels[:done])
    with pytest.raises(KeyboardInterrupt):
        next(answers)
    again, backend = asking(path)
    assert list(again.score(levels)) == scores_of(levels)
    assert backend.scored == levels[done:]


def test_a_level_is_asked_only_when_it_is_wanted_and_kept_at_once(path):
    levels = levels_of(3, 2, 4)
    stored, backend = asking(path)
    answers = stored.score(levels)
    assert next(answers) == scores_of(levels)[0]
    assert backend.scored == levels[:1]
    again, other = asking(path)
    list(again.score(levels))
    assert other.scored == levels[1:]
    assert list(answers) == scores_of(levels[1:])


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCORES = st.tuples(
    FLOATS, st.integers(1, 2**31), st.booleans(), st.lists(st.integers(0, 2**63 - 1), max_size=5).map(tuple)
)


@settings(max_examples=20)
@given(st.dictionaries(st.binary(min_size=16, max_size=16), SCORES, max_size=5))
def test_scores_come_back_bit_by_bit(tmp_path_factory, drawn):
    store = AnswerStore(tmp_path_factory.mktemp("store") / "answers.sqlite")
    known = {key: Score(*values) for key, values in drawn.items()}
    store.add_scores(known)
    assert store.scores([*known, b"unknown"]) == known


@pytest.mark.parametrize("text", ["", "a\nb", "\x00x", "naïve 字 🙂", "'; DROP TABLE texts; --"])
def test_texts_come_back_as_they_were(path, text):
    AnswerStore(path).add_texts({b"key": text})
    assert AnswerStore(path).texts([b"key", b"other"]) == {b"key": text}


def test_more_keys_than_a_statement_takes_are_found(path):
    keys = [i.to_bytes(16, "big") for i in range(1201)]
    store = AnswerStore(path)
    store.add_texts({key: str(i) for i, key in enumerate(keys)})
    assert store.texts(keys) == {key: str(i) for i, key in enumerate(keys)}
    assert store.texts([]) == {}


def test_a_later_answer_replaces_an_earlier_one(path):
    store = AnswerStore(path)
    store.add_texts({b"key": "first"})
    store.add_texts({b"key": "second"})
    assert store.texts([b"key"]) == {b"key": "second"}


def test_what_is_stored_is_plain(path):
    stored, _ = asking(path)
    list(stored.score([[ROW]]))
    stored.generate([ROW], ["a"], 5)
    with closing(sqlite3.connect(path)) as connection:
        [(key, likelihood, count, exact, written)] = connection.execute("SELECT * FROM scores").fetchall()
        [(asked, text)] = connection.execute("SELECT * FROM texts").fetchall()
    assert (len(key), len(asked)) == (16, 16)
    assert (likelihood, count, exact) == (score_of(ROW).log_likelihood, 2, score_of(ROW).exact)
    assert array("q", written).tolist() == [4, 5]
    assert text == text_of(ROW, ["a"], 5)


@pytest.mark.parametrize("content", [b"not a database, but long enough to look like one " * 20, b"{'a': 1}"])
def test_a_file_that_is_something_else_is_one_line(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(RunError, match="delete it, or name another") as caught:
        AnswerStore(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize("call", ["score", "generate"])
def test_a_file_that_breaks_while_it_is_used_is_one_line(path, call):
    stored, _ = asking(path)
    list(stored.score(levels_of(40)))
    path.write_bytes(b"\xff" * path.stat().st_size)
    with pytest.raises(RunError, match="cannot be used") as caught:
        list(stored.score(levels_of(40))) if call == "score" else stored.generate(rows_of(2), [], 1)
    assert "\n" not in str(caught.value)


def test_a_place_where_no_file_can_be_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "file" / "answers.sqlite", tmp_path / "file" / "a" / "b.sqlite", tmp_path / "folder"):
        with pytest.raises(RunError, match="cannot be used") as caught:
            AnswerStore(place)
        assert "\n" not in str(caught.value)


def test_several_write_at_once(path):
    def write(start):
        for at in range(start, start + 20):  # each opens, or makes, the file anew
            stored, _ = asking(path)
            stored.generate(rows_of(3, at), [], 1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, [0, 10, 20, 30]))
    stored, backend = asking(path)
    stored.generate(rows_of(50), [], 1)
    assert backend.calls == 0


def test_a_model_asked_for_the_rest_says_what_it_would_have_said_to_all(path):
    backend = LocalModel(ARCHITECTURES["llama"](), load_tokenizer("mini"))
    r = generator("rows")
    shown = tuple(r.randrange(2, 256) for _ in range(40))
    levels = [
        [Row((*shown[:n], *(r.randrange(2, 256) for _ in range(8))), ((n + 5, n + 8),)) for _ in range(4)]
        for n in (5, 20, 40)
    ]
    plain = list(backend.score(levels))
    list(StoredAnswers(backend, AnswerStore(path)).score([levels[0][:2], levels[2][1:]]))
    for _ in range(2):
        found = list(StoredAnswers(backend, AnswerStore(path)).score(levels))
        for some, more in zip(found, plain, strict=True):
            assert [s.log_likelihood for s in some] == pytest.approx([s.log_likelihood for s in more], abs=1e-4)
            assert [s.written for s in some] == [s.written for s in more]
    assert Counter(len(level) for level in found) == {4: 3}
