"""What the terminal shows of a finished folder, and `keepshot report`, which renders any of them anew."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from keepshot.cli import show
from keepshot.errors import RunError


def show_run(folder: Path) -> None:
    """Of `keepshot tune`."""
    from keepshot.report import read_report, summary_lines

    for line in summary_lines(read_report(folder)):
        show.say(line)
    show.say(f"report: {folder / 'report.html'}")


def show_comparison(folder: Path) -> None:
    """Of `keepshot compare`."""
    from keepshot.report.comparison_page import comparison_lines, comparison_tables

    for title, table in comparison_tables(folder):
        show.wide(show.as_table(title, table))
    for line in comparison_lines(folder):
        show.say(line)
    show.say(f"report: {folder / 'compare.html'}")


def show_patterns(folder: Path) -> None:
    """Of `keepshot patterns run`."""
    from keepshot.report.patterns_page import patterns_tables

    for title, table in patterns_tables(folder):
        show.wide(show.as_table(title, table))
    show.say(f"report: {folder / 'patterns.html'}")


def show_confounds(folder: Path) -> None:
    """Of `keepshot patterns confounds`."""
    from keepshot.report.confounds import confounds_tables

    for title, table in confounds_tables(folder):
        show.wide(show.as_table(title, table))
    show.say(f"written: {folder / 'confounds.md'}")


def report(
    folder: Annotated[
        Path, typer.Argument(help="Of tune, compare, patterns run or patterns confounds.", metavar="FOLDER")
    ],
) -> None:
    """Render the pages and figures of a finished folder anew, and of a run its model card.

    Example: keepshot report runs/intents
    """
    for kind in _KINDS:
        if (folder / kind.record).is_file():
            kind.render(folder)
            kind.show(folder)
            return
    raise RunError(f"{folder} holds no {', '.join(kind.record for kind in _KINDS)}: nothing there is finished")


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of folder, told by the record in it."""

    record: str
    render: Callable[[Path], object]
    show: Callable[[Path], None]


def _run(folder: Path) -> None:
    from keepshot.report import render

    render(folder)


def _comparison(folder: Path) -> None:
    from keepshot.report.comparison_page import comparison_page

    comparison_page(folder)


def _patterns(folder: Path) -> None:
    from keepshot.report.patterns_page import patterns_page

    patterns_page(folder)


def _confounds(folder: Path) -> None:
    from keepshot.files import write_text
    from keepshot.report.confounds import confounds_markdown

    write_text(folder / "confounds.md", confounds_markdown(folder))


_KINDS = (  # a training of an experiment on patterns has a record of its answers, too, beside that of a run
    _Kind("report.json", _run, show_run),
    _Kind("compare.json", _comparison, show_comparison),
    _Kind("patterns.json", _patterns, show_patterns),
    _Kind("confounds.json", _confounds, show_confounds),
)
