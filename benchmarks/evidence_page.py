"""A comparison as one short Markdown page, to be committed beside others."""

import csv
from collections.abc import Sequence
from pathlib import Path

from keepshot.files import read_json
from keepshot.report.comparison import Comparison, MethodFigures, TargetFigures, read_comparison
from keepshot.report.comparison_page import VERDICTS
from keepshot.report.record import Estimate
from keepshot.report.wording import ABSENT, DEFINITION, duration, estimate, moment, percent

HEADER = (
    "method", "learning rate", "steps", "target, zero-shot", "few-shot kept", "on own inputs", "on other tasks",
    "training", "tokens", "",
)  # fmt: skip


def evidence_page(folder: Path, data: Path, notes: Sequence[str] = ()) -> str:
    """What a comparison found, as Markdown without paths of this machine.

    Args:
        folder: Of a finished comparison.
        data: The folder of data that it used; its path is taken out of the notes.
        notes: Further ones.

    Raises:
        RunError: The folder holds no result that can be read.
    """
    found = read_comparison(folder)
    targets = [line for target in found.targets for line in _target(found, target)]
    told = [note.replace(f"{data}/", "") for note in (*notes, *found.notes)]
    lines = [
        f"# Evidence: {Path(found.base).name if Path(found.base).is_dir() else found.base}",
        "",
        _setting(found),
        "",
        *targets,
        "Intervals are 95 %: over training seeds or over demonstration sets, whichever is wider. Settings were chosen "
        "on validation rows and on tasks that are not reported. " + DEFINITION,
        "",
        *(f"- {note}" for note in told),
        *([""] if told else []),
        "Versions: " + ", ".join(f"{name} {version}" for name, version in found.versions.items()) + ".",
    ]
    return "\n".join(lines) + "\n"


def _setting(found: Comparison) -> str:
    """When, on what, and how much."""
    with (found.folder / "compare.csv").open(encoding="utf-8", newline="") as file:
        seconds = [float(row["train_seconds"] or 0) for row in csv.DictReader(file)]
    device = read_json(found.folder / "environment.json")["device"]
    seeds = ", ".join(map(str, found.seeds))
    reported, chosen_by = _tasks(found, "after"), _tasks(found, "validation")
    return (
        f"{moment(found.created)}, on {device}. {len(seconds)} trainings with seeds {seeds}, "
        f"{duration(sum(seconds))} of training in all. Reported on {reported}. Settings chosen on {chosen_by}."
    )


def _tasks(found: Comparison, when: str) -> str:
    """The tasks that the chosen runs were asked, without the targets."""
    targets = {target.name for target in found.targets}
    names: dict[str, None] = {}
    for target in found.targets:
        asked = read_json(found.folder / target.methods[0].runs[0] / f"eval_{when}.json")["tasks"]
        names |= dict.fromkeys(name for name in asked if name not in targets)
    own = [name for name in names if name.startswith("own/")]
    others = [name for name in names if name not in own]
    return f"{len(others)} tasks ({', '.join(others)}) and {len(own)} over the target's own inputs"


def _target(found: Comparison, target: TargetFigures) -> list[str]:
    shots = "" if target.shots is None else f", {target.shots} shots"
    before = f"{percent(target.before, 1)} of the target `{target.name}` before tuning, without examples"
    unmeasured = [method.name for method in target.methods if method.retention is None]
    reasons = [] if not unmeasured else [f"Insufficient: {_why(found, target)}.", ""]
    return [
        f"The base answers {before}. Retention{shots}:",
        "",
        _line(HEADER),
        _line(("---", *("---:" for _ in HEADER[1:-1]), "---")),
        *(_line(_row(method, found, target)) for method in target.methods),
        "",
        *reasons,
        *(f"Failed: {method}: {reason}\n" for method, reason in target.failed.items()),
        f"**{VERDICTS[target.advice.verdict]}.** {target.advice.reason}.",
        "",
    ]


def _row(method: MethodFigures, found: Comparison, target: TargetFigures) -> tuple[str, ...]:
    remarks = [] if method.matched else ["not matched"]
    if method.retention is None:
        remarks.append("insufficient")
    if method.name == target.advice.method:
        remarks.append("**recommended**" if target.advice.verdict == "clear" else "first")
    return (
        method.name,
        ABSENT if method.learning_rate is None else f"{method.learning_rate:g}",
        ABSENT if method.steps is None else str(method.steps),
        estimate(method.accuracy, 1),
        estimate(method.retention, 1),
        _part(method.groups.get("own-input")),
        _part(method.groups.get("suite")),
        f"{method.time_ratio:.2f} x",
        f"{method.token_ratio:.2f} x",
        ", ".join(remarks),
    )


def _part(value: Estimate | None) -> str:
    return ABSENT if value is None else estimate(value)


def _why(found: Comparison, target: TargetFigures) -> str:
    """Why retention could not be measured, as the first method's report says it."""
    entries = next(
        entry for entry in read_json(found.folder / "compare.json")["targets"] if entry["name"] == target.name
    )
    reasons = [entry["reason"] for entry in entries["methods"] if entry["retention"] is None and entry["reason"]]
    return str(reasons[0]).rstrip(".") if reasons else "the few-shot ability of the base could not be measured"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
