"""Answers on disk, found again by what was asked of whom: a killed evaluation goes on, a known base is not asked twice.

A key is a digest of the model's identity (weights, adapter, dtype) and of the prompt's token ids, so that nothing but
equal questions to equal models share an entry. Answers are written as soon as a task, demonstration set and shot count
is done.
"""

import hashlib
import sqlite3
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from keepshot.errors import RunError
from keepshot.evaluation.backend import Backend, Score
from keepshot.prompts import Row

T = TypeVar("T")

# Another process may be writing.
_PATIENCE_S = 60.0
_TABLES = """
CREATE TABLE IF NOT EXISTS scores
  (key BLOB PRIMARY KEY, log_likelihood REAL, num_tokens INTEGER, exact INTEGER, written BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS texts (key BLOB PRIMARY KEY, text TEXT) WITHOUT ROWID;
"""


class AnswerStore:
    """A SQLite file of answers.

    Args:
        path: Made if it is missing, with its folder.

    Raises:
        RunError: The file is something else, or cannot be written.

    Example:
        >>> import tempfile
        >>> store = AnswerStore(Path(tempfile.mkdtemp()) / "answers.sqlite")
        >>> store.add_texts({b"question": "42"})
        >>> store.texts([b"question", b"another"])
        {b'question': '42'}
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from None
        self._run(lambda connection: connection.executescript(_TABLES))

    def scores(self, keys: Sequence[bytes]) -> dict[bytes, Score]:
        """The scores that are known."""
        return {
            key: Score(log_likelihood, num_tokens, bool(exact), tuple(array("q", written)))
            for key, log_likelihood, num_tokens, exact, written in self._find("scores", keys)
        }

    def add_scores(self, found: dict[bytes, Score]) -> None:
        """Remember scores."""
        rows = [
            (key, s.log_likelihood, s.num_tokens, s.exact, array("q", s.written).tobytes()) for key, s in found.items()
        ]
        self._run(lambda connection: connection.executemany("INSERT OR REPLACE INTO scores VALUES (?,?,?,?,?)", rows))

    def texts(self, keys: Sequence[bytes]) -> dict[bytes, str]:
        """The written texts that are known."""
        return dict(self._find("texts", keys))

    def add_texts(self, found: dict[bytes, str]) -> None:
        """Remember written texts."""
        rows = list(found.items())
        self._run(lambda connection: connection.executemany("INSERT OR REPLACE INTO texts VALUES (?,?)", rows))

    def _find(self, table: str, keys: Sequence[bytes]) -> list[tuple]:
        def select(connection: sqlite3.Connection) -> list[tuple]:
            found: list[tuple] = []
            for start in range(0, len(keys), 500):  # SQLite bounds the number of variables in a statement
                part = keys[start : start + 500]
                marks = ",".join("?" * len(part))
                found += connection.execute(f"SELECT * FROM {table} WHERE key IN ({marks})", part).fetchall()
            return found

        return self._run(select)

    def _run(self, action: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with closing(sqlite3.connect(self.path, timeout=_PATIENCE_S)) as connection, connection:
                return action(connection)
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> RunError:
        return RunError(f"the cache of answers {self.path} cannot be used: {error}; delete it, or name another")


class StoredAnswers:
    """A backend that asks another one only what its store does not know.

    Args:
        backend: Is asked.
        store: Remembers.
    """

    def __init__(self, backend: Backend, store: AnswerStore) -> None:
        self._backend, self._store = backend, store
        self._identity = backend.identity().encode()

    @property
    def shares(self) -> bool:
        """As the backend."""
        return self._backend.shares

    def identity(self) -> str:
        """As the backend."""
        return self._identity.decode()

    def score(self, levels: Sequence[Sequence[Row]]) -> Iterator[list[Score]]:
        """Scores of every level, as soon as it is done and written."""
        keys = [[self._key(row.ids, row.answers[-1]) for row in rows] for rows in levels]
        known = [self._store.scores(level) for level in keys]
        missing = [
            [i for i, key in enumerate(level) if key not in found] for level, found in zip(keys, known, strict=True)
        ]
        asked = [[rows[i] for i in places] for rows, places in zip(levels, missing, strict=True) if places]
        answers = self._backend.score(asked) if asked else iter(())
        for level, places, found in zip(keys, missing, known, strict=True):
            if places:
                new = dict(zip([level[i] for i in places], next(answers), strict=True))
                self._store.add_scores(new)
                found |= new
            yield [found[key] for key in level]

    def generate(self, rows: Sequence[Row], stop: Sequence[str], max_new_tokens: int) -> list[str]:
        """What greedy decoding writes."""
        keys = [self._key(row.ids[: row.answers[-1][0]], (tuple(stop), max_new_tokens)) for row in rows]
        found = self._store.texts(keys)
        missing = [i for i, key in enumerate(keys) if key not in found]
        if missing:
            written = self._backend.generate([rows[i] for i in missing], stop, max_new_tokens)
            new = dict(zip([keys[i] for i in missing], written, strict=True))
            self._store.add_texts(new)
            found |= new
        return [found[key] for key in keys]

    def _key(self, ids: Sequence[int], what: object) -> bytes:
        question = hashlib.blake2b(self._identity, digest_size=16)
        question.update(repr(what).encode())
        question.update(array("q", ids).tobytes())
        return question.digest()
