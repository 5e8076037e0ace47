"""What a run found: `report.json` as typed records."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keepshot.errors import RunError
from keepshot.files import read_json
from keepshot.report.fields import Field

SCHEMA = "keepshot.report/1"


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval, which is None where the file gives none."""

    value: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Point:
    """One shot count of a curve: accuracy in [0, 1], answer NLL in nats, number of queries."""

    accuracy: Estimate
    nll: float | None
    queries: int | None


Curve = Mapping[int, Point | None]
"""Shot count -> point, in ascending order; None where the prompt does not fit the context."""


@dataclass(frozen=True, slots=True)
class TaskCurves:
    """One task, or the mean over several, before and after tuning.

    Attributes:
        name: The task's name; the suite's for the mean over the held-out tasks.
        metric: `exact_match` or `options`; empty for a mean.
        chance: Accuracy without looking at the input.
        before: The base model.
        after: The tuned model.
        group: Of `keepshot.tasks.example.Group`.
        zero_shot: Whether it was asked without examples alone, and has no part in the means.
        format_matches_target: Whether answers look as the target's do; None where the file does not say.
    """

    name: str
    metric: str
    chance: float
    before: Curve
    after: Curve
    group: str = "suite"
    zero_shot: bool = False
    format_matches_target: bool | None = None

    def asked_at(self, shots: int) -> int:
        """The shot count that stands for the task where `shots` stands for the others."""
        return 0 if self.zero_shot else shots


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of the few-shot ability above chance is left; 1 is all of it.

    Attributes:
        estimate: At the headline shot count; None where it cannot be measured.
        shots: The headline shot count.
        reason: Why there is no estimate.
        by_shots: The same at every shot count.
        nll: Mean answer NLL on the held-out tasks before and after, in nats.
        gain_kept: The share of the gain from examples (n-shot − zero-shot) that is left.
        groups: The same for parts of the suite.
        group_sizes: Tasks in each of them.
        minimum_detectable_drop: The drop that would be found significant with 80 % power; None where the file does not
            say.
    """

    estimate: Estimate | None
    shots: int | None
    reason: str
    by_shots: Mapping[int, Estimate | None]
    nll: tuple[float, float] | None
    gain_kept: Estimate | None
    groups: Mapping[str, Estimate | None]
    group_sizes: Mapping[str, int]
    minimum_detectable_drop: float | None


@dataclass(frozen=True, slots=True)
class Gate:
    """The verdict on the drop, 1 − retention: `pass`, `fail` or `insufficient`."""

    verdict: str
    max_drop: float
    reason: str


@dataclass(frozen=True, slots=True)
class StreamCost:
    """One stream's part of the training: computed tokens, their share of all, its fraction of the loss, episodes."""

    name: str
    tokens: int | None
    share: float | None
    weight: float | None
    episodes: int | None


