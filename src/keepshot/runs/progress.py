"""What a job says while it runs."""

from collections.abc import Callable

Say = Callable[[str], None]
"""Takes each line worth showing."""

Progress = Callable[[str, int, int], None]
"""Takes a task's name, sets done and sets in all."""


def silent(line: str) -> None:
    """Say nothing."""
