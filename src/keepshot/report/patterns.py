"""Reading what an experiment on implicit patterns came to."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keepshot.errors import RunError
from keepshot.files import read_json
from keepshot.report.fields import Field
from keepshot.report.record import Estimate, Interval

SCHEMA = "keepshot.patterns/1"
SHARES = {
    "holds": "accuracy, pattern holds",
    "broken": "accuracy, pattern broken",
    "pattern_use": "shortcut taken, pattern broken",
}
Shares = Mapping[str, Estimate | None]
"""By key of `SHARES`."""


@dataclass(frozen=True, slots=True)
class TunedFigures:
    """A method, trained on a number of examples, at the setting that was best on validation.

    Attributes:
        zero: Without examples in the prompt.
        few: Behind examples.
        beyond: How much more often than the base in context it does the same, without examples.
        beyond_shots: Of the base there.
        retention: Of the few-shot ability on other tasks.
        failed: Why there are no figures; empty where there are.
    """

    method: str
    examples: int
    learning_rate: float | None
    steps: int | None
    zero: Shares
    few: Shares
    beyond: Shares
    beyond_shots: int | None
    retention: Estimate | None
    failed: str


@dataclass(frozen=True, slots=True)
class PatternFigures:
    """A task.

    Attributes:
        base: What the base answers, by number of examples in the prompt; None where they do not fit its context.
        constant: What the best constant answer reaches.
        shots: Examples that tuned models are asked behind.
        methods: In the order of the config.
    """

    name: str
    base: Mapping[int, Shares | None]
    constant: Shares
    shots: int
    methods: tuple[TunedFigures, ...]


@dataclass(frozen=True, slots=True)
class PatternsFound:
    """An experiment."""

    folder: Path
    created: str
    model: str
    suite: str
    seeds: int
    tasks: tuple[PatternFigures, ...]


def read_patterns(folder: str | Path) -> PatternsFound:
    """Read `patterns.json`.

    Raises:
        RunError: It is missing, or another file.
    """
    folder = Path(folder)
    file = folder / "patterns.json"
    whole = Field(read_json(file), file)
    if whole.at("schema").text() != SCHEMA:
        raise RunError(f"{file} is {whole.at('schema').text()}; this reads {SCHEMA}")
    tasks = tuple(_task(name, field, whole.at("shots").at(name)) for name, field in whole.at("tasks").items())
    return PatternsFound(
        folder,
        whole.at("created").text(),
        whole.at("model").text(),
        whole.at("suite").text(),
        len(list(whole.at("seeds").elements())),
        tasks,
    )


def _task(name: str, field: Field, shots: Field) -> PatternFigures:
    number = 0 if shots.value is None else int(shots.number())
    base = {int(count): None if found.value is None else _shares(found) for count, found in field.at("base").items()}
    methods = tuple(_method(one, number) for one in field.at("methods").elements())
    return PatternFigures(name, base, _shares(field.at("constant")), number, methods)


def _method(field: Field, shots: int) -> TunedFigures:
    name, examples = field.at("method").text(), int(field.at("examples").number())
    if failed := field.at("failed").text():
        return TunedFigures(name, examples, None, None, {}, {}, {}, None, None, failed)
    test = field.at("test")
    return TunedFigures(
        name,
        examples,
        field.at("learning_rate").number(),
        int(field.at("steps").number()),
        _shares(test.at("0")),
        _shares(test.at(str(shots))),
        _shares(field.at("beyond_context")),
        int(field.at("beyond_context").at("shots").number()),
        _estimate(field.find("retention")),
        "",
    )


def _shares(field: Field) -> Shares:
    return {share: _estimate(field.find(share)) for share in SHARES}


def _estimate(field: Field | None) -> Estimate | None:
    if field is None:
        return None
    low, high = field.find("low"), field.find("high")
    interval = None if low is None or high is None else Interval(low.number(), high.number())
    return Estimate(field.at("value").number(), interval)
