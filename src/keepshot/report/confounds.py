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
_RELEASED, _NONE = "as released", "none"


def confounds_tables(folder: Path) -> Iterator[tuple[str, Table]]:
    """A table for each task and part, with its title.

    Raises:
        RunError: The folder holds no result that can be read.
    """
    file = folder / "confounds.json"
    whole = Field(read_json(file), file)
    if whole.at("schema").text() != SCHEMA:
        raise RunError(f"{file} is {whole.at('schema').text()}; this reads {SCHEMA}")
    for task, settings in whole.at("tasks").items():
        by_name = dict(settings.items())
        for part, words in PARTS.items():
            if by_name[_RELEASED].find(part) is not None:
                yield f"{task}, {words}", Table(HEADER, tuple(_rows({n: f.at(part) for n, f in by_name.items()})))


def confounds_markdown(folder: Path) -> str:
    """All tables as Markdown."""
    return "\n".join(f"### {title}\n\n{markdown_table(table)}\n" for title, table in confounds_tables(folder))


def _rows(settings: dict[str, Field]) -> Iterator[tuple[str, ...]]:
    """What a defect makes: the effect as released less that without it; alone, its effect less that with none."""
    effects = {name: field.at("effect").at("value").number() for name, field in settings.items()}
    for name, field in settings.items():
        if name in (_RELEASED, _NONE):
            made = ABSENT
        elif name.startswith("without"):
            made = signed(effects[_RELEASED] - effects[name])
        else:
            made = signed(effects[name] - effects[_NONE])
        shots = str(int(field.at("shots").number()))
        yield name, shots, _rate(field.at("in_context")), _rate(field.at("tuned")), _rate(field.at("effect")), made


def _rate(field: Field) -> str:
    low, high = field.number_or_none("low"), field.number_or_none("high")
    value = f"{field.at('value').number():.2f}"
    return value if low is None or high is None else f"{value} [{low:.2f}, {high:.2f}]"
