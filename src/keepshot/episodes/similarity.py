"""How alike two inputs are: one measure for the contexts of training, for retrieval and for the probes.

A measure is built once over a fixed list of texts, the pool, and gives the similarity of any text to each of them.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from safetensors.numpy import load_file, save_file

from keepshot.errors import DataError

K1, B = 1.5, 0.75
Unit = Literal["words", "characters"]
Similarities: TypeAlias = Float[np.ndarray, " texts"]
Nearest: TypeAlias = tuple[Int[np.ndarray, " found"], Float[np.ndarray, " found"]]
"""Places in the pool, and their similarities."""
_FEW_WORDS = 4
"""Inputs with fewer words than this, in the middle, have nothing in common as words: their characters are compared."""


@runtime_checkable
class Similarity(Protocol):
    """A measure over a pool of texts."""

    @property
    def size(self) -> int:
        """Texts in the pool."""

    def nearest(self, text: str, count: int) -> Nearest:
        """The texts most similar to `text`: their places in the pool, and the similarities in falling order.

        Of equally similar ones the earlier comes first. There are `count` of them, or fewer where there are no others
        that it can find.
        """

    def between(self, text: str, places: Sequence[int]) -> Similarities:
        """The similarity of `text` to some texts of the pool: 1 to itself, 0 where nothing is shared."""

    def save(self, folder: Path) -> None:
        """Write what was built to a folder that is there."""


def normalised(text: str) -> str:
    """The text by which inputs count as equal: lower case, tokens apart by single blanks.

    Example:
        >>> normalised("Book  a table!") == normalised("book a table !")
        True
    """
    return " ".join(words(text))


def words(text: str) -> list[str]:
    """Lower-cased words and single punctuation marks."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


def characters(text: str) -> list[str]:
    """Overlapping groups of three characters, lower-cased, the ends marked.

    Example:
        >>> characters("cat")
        ['^ca', 'cat', 'at$']
    """
    marked = f"^{text.lower()}$"
    return [marked[place : place + 3] for place in range(max(1, len(marked) - 2))]


def largest(values: Similarities, count: int) -> Nearest:
    """Places of the `count` largest values, and the values, in falling order; of equal ones the earlier comes first.

    Example:
        >>> largest(np.array([0.2, 0.5, 0.0, 0.5]), 2)[0].tolist()
        [1, 3]
    """
    places = np.arange(len(values))
    if count < len(values):
        # All that equal the least of them come along: which ones a partition keeps is chance.
        places = np.flatnonzero(values >= np.partition(values, len(values) - count)[len(values) - count])
    places = places[np.argsort(-values[places], kind="stable")][:count]
    return places, values[places]


_UNITS: dict[Unit, Callable[[str], list[str]]] = {"words": words, "characters": characters}


def unit_of(texts: Sequence[str]) -> Unit:
    """What texts like these are compared by: words, or characters where half of them have fewer than 4 words."""
    return "words" if median(len(words(text)) for text in texts) >= _FEW_WORDS else "characters"


class Bm25:
    """Okapi BM25 of a text against the pool, divided by its score against itself.

        s(q, D) = sum over distinct t in q of idf(t) f(t, D) / (f(t, D) + k1 (1 - b + b |D| / mean |D|))  /  s(q, q)
        idf(t) = ln(1 + (N - n(t) + 1/2) / (n(t) + 1/2))

    with k1 = 1.5 and b = .75. The factor k1 + 1 of the usual form falls out of the quotient. It is 1 for an equal text,
    and can exceed that a little where D repeats words of q. The index is that of `bm25s`.

    Args:
        texts: The pool.
        unit: What counts as a token; by the length of the texts unless told.

    Raises:
        DataError: The pool is empty.

    Reference:
        The variant called Lucene by Kamphuis et al. 2020.

    Example:
        >>> pool = Bm25(["book a table for two", "play some music now", "book a flight to rome"])
        >>> pool.to("book a table for two").round(2).tolist()
        [1.0, 0.0, 0.24]
    """

    def __init__(self, texts: Sequence[str], unit: Unit | None = None) -> None:
        if not texts:
            raise DataError("there are no inputs to retrieve from")
        from bm25s import BM25

        self.unit: Unit = unit or unit_of(texts)
        tokens = [_UNITS[self.unit](text) for text in texts]
        index = BM25(method="lucene", k1=K1, b=B)
        index.index(tokens, show_progress=False)
        self._vocabulary: dict[str, int] = index.vocab_dict
        arrays = {name: np.asarray(index.scores[name]) for name in ("data", "indices", "indptr")}
        self._set(arrays, len(texts), sum(map(len, tokens)) / len(texts))

    def _set(self, arrays: dict[str, np.ndarray], size: int, mean_length: float) -> None:
        self._arrays, self._size, self._mean_length = arrays, size, mean_length
        found = np.diff(arrays["indptr"])
        self._idf = np.log1p((size - found + 0.5) / (found + 0.5))
        self._unseen = float(np.log1p((size + 0.5) / 0.5))

    @property
    def size(self) -> int:
        """Texts in the pool."""
        return self._size

    def to(self, text: str) -> Similarities:
        """The similarity of `text` to every text of the pool."""
        counts = Counter(_UNITS[self.unit](text))
        scores = np.zeros(self.size)
        data, indices, indptr = (self._arrays[name] for name in ("data", "indices", "indptr"))
        for token in counts:
            if (place := self._vocabulary.get(token)) is not None and place + 1 < len(indptr):
                held = slice(indptr[place], indptr[place + 1])
                scores[indices[held]] += data[held]  # a text is there once for each token
        itself = self._itself(counts)
        return scores / itself if itself else scores

    def nearest(self, text: str, count: int) -> Nearest:
        """The texts most similar to `text`, as `Similarity` says."""
        return largest(self.to(text), count)

    def between(self, text: str, places: Sequence[int]) -> Similarities:
        """The similarity of `text` to some texts of the pool."""
        return self.to(text)[list(places)]

    def _itself(self, counts: Counter[str]) -> float:
        """The score of a text against itself, as if it were in the pool with the pool's frequencies."""
        norm = K1 * (1 - B + B * counts.total() / self._mean_length)
        return float(sum(self._weight(token) * count / (count + norm) for token, count in counts.items()))

    def _weight(self, token: str) -> float:
        place = self._vocabulary.get(token)
        return self._unseen if place is None or place >= len(self._idf) else float(self._idf[place])

    def save(self, folder: Path) -> None:
        """Write `bm25.safetensors`: the weights by token, and the tokens."""
        tokens = np.frombuffer("\n".join(self._vocabulary).encode(), dtype=np.uint8)
        places = np.array(list(self._vocabulary.values()))
        about = {"unit": self.unit, "size": str(self.size), "mean_length": repr(self._mean_length)}
        save_file({**self._arrays, "tokens": tokens, "places": places}, folder / "bm25.safetensors", about)

    @classmethod
    def load(cls, folder: Path) -> "Bm25":
        """What `save` wrote."""
        from safetensors import safe_open

        made = cls.__new__(cls)
        arrays = load_file(folder / "bm25.safetensors")
        with safe_open(folder / "bm25.safetensors", framework="numpy") as file:
            about = file.metadata()
        tokens = arrays.pop("tokens").tobytes().decode().split("\n")
        made.unit = about["unit"]
        made._vocabulary = dict(zip(tokens, arrays.pop("places").tolist(), strict=True))
        made._set(arrays, int(about["size"]), float(about["mean_length"]))
        return made
