"""What a written text says: the first thing in its first line that could be an answer to the task."""

import re
from collections.abc import Mapping

_NUMBER = r"(?<![\d.])-?\d+(?!\.?\d)"
_TRUTH = r"\b(?:True|False)\b"
ANSWERS: Mapping[str, re.Pattern[str]] = {
    "expressions": re.compile(_NUMBER),
    "code": re.compile(r"-?\d+(?:\.\d+)?"),
    "relations": re.compile(_TRUTH),
    "boolean": re.compile(_TRUTH),
    "parity": re.compile(r"\b(?:even|odd)\b"),
    "equations": re.compile(rf"a = -?\d+, b = -?\d+|{_NUMBER}"),
}


def said(task: str, text: str) -> str:
    """The first thing that could be an answer; the whole line where none is there.

    Example:
        >>> said("expressions", "The value is 7."), said("boolean", " True\\nFalse"), said("parity", "oddly")
        ('7', 'True', 'oddly')
    """
    line = text.strip().split("\n")[0].strip()
    found = ANSWERS[task].search(line)
    return line if found is None else found.group()
