"""Reading JSON that someone else wrote: every value knows its own place, so an error can name it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keepshot.errors import RunError


@dataclass(frozen=True, slots=True)
class Field:
    """A JSON value and where it stands.

    Attributes:
        value: What `json` made of it.
        file: The file it was read from.
        place: The dotted path to it within the file; empty for the whole.

    Example:
        >>> report = Field({"gain": 0.5, "notes": None}, Path("report.json"))
        >>> report.at("gain").number(), report.find("notes"), report.number_or_none("seed")
        (0.5, None, None)
    """

    value: object
    file: Path
    place: str = ""

    def at(self, name: str) -> "Field":
        """The value under `name`, which may be null.

        Raises:
            RunError: This is no object, or it lacks `name`.
        """
        mapping = self._mapping()
        if name not in mapping:
            raise RunError(f"{self.file} lacks {self._below(name)!r}; it is not a complete report of keepshot")
        return Field(mapping[name], self.file, self._below(name))

    def find(self, name: str) -> "Field | None":
        """The value under `name`, or None where it is missing or null."""
        value = self._mapping().get(name)
        return None if value is None else Field(value, self.file, self._below(name))

    def items(self) -> Iterator[tuple[str, "Field"]]:
        """The entries of an object, in their order."""
        for name, value in self._mapping().items():
            yield name, Field(value, self.file, self._below(name))

    def elements(self) -> Iterator["Field"]:
        """The elements of a list, in their order.

        Raises:
            RunError: This is none.
        """
        if not isinstance(self.value, list):
            raise self._unexpected("a list")
        for number, value in enumerate(self.value):
            yield Field(value, self.file, self._below(str(number)))

    def number(self) -> float:
        """A finite number.

        Raises:
            RunError: It is anything else.
        """
        if isinstance(self.value, bool) or not isinstance(self.value, int | float) or not math.isfinite(self.value):
            raise self._unexpected("a finite number")
        return float(self.value)

    def text(self) -> str:
        """A string.

        Raises:
            RunError: It is anything else.
        """
        if not isinstance(self.value, str):
            raise self._unexpected("a string")
        return self.value

    def number_or_none(self, name: str) -> float | None:
        """The number under `name`, or None where it is missing or null."""
        field = self.find(name)
        return None if field is None else field.number()

    def integer_or_none(self, name: str) -> int | None:
        """The number under `name` without its fraction, or None where it is missing or null."""
        number = self.number_or_none(name)
        return None if number is None else int(number)

    def number_or(self, name: str, default: float) -> float:
        """The number under `name`, or `default` where it is missing or null."""
        field = self.find(name)
        return default if field is None else field.number()

    def text_or(self, name: str, default: str) -> str:
        """The string under `name`, or `default` where it is missing or null."""
        field = self.find(name)
        return default if field is None else field.text()

    def mapping_or_empty(self, name: str) -> dict[str, object]:
        """The object under `name` as it is, or an empty one where it is missing or null."""
        field = self.find(name)
        return {} if field is None else dict(field._mapping())

    def _mapping(self) -> dict[str, object]:
        if not isinstance(self.value, dict):
            raise self._unexpected("an object")
        return self.value

    def _below(self, name: str) -> str:
        return f"{self.place}.{name}" if self.place else name

    def _unexpected(self, wanted: str) -> RunError:
        shown = repr(self.value)
        shown = shown if len(shown) <= 40 else f"{shown[:39]}…"
        return RunError(f"{self.file}: {self.place or 'the whole'} is {shown}, not {wanted}")
