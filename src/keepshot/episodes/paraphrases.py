"""An example said otherwise: from a file, or by small edits."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from keepshot.episodes.similarity import normalised
from keepshot.errors import DataError
from keepshot.keys import generator
from keepshot.tasks.example import Example

Paraphrases = Mapping[int, tuple[Example, ...]]
"""By row of the pool."""

_LONGEST_WORD = 20


def read_paraphrases(path: Path, examples: Sequence[Example]) -> Paraphrases:
    """Rows of JSON lines: `of` (an input of the pool), `input` and `output`.

    Raises:
        DataError: The file is missing, a row is none, its `of` is no input of the pool, or says nothing otherwise.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the paraphrases {path} cannot be read: {error}") from None
    rows: dict[str, list[int]] = {}
    for row, example in enumerate(examples):
        rows.setdefault(example.input, []).append(row)
    found: dict[int, list[Example]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        of, text, answer = _fields(line, f"{path}, line {number}")
        if of not in rows:
            raise DataError(f"{path}, line {number}: {of!r} is no input of the training data")
        if normalised(of) == normalised(text):
            raise DataError(f"{path}, line {number}: the paraphrase of {of!r} is the same text")
        for row in rows[of]:
            found.setdefault(row, []).append(replace(examples[row], input=text, output=answer, aliases=()))
    return {row: tuple(said) for row, said in found.items()}


def _fields(line: str, where: str) -> tuple[str, str, str]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: no JSON: {error}") from None
    of, text, answer = (value.get(name) if isinstance(value, dict) else None for name in ("of", "input", "output"))
    if not (isinstance(of, str) and isinstance(text, str) and isinstance(answer, str)) or not text.strip():
        raise DataError(f"{where}: a paraphrase has the texts of, input and output; got {line[:80]}")
    if not answer.strip():
        raise DataError(f"{where}: the paraphrase of {of!r} has an empty output")
    return of, text.strip(), answer.strip()


class Edits(Mapping[int, tuple[Example, ...]]):
    """One small edit of every example, made when it is asked for.

    Where a word of the input stands in the answer too, a word of another example that does so takes its place in both:
    what is copied must then be copied from the right example. An answer that is one of `labels` stays, whatever words
    it shares with its input: "book hotel" is no example of "book". Else two neighbouring words change places, or in a
    single word two neighbouring characters, and the answer stays. An input of one character has none.

    Args:
        examples: The pool.
        seed: Keys the edits.
        labels: All answers, where the set is finite.

    Example:
        >>> pool = [Example("play songs by Nina", "artist: Nina"), Example("play songs by Cher", "artist: Cher")]
        >>> Edits(pool, seed=0)[0]
        (Example(input='play songs by Cher', output='artist: Cher', instruction='', ...),)
        >>> Edits([Example("lemon", "fruit")], seed=1)[0][0].input
        'leomn'
    """

    def __init__(self, examples: Sequence[Example], seed: int, labels: Sequence[str] = ()) -> None:
        self._examples, self._seed, self._labels = examples, seed, frozenset(labels)
        self._shared = sorted({word for example in examples for word in self._copied(example)})

    def __getitem__(self, row: int) -> tuple[Example, ...]:
        example, r = self._examples[row], generator(self._seed, "edit", row)
        copied = self._copied(example)
        if copied and len(self._shared) > len(copied):
            old = r.choice(copied)
            new = r.choice([word for word in self._shared if word not in copied])
            return (replace(example, input=_with(example.input, old, new), output=_with(example.output, old, new)),)
        for parts, glue in ((example.input.split(" "), " "), (list(example.input), "")):
            places = [place for place in range(len(parts) - 1) if parts[place] != parts[place + 1]]
            if places:
                place = r.choice(places)
                parts[place], parts[place + 1] = parts[place + 1], parts[place]
                return (replace(example, input=glue.join(parts)),)
        return ()

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self._examples)))

    def __len__(self) -> int:
        return len(self._examples)

    def _copied(self, example: Example) -> list[str]:
        """Words of the input that are words of the answer too."""
        if example.output in self._labels:
            return []
        answer = set(example.output.split(" "))
        words = dict.fromkeys(example.input.split(" "))
        return [word for word in words if word in answer and len(word) <= _LONGEST_WORD]


def _with(text: str, old: str, new: str) -> str:
    return " ".join(new if word == old else word for word in text.split(" "))
