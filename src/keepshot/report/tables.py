"""The tables of a run as plain text cells, for the page and the model card alike."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from keepshot.report.figures import ordered_tasks
from keepshot.report.record import Report
from keepshot.report.wording import (
    ABSENT,
    GROUPS,
    ZERO_SHOT_GROUPS,
    accuracy,
    count,
    duration,
    estimate,
    kept_at,
    memory,
    percent,
    trainable,
)


@dataclass(frozen=True, slots=True)
class Table:
    """A header and rows of cells; every row has as many cells as the header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def curve_table(report: Report) -> Table:
    """Accuracy before and after at every shot count, and what was kept."""
    curves = (report.target.before, report.target.after, report.held_out.before, report.held_out.after)
    shots = sorted({count for curve in curves for count in curve})
    return Table(
        ("examples", "target before", "target after", "other tasks before", "other tasks after", "kept"),
        tuple(
            (
                str(number),
                *(accuracy(curve[number]) if number in curve else ABSENT for curve in curves),
                kept_at(report, number),
            )
            for number in shots
        ),
    )


def group_table(report: Report) -> Table:
    """What was kept of the few-shot ability, in parts of the suite."""
    members = report.retention.group_sizes
    rows = [("All held-out tasks", str(report.few_shot_tasks), str(report.shots), estimate(report.retention.estimate))]
    for name, kept in report.retention.groups.items():
        shots = "0" if name in ZERO_SHOT_GROUPS else str(report.shots)
        rows.append((GROUPS.get(name, name), str(members[name]) if name in members else ABSENT, shots, estimate(kept)))
    return Table(("", "tasks", "examples", "kept"), tuple(rows))


def task_table(report: Report) -> Table:
    """Each held-out task at the headline's shot count (or without examples), in the order of its figure."""
    rows = []
    for task in ordered_tasks(report.tasks, report.shots):
        shots = task.asked_at(report.shots)
        before, after = task.before.get(shots), task.after.get(shots)
        scored = task.metric.replace("_", " ")
        rows.append((task.name, scored, str(shots), percent(task.chance), accuracy(before), accuracy(after)))
    return Table(("task", "scored by", "examples", "chance", "before", "after"), tuple(rows))


def cost_table(report: Report) -> Table:
    """What the training took."""
    cost = report.cost
    rows = (
        ("training time", duration(cost.train_seconds)),
        ("steps", count(cost.steps)),
        ("computed tokens", count(cost.tokens)),
        ("trainable parameters", trainable(report)),
        ("peak memory", memory(cost.peak_memory_bytes)),
    )
    return Table(("", ""), tuple(row for row in rows if row[1] != ABSENT))


def stream_table(report: Report) -> Table:
    """What each stream saw; beside its share of the cost its weight in the loss, where the file gives one."""
    streams = report.cost.streams
    weighed = any(stream.weight is not None for stream in streams)
    return Table(
        ("stream", "share of tokens", *(["weight in the loss"] if weighed else []), "tokens", "episodes"),
        tuple(
            (
                stream.name,
                _rate(stream.share),
                *([_rate(stream.weight)] if weighed else []),
                count(stream.tokens),
                count(stream.episodes),
            )
            for stream in streams
        ),
    )


def settings_table(report: Report) -> Table:
    """The resolved config, the data's numbers, the seed and the versions, under dotted names."""
    whole = {**report.settings, "data (found)": report.data, "seed": report.seed, "versions": report.versions}
    return Table(("setting", "value"), tuple(_flat(whole)))


def further_table(report: Report) -> Table:
    """Other measures of what was kept."""
    rows = []
    if report.retention.gain_kept is not None:
        rows.append(("gain from examples kept", estimate(report.retention.gain_kept)))
    if report.retention.nll is not None:
        before, after = report.retention.nll
        rows.append(("answer NLL on other tasks, nats", f"{before:.2f} → {after:.2f}"))
    return Table(("", ""), tuple(rows))


def _rate(value: float | None) -> str:
    return ABSENT if value is None else percent(value, 1)


def _flat(value: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Leaves under dotted names; the members of a list of objects under their numbers."""
    for name, entry in value.items():
        if isinstance(entry, list) and any(isinstance(member, Mapping) for member in entry):
            entry = {str(number): member for number, member in enumerate(entry)}
        if isinstance(entry, Mapping):
            yield from _flat(entry, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", ABSENT if entry is None else str(entry)
