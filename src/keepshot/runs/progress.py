"""What a job says while it runs."""

from collections.abc import Callable

from keepshot.evaluation.curve import Progress

__all__ = ["Progress", "Say", "silent"]

Say = Callable[[str], None]
"""Takes each line worth showing."""


def silent(line: str) -> None:
    """Say nothing."""
