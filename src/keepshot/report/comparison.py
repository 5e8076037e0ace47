"""What a comparison found: `compare.json` as typed records."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keepshot.errors import RunError
from keepshot.files import read_json
from keepshot.report.fields import Field
from keepshot.report.record import Estimate, Interval

FILE = "compare.json"
SCHEMA = "keepshot.compare/1"


@dataclass(frozen=True, slots=True)
class MethodFigures:
    """A method on one target at its chosen setting, or over all targets.

    Attributes:
        name: Of the method.
        matched: Whether it reached the baseline's accuracy, on validation.
        accuracy: On the target, without examples.
        few_shot: On the target with as many examples as retention is given at; None where that was not measured.
        retention: None where it could not be measured.
        groups: Retention in parts of the suite.
        gate: `pass`, `fail` or `insufficient`.
        seconds: Of training.
        time_ratio: Training time, relative to the baseline's.
        token_ratio: Computed tokens, relative to the baseline's.
        within_cost: Whether the cost is at most what the comparison accepts.
        on_front: Whether no other method is as good in accuracy and retention and better in one.
        learning_rate: None over all targets, as what follows.
        steps: Of training.
        runs: Run folders by seed, relative to the comparison's.
    """

    name: str
    matched: bool
    accuracy: Estimate
    few_shot: Estimate | None
    retention: Estimate | None
    groups: Mapping[str, Estimate | None]
    gate: str
    seconds: float
    time_ratio: float
    token_ratio: float
    within_cost: bool
    on_front: bool
    learning_rate: float | None
    steps: int | None
    runs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Advice:
    """The recommendation: `clear`, `insufficient` or `none`, the method, the next best, and the reason."""

    verdict: str
    method: str
    next: str
    reason: str


@dataclass(frozen=True, slots=True)
class TriedSetting:
    """A setting with its figures on validation; None where they could not be measured."""

    method: str
    learning_rate: float
    steps: int
    accuracy: float | None
    retention: float | None


@dataclass(frozen=True, slots=True)
class TargetFigures:
    """One target.

    Attributes:
        name: Of the target.
        before: Accuracy of the base, without examples.
        shots: At which retention is given.
        threshold: The validation accuracy that was to be matched.
        methods: At their chosen settings.
        advice: For this target.
        tried: All settings.
        failed: Why methods have no setting, by name.
    """

    name: str
    before: float
    shots: int | None
    threshold: float
    methods: tuple[MethodFigures, ...]
    advice: Advice
    tried: tuple[TriedSetting, ...]
    failed: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A whole comparison; `methods` and `advice` are over all targets."""

    folder: Path
    name: str
    created: str
    base: str
    baseline: str
    suite: str
    match: float
    max_cost: float
    cost_by: str
    max_drop: float
    seeds: tuple[int, ...]
    methods: tuple[MethodFigures, ...]
    advice: Advice
    targets: tuple[TargetFigures, ...]
    versions: Mapping[str, str]
    notes: tuple[str, ...]


def read_comparison(folder: str | Path) -> Comparison:
    """Read what `keepshot compare` left.

    Args:
        folder: Of the comparison.

    Raises:
        RunError: There is no result, or it is not one of keepshot.
    """
    folder = Path(folder)
    file = folder / FILE
    if not file.is_file():
        raise RunError(f"{folder} holds no {FILE}; give the output of `keepshot compare`, finished")
    whole = Field(read_json(file), file)
    if whole.at("schema").value != SCHEMA:
        raise RunError(f"{file} has the schema {whole.at('schema').value!r}; this version reads {SCHEMA!r}")
    return Comparison(
        folder=folder,
        name=whole.text_or("name", folder.resolve().name),
        created=whole.text_or("created", ""),
        base=whole.at("base").text(),
        baseline=whole.at("baseline").text(),
        suite=whole.at("suite").text(),
        match=whole.at("match").number(),
        max_cost=whole.at("max_cost").number(),
        cost_by=whole.at("cost_by").text(),
        max_drop=whole.at("max_drop").number(),
        seeds=tuple(int(seed.number()) for seed in whole.at("seeds").elements()),
        methods=tuple(_method(entry) for entry in whole.at("methods").elements()),
        advice=_advice(whole.at("recommendation")),
        targets=tuple(_target(entry) for entry in whole.at("targets").elements()),
        versions={name: version.text() for name, version in whole.at("versions").items()},
        notes=tuple(note.text() for note in whole.at("notes").elements()),
    )


def _target(field: Field) -> TargetFigures:
    return TargetFigures(
        name=field.at("name").text(),
        before=field.at("before").number(),
        shots=field.integer_or_none("shots"),
        threshold=field.at("threshold").number(),
        methods=tuple(_method(entry) for entry in field.at("methods").elements()),
        advice=_advice(field.at("recommendation")),
        tried=tuple(_tried(entry) for entry in field.at("tried").elements()),
        failed={name: reason.text() for name, reason in field.at("failed").items()},
    )


def _method(field: Field) -> MethodFigures:
    cost, runs = field.at("cost"), field.find("runs")
    return MethodFigures(
        name=field.at("method").text(),
        matched=field.at("matched").value is True,
        accuracy=_estimate(field.at("accuracy")),
        few_shot=_estimate_or_none(field, "few_shot"),
        retention=_estimate_or_none(field, "retention"),
        groups={name: _estimate_or_none(field.at("groups"), name) for name, _ in field.at("groups").items()},
        gate=field.at("gate").text(),
        seconds=cost.at("train_seconds").number(),
        time_ratio=cost.at("time_ratio").number(),
        token_ratio=cost.at("token_ratio").number(),
        within_cost=cost.at("within").value is True,
        on_front=field.at("on_front").value is True,
        learning_rate=field.number_or_none("learning_rate"),
        steps=field.integer_or_none("steps"),
        runs=() if runs is None else tuple(run.text() for run in runs.elements()),
    )


def _tried(field: Field) -> TriedSetting:
    return TriedSetting(
        field.at("method").text(),
        field.at("learning_rate").number(),
        int(field.at("steps").number()),
        field.number_or_none("accuracy"),
        field.number_or_none("retention"),
    )


def _advice(field: Field) -> Advice:
    verdict = field.at("verdict").text()
    if verdict not in ("clear", "insufficient", "none"):
        raise RunError(f"{field.file}: {field.place}.verdict is {verdict!r}, not clear, insufficient or none")
    return Advice(verdict, field.text_or("method", ""), field.text_or("next", ""), field.at("reason").text())


def _estimate_or_none(field: Field, name: str) -> Estimate | None:
    found = field.find(name)
    return None if found is None else _estimate(found)


def _estimate(field: Field) -> Estimate:
    return Estimate(field.at("value").number(), Interval(field.at("low").number(), field.at("high").number()))
