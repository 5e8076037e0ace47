"""What comparisons on several targets come to: a row for every method, and what that says of the hypotheses."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keepshot.evaluation import Estimate, mean_estimate
from keepshot.runs.choice import Pooled, averaged, pooled

# Columns of `compare.csv` that have a mean in the table, with their titles.
PARTS = {
    "retention_inputs_like": "inputs like the target's",
    "retention_inputs_unlike": "other inputs",
    "retention_other_families": "other families",
    "retention_families_practised": "families practised",
    "retention_knowledge": "known by heart",
    "retention_instructed_knowledge": "the same, instructed",
    "retention_instructed": "instructions",
}
# Claims in circulation (hypotheses, not results) and predictions of a theory: method, what is claimed of its loss.
CLAIMED_LOSS = {
    "full": ("H1", "full fine-tuning loses about 31 %", 0.31),
    "lora": ("H2", "LoRA loses about 9 %", 0.09),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A training that stands for its method, as a line of `compare.csv` has it.

    Attributes:
        target: Trained on.
        method: Its name.
        seed: Of the training.
        matched: Whether the method's setting reached the baseline's accuracy, on validation.
        accuracy: On the target's test part, without examples.
        few_shot: The same with as many examples as retention is given at; None where that was not measured.
        retention: None where it could not be measured.
        parts: Retention by column, where it could be measured.
        seconds: Of training.
        tokens: Computed in training.
    """

    target: str
    method: str
    seed: int
    matched: bool
    accuracy: float
    few_shot: float | None
    retention: Estimate | None
    parts: Mapping[str, float]
    seconds: float
    tokens: float


@dataclass(frozen=True, slots=True)
class Summary:
    """A method over its targets.

    Attributes:
        name: Of the method.
        targets: How many have it.
        everywhere: Whether all have it.
        matched: On how many it reached the baseline's accuracy.
        accuracy: Mean, without examples.
        few_shot: Mean, with examples.
        retention: Mean over targets, with the wider of the intervals over seeds and over demonstration sets.
        worst: The lowest retention on a target, mean over seeds.
        parts: Means by column.
        time_ratio: Training time over the baseline's, mean over targets.
        token_ratio: Computed tokens over the baseline's, mean over targets.
    """

    name: str
    targets: int
    everywhere: bool
    matched: int
    accuracy: float
    few_shot: float | None
    retention: Pooled | None
    worst: float | None
    parts: Mapping[str, float | None]
    time_ratio: float
    token_ratio: float


def read_rows(path: Path) -> list[Row]:
    """The chosen trainings of a `compare.csv`."""
    with path.open(encoding="utf-8", newline="") as file:
        return [_row(line) for line in csv.DictReader(file) if line["chosen"] == "1"]


def _row(line: Mapping[str, str]) -> Row:
    kept = None
    if line["retention"]:
        kept = Estimate(*(float(line[name]) for name in ("retention", "retention_low", "retention_high")))
    return Row(
        target=line["target"],
        method=line["method"],
        seed=int(line["seed"]),
        matched=line["matched"] == "1",
        accuracy=float(line["accuracy"]),
        few_shot=float(line["accuracy_few_shot"]) if line["accuracy_few_shot"] else None,
        retention=kept,
        parts={name: float(line[name]) for name in PARTS if line.get(name)},
        seconds=float(line["train_seconds"]),
        tokens=float(line["tokens"]),
    )


def summary(rows: Sequence[Row], baseline: str) -> list[Summary]:
    """Every method over its targets, the best first."""
    targets = list(dict.fromkeys(row.target for row in rows))
    plain = {target: _of(rows, baseline, target) for target in targets}
    found = []
    for method in dict.fromkeys(row.method for row in rows):
        mine = _of(rows, method)
        there = list(dict.fromkeys(row.target for row in mine))
        by_target = {target: _of(mine, method, target) for target in there}
        found.append(
            Summary(
                name=method,
                targets=len(there),
                everywhere=len(there) == len(targets),
                matched=sum(of_target[0].matched for of_target in by_target.values()),
                accuracy=_mean([row.accuracy for row in mine]),
                few_shot=_mean_of_all([row.few_shot for row in mine]),
                retention=_pooled(by_target),
                worst=_worst(by_target),
                parts={name: _mean_of_known([row.parts.get(name) for row in mine]) for name in PARTS},
                time_ratio=_mean(
                    [_ratio([row.seconds for row in by_target[t]], [r.seconds for r in plain[t]]) for t in there]
                ),
                token_ratio=_mean(
                    [_ratio([row.tokens for row in by_target[t]], [r.tokens for r in plain[t]]) for t in there]
                ),
            )
        )
    return sorted(found, key=lambda one: -1.0 if one.retention is None else one.retention.value, reverse=True)


