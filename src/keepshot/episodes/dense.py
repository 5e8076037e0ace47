"""How alike two inputs are by their sentence embeddings."""

from collections.abc import Callable, Sequence
from functools import cached_property
from importlib import import_module
from math import isqrt
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float
from safetensors.numpy import load_file, save_file

from keepshot.episodes.similarity import Nearest, Similarities, largest
from keepshot.errors import DataError

Encode: TypeAlias = Callable[[Sequence[str]], Float[np.ndarray, "texts width"]]
LARGE = 100_000
"""Texts from which the nearest are looked for in a part of the pool, by FAISS if it is there."""
_SEARCHED = 16
"""One list in so many is searched."""


class Dense:
    """The cosine of sentence embeddings.

    All vectors are compared. From `LARGE` texts on, an inverted file of FAISS (extra `dense`) is asked, which searches
    one in 16 of 4 sqrt(n) lists: it can miss a neighbour, and what it finds has its exact cosine. Without FAISS all
    vectors are compared there too.

    Args:
        texts: The pool.
        encode: Texts to vectors, such as `SentenceTransformer(NAME).encode`; called once on the pool.

    Raises:
        DataError: The pool is empty.

    Reference:
        Johnson, Douze, Jegou 2017, arXiv 1702.08734 (FAISS).

    Example:
        >>> letters = lambda texts: np.array([[text.count("a"), text.count("b")] for text in texts], dtype=float)
        >>> [round(float(cosine), 2) for cosine in Dense(["a", "ab", "b"], letters).to("aa")]
        [1.0, 0.71, 0.0]
    """

    def __init__(self, texts: Sequence[str], encode: Encode) -> None:
        if not texts:
            raise DataError("there are no inputs to retrieve from")
        self._encode = encode
        self._vectors = self._unit_length(texts)

    @property
    def size(self) -> int:
        """Texts in the pool."""
        return len(self._vectors)

    def to(self, text: str) -> Similarities:
        """The cosine of `text` with every text of the pool."""
        cosines: Similarities = self._vectors @ self._unit_length([text])[0]
        return cosines

    def nearest(self, text: str, count: int) -> Nearest:
        """The texts most similar to `text`, as `Similarity` says."""
        vector = self._unit_length([text])[0]
        if self._lists is None:
            return largest(self._vectors @ vector, count)
        places = np.sort(self._lists.search(vector[None], count)[1][0])
        places = places[places >= 0]  # -1 where the lists hold no more
        order, cosines = largest(self._vectors[places] @ vector, count)
        return places[order], cosines

    def between(self, text: str, places: Sequence[int]) -> Similarities:
        """The cosine of `text` with some texts of the pool."""
        cosines: Similarities = self._vectors[list(places)] @ self._unit_length([text])[0]
        return cosines

    @cached_property
    def _lists(self) -> Any:
        """An inverted file over the vectors; None for a small pool, or without FAISS."""
        if self.size < LARGE:
            return None
        try:
            faiss = import_module("faiss")
        except ImportError:
            return None
        count = 4 * isqrt(self.size)
        index = faiss.index_factory(self._vectors.shape[1], f"IVF{count},Flat", faiss.METRIC_INNER_PRODUCT)
        index.cp.max_points_per_centroid = 64
        index.train(self._vectors)
        index.add(self._vectors)
        index.nprobe = -(-count // _SEARCHED)
        return index

    def _unit_length(self, texts: Sequence[str]) -> Float[np.ndarray, "texts width"]:
        vectors = np.asarray(self._encode(list(texts)), dtype=np.float32)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    def save(self, folder: Path) -> None:
        """Write `dense.safetensors`: one vector of length 1 for each text. Lists are made anew where it is read."""
        save_file({"vectors": self._vectors}, folder / "dense.safetensors")

    @classmethod
    def load(cls, folder: Path, encode: Encode) -> "Dense":
        """What `save` wrote, with the encoder that made it."""
        made = cls.__new__(cls)
        made._encode, made._vectors = encode, load_file(folder / "dense.safetensors")["vectors"]
        return made
