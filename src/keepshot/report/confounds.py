"""The study of defects as a table: learning in context, fine-tuning and the effect, with each defect on and off."""

from collections.abc import Iterator
from pathlib import Path

from keepshot.errors import RunError
from keepshot.files import read_json
from keepshot.report.card import markdown_table
from keepshot.report.fields import Field
from keepshot.report.tables import Table
from keepshot.report.wording import ABSENT, signed

SCHEMA = "keepshot.confounds/1"
PARTS = {"test": "ordinary problems", "misleading": "misleading problems"}
HEADER = ("", "shots", "in context", "fine-tuned", "effect", "of it by this defect")


def confounds_tables(folder: Path) -> Iterator[tuple[str, Table]]:
    """A table for each task and part, with its title.

    Raises:
        RunError: The folder holds no result that can be read.
    """
    file = folder / "confounds.json"
    whole = Field(read_json(file), file)
    if whole.at("schema").text() != SCHEMA:
        raise RunError(f"{file} is {whole.at('schema').text()}; this reads {SCHEMA}")
    for task, found in whole.at("tasks").items():
        settings = dict(found.at("settings").items())
        for part, words in PARTS.items():
            told = {name: one for name, field in settings.items() if (one := field.find(part)) is not None}
            if told:
                yield f"{task}, {words}", Table(HEADER, tuple(_rows(told)))


def confounds_markdown(folder: Path) -> str:
    """All tables as Markdown."""
    return "\n".join(f"### {title}\n\n{markdown_table(table)}\n" for title, table in confounds_tables(folder))


def _rows(settings: dict[str, Field]) -> Iterator[tuple[str, ...]]:
    for name, field in settings.items():
        made = field.find("made")
        shots = str(int(field.at("shots").number()))
        rates = (_rate(field.at(figure)) for figure in ("in_context", "tuned", "effect"))
        yield name, shots, *rates, ABSENT if made is None else _rate(made, sign=True)


def _rate(field: Field, *, sign: bool = False) -> str:
    value, low, high = (field.at(name).number() for name in ("value", "low", "high"))
    return f"{signed(value) if sign else f'{value:.2f}'} [{low:.2f}, {high:.2f}]".replace("-", "−")
