"""Options of every command that reads examples: their format, what the columns are called, what becomes of bad rows."""

from collections.abc import Sequence
from typing import Annotated, Literal

import typer

from keepshot.errors import ConfigError

Format = Annotated[str, typer.Option("--format", help="Of the data files, instead of the detected one.")]
Column = Annotated[
    list[str] | None,
    typer.Option("--column", help="input=question: where a file calls a column otherwise; any number of times."),
]
OnBadRow = Annotated[
    Literal["raise", "skip"], typer.Option("--on-bad-row", help="Of data files: stop, or leave out and list.")
]
OnBadRowOfConfig = Annotated[str | None, typer.Option("--on-bad-row", help="raise or skip; replaces the config's.")]


def on_bad_row_override(given: str | None) -> list[str]:
    """What `--on-bad-row` overrides in a config."""
    return [f"data.on_bad_row={given}"] if given else []


def named_columns(given: Sequence[str] | None) -> dict[str, str]:
    """What `--column` says: the format's name of a column to the file's.

    Raises:
        ConfigError: One is not of the form a=b, a name is given twice, or no format has such a column.

    Example:
        >>> named_columns(["input=question", "output=answer"])
        {'input': 'question', 'output': 'answer'}
    """
    from keepshot.tasks.formats import check_format

    columns: dict[str, str] = {}
    for text in given or ():
        name, _, own = text.partition("=")
        if not name or not own:
            raise ConfigError(f"--column {text!r} is not of the form input=question")
        if name in columns:
            raise ConfigError(f"--column says twice where {name} stands: {columns[name]!r} and {own!r}")
        columns[name] = own
    check_format("auto", columns)
    return columns