@dataclass(frozen=True, slots=True)
class Cost:
    """What the training took; None where the file does not say."""

    train_seconds: float | None
    peak_memory_bytes: int | None
    tokens: int | None
    trainable_parameters: int | None
    total_parameters: int | None
    steps: int | None
    streams: tuple[StreamCost, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """One run: the base, the method, both pairs of curves and what follows from them.

    `gain` is zero-shot accuracy on the target, after minus before; None where that was not asked or does not fit.
    `prompt_path` is the folder of the soft prompt that the target was asked behind, as `model_path` is the model's;
    empty where there is none. `stop` is what ends an answer; empty where the file does not say or nothing does.
    """

    folder: Path
    name: str
    created: str
    base: str
    method: str
    model_path: str
    target: TaskCurves
    held_out: TaskCurves
    tasks: tuple[TaskCurves, ...]
    retention: Retention
    gain: Estimate | None
    gate: Gate
    cost: Cost
    settings: Mapping[str, object]
    data: Mapping[str, object]
    seed: int
    versions: Mapping[str, str]
    notes: tuple[str, ...]
    prompt_path: str = ""
    stop: tuple[str, ...] = ()

    @property
    def few_shot_tasks(self) -> int:
        """How many held-out tasks were asked with examples."""
        return sum(not task.zero_shot for task in self.tasks)

    @property
    def shots(self) -> int:
        """The shot count of the headline; where retention has none, the largest that both held-out curves have."""
        if self.retention.shots is not None:
            return self.retention.shots
        before, after = self.held_out.before, self.held_out.after
        return max((n for n in before if before[n] is not None and after.get(n) is not None), default=0)


def read_report(folder: str | Path) -> Report:
    """Read a run folder's `report.json`.

    What is missing beside the contract's own keys is read as absent, never guessed.

    Args:
        folder: What `keepshot tune` wrote.

    Raises:
        RunError: There is no report, or it is not one of keepshot.
    """
    folder = Path(folder)
    file = folder / "report.json"
    if not file.is_file():
        raise RunError(f"{folder} is not a run folder: it holds no report.json; give the output of `keepshot tune`")
    whole = Field(read_json(file), file)
    schema = whole.text_or("schema", SCHEMA)
    if schema != SCHEMA:
        raise RunError(f"{file} has the schema {schema!r}; this version of keepshot reads {SCHEMA!r}")
    held_out = whole.at("held_out")
    suite = held_out.text_or("suite", "held-out tasks")
    return Report(
        folder=folder,
        name=whole.text_or("name", folder.resolve().name),
        created=whole.text_or("created", ""),
        base=whole.at("base").text(),
        method=_method(whole.at("method")),
        model_path=whole.at("model_path").text(),
        target=_task(whole.at("target"), whole.at("target").text_or("task", "target")),
        held_out=TaskCurves(suite, "", 0.0, _curve(held_out.at("before")), _curve(held_out.at("after"))),
        tasks=tuple(_task(field, name) for name, field in held_out.at("tasks").items()),
        retention=_retention(whole.at("retention")),
        gain=_gain(whole),
        gate=_gate(whole.at("gate")),
        cost=_cost(whole.at("cost")),
        settings=whole.mapping_or_empty("settings"),
        data=whole.mapping_or_empty("data"),
        seed=int(whole.at("seed").number()),
        versions={name: version.text() for name, version in whole.at("versions").items()},
        notes=_notes(whole),
        prompt_path=whole.text_or("prompt_path", ""),
        stop=_stop(whole),
    )


def _task(field: Field, name: str) -> TaskCurves:
    matches = field.find("format_matches_target")
    return TaskCurves(
        name=name,
        metric=field.text_or("metric", ""),
        chance=field.number_or("chance", 0.0),
        before=_curve(field.at("before")),
        after=_curve(field.at("after")),
        group=field.text_or("group", "suite"),
        zero_shot=bool((alone := field.find("zero_shot")) and alone.value),
        format_matches_target=None if matches is None else bool(matches.value),
    )


def _curve(field: Field) -> Curve:
    points = {shots: None if point is None else _point(point) for shots, point in _by_shots(field)}
    if not points:
        raise RunError(f"{field.file}: {field.place} has no shot counts; a curve has at least one")
    return points


def _point(field: Field) -> Point:
    accuracy = Estimate(field.at("accuracy").number(), _interval(field))
    return Point(accuracy, field.number_or_none("nll"), field.integer_or_none("n"))


def _by_shots(field: Field) -> list[tuple[int, Field | None]]:
    """The entries of an object whose keys are shot counts, ascending; null entries as None."""
    entries: list[tuple[int, Field | None]] = []
    for name, entry in field.items():
        if not (name.isascii() and name.isdigit()):
            raise RunError(f"{entry.file}: {entry.place} is not under a shot count; the keys of a curve are 0, 1, 2, …")
        entries.append((int(name), None if entry.value is None else entry))
    return sorted(entries, key=lambda entry: entry[0])


def _interval(field: Field) -> Interval | None:
    low, high = field.number_or_none("low"), field.number_or_none("high")
    return None if low is None or high is None else Interval(low, high)


def _estimate(field: Field | None) -> Estimate | None:
    """None for null, for an object without a value, and for an object whose value is null."""
    if field is None or field.find("value") is None:
        return None
    return Estimate(field.at("value").number(), _interval(field))


def _retention(field: Field) -> Retention:
    nll, by_shots, groups = (field.find(name) for name in ("nll", "by_shots", "groups"))
    return Retention(
        estimate=_estimate(field),
        shots=field.integer_or_none("shots"),
        reason=field.text_or("reason", ""),
        by_shots={} if by_shots is None else {n: _estimate(entry) for n, entry in _by_shots(by_shots)},
        nll=None if nll is None else (nll.at("before").number(), nll.at("after").number()),
        gain_kept=_estimate(field.find("gain_kept")),
        groups={} if groups is None else {name: _estimate(groups.find(name)) for name, _ in groups.items()},
        group_sizes=_group_sizes(groups),
        minimum_detectable_drop=field.number_or_none("minimum_detectable_drop"),
    )


def _group_sizes(groups: Field | None) -> dict[str, int]:
    found = (
        {}
        if groups is None
        else {name: entry.integer_or_none("tasks") for name, entry in groups.items() if entry.value}
    )
    return {name: size for name, size in found.items() if size is not None}


def _gain(whole: Field) -> Estimate | None:
    gain, interval = whole.at("gain"), whole.find("gain_interval")
    if gain.value is None:
        return None
    return Estimate(gain.number(), None if interval is None else _interval(interval))


def _gate(field: Field) -> Gate:
    verdict = field.at("verdict")
    if verdict.value not in ("pass", "fail", "insufficient"):
        raise RunError(f"{field.file}: {verdict.place} is {verdict.value!r}, not pass, fail or insufficient")
    return Gate(verdict.text(), field.at("max_drop").number(), field.text_or("reason", ""))


def _cost(field: Field) -> Cost:
    streams = field.find("streams")
    return Cost(
        train_seconds=field.number_or_none("train_seconds"),
        peak_memory_bytes=field.integer_or_none("peak_memory_bytes"),
        tokens=field.integer_or_none("tokens"),
        trainable_parameters=field.integer_or_none("trainable_parameters"),
        total_parameters=field.integer_or_none("total_parameters"),
        steps=field.integer_or_none("steps"),
        streams=() if streams is None else tuple(_stream(name, stream) for name, stream in streams.items()),
    )


def _stream(name: str, field: Field) -> StreamCost:
    return StreamCost(
        name=name,
        tokens=field.integer_or_none("tokens"),
        share=field.number_or_none("share"),
        weight=field.number_or_none("weight"),
        episodes=field.integer_or_none("episodes"),
    )


def _method(field: Field) -> str:
    """A name, or a list of names as a config may give it, joined as keepshot shows them."""
    if isinstance(field.value, list):
        return "+".join(Field(part, field.file, field.place).text() for part in field.value)
    return field.text()


def _stop(whole: Field) -> tuple[str, ...]:
    prompt = whole.find("prompt")
    stop = None if prompt is None else prompt.find("stop")
    return () if stop is None else tuple(text.text() for text in stop.elements())


def _notes(whole: Field) -> tuple[str, ...]:
    notes = whole.find("notes")
    if notes is None:
        return ()
    parts = notes.value if isinstance(notes.value, list) else [notes.value]
    return tuple(Field(part, notes.file, notes.place).text() for part in parts)