def best(methods: Sequence[Summary], max_cost: float, cost: str = "time") -> Summary | None:
    """Of the methods that match on all targets at no more than `max_cost` the time, the one with the highest bound.

    Args:
        methods: All.
        max_cost: Over the baseline's.
        cost: `time` or `tokens`, as in the config of a comparison.
    """
    able = [one for one in methods if one.everywhere and one.matched == one.targets]
    able = [one for one in able if (one.time_ratio if cost == "time" else one.token_ratio) <= max_cost]
    able = [one for one in able if one.retention is not None]
    return max(able, key=lambda one: one.retention.low if one.retention else 0.0, default=None)


def table(methods: Sequence[Summary]) -> str:
    """A Markdown table."""
    titles = [
        "method",
        "matched",
        "target",
        "with examples",
        "kept",
        "lowest target",
        *PARTS.values(),
        "tokens",
        "time",
    ]
    lines = [titles, ["---"] * len(titles)]
    for one in methods:
        lines.append(
            [
                f"`{one.name}`",
                f"{one.matched} of {one.targets}",
                _shown(one.accuracy),
                _shown(one.few_shot),
                "" if one.retention is None else f"**{_shown(one.retention.value)}** {_interval(one.retention)}",
                _shown(one.worst),
                *(_shown(one.parts[name]) for name in PARTS),
                f"{one.token_ratio:.2f} x",
                f"{one.time_ratio:.2f} x",
            ]
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def statements(rows: Sequence[Row], methods: Sequence[Summary], baseline: str) -> list[str]:
    """What the table says of the hypotheses, with intervals over targets."""
    kept = {one.name: one.retention for one in methods}
    said = []
    for name, (number, claim, loss) in CLAIMED_LOSS.items():
        found = kept.get(name)
        if found is not None:
            inside = "holds it" if 1 - found.high <= loss <= 1 - found.low else "does not hold it"
            low, high = _shown(1 - found.high), _shown(1 - found.low)
            said.append(f"{number}, {claim}: {_shown(1 - found.value)} [{low}, {high}] are lost, which {inside}.")
    if (general := kept.get("full+general")) is not None:
        holds = "yes" if general.low >= 0.95 else "no" if general.high < 0.95 else "not decided"
        said.append(
            f"H3, a tenth of general data brings the loss within 5 %: {_shown(1 - general.value)} lost, {holds}."
        )
    for number, name, other, claim in (
        ("H4", "full+icl-kl", "full+general", "a regulariser without labels does as well as general data"),
        ("H4", "full+self-anchor", "full+general", "the same, without any further data"),
        ("T1", "value", baseline, "value-only tuning keeps more than full tuning"),
        ("T2", "query-key", baseline, "query-key tuning keeps less than full tuning"),
        ("T3", "full+few-shot", baseline, "the auxiliary few-shot loss harms other tasks"),
    ):
        found = difference(rows, name, other)
        if found is not None:
            said.append(f"{number}, {claim}: {name} minus {other} is {found.value:+.3f} {_interval(found)}.")
    gained = difference(rows, "full+few-shot", baseline, few_shot=True)
    if gained is not None:
        said.append(f"T4, it helps the target with examples: {gained.value:+.3f} {_interval(gained)} in accuracy.")
    return said


def difference(rows: Sequence[Row], method: str, other: str, *, few_shot: bool = False) -> Estimate | None:
    """Retention (or accuracy with examples) of one method minus another's: seeds averaged, interval over targets."""
    values = []
    for target in dict.fromkeys(row.target for row in rows):
        pair = [_worth(_of(rows, name, target), few_shot) for name in (method, other)]
        if pair[0] is not None and pair[1] is not None:
            values.append(pair[0] - pair[1])
    return mean_estimate(values)


def _worth(rows: Sequence[Row], few_shot: bool) -> float | None:
    return _mean_of_all(
        [row.few_shot if few_shot else (row.retention.value if row.retention else None) for row in rows]
    )


def _of(rows: Sequence[Row], method: str, target: str = "") -> list[Row]:
    return [row for row in rows if row.method == method and target in ("", row.target)]


def _pooled(by_target: Mapping[str, Sequence[Row]]) -> Pooled | None:
    seeds = sorted({row.seed for rows in by_target.values() for row in rows})
    by_seed = []
    for seed in seeds:
        found = [row.retention for rows in by_target.values() for row in rows if row.seed == seed]
        known = [one for one in found if one is not None]
        if len(known) < len(by_target):
            return None
        by_seed.append(averaged(known))
    return pooled(by_seed)


def _worst(by_target: Mapping[str, Sequence[Row]]) -> float | None:
    means = [_worth(rows, few_shot=False) for rows in by_target.values()]
    known = [mean for mean in means if mean is not None]
    return min(known, default=None)


def _ratio(values: Sequence[float], others: Sequence[float]) -> float:
    return _mean(values) / _mean(others)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _mean_of_all(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _mean(known) if known and len(known) == len(values) else None


def _mean_of_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _mean(known) if known else None


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}".removeprefix("0") if 0 <= value < 1 else f"{value:.3f}"


def _interval(found: Pooled | Estimate) -> str:
    return f"[{found.low:.3f}, {found.high:.3f}]"
