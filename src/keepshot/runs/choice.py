"""Which setting stands for a method, which methods no other beats, and which one to take. Pure functions of figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from keepshot.evaluation import Estimate, mean_estimate

Over = Literal["seeds", "sets"]
# A mean over seeds of what was just reached is a little less in binary fractions.
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Setting:
    """A method at one learning rate and number of steps, with what its cells came to on validation.

    Attributes:
        method: Its name.
        learning_rate: Of the optimiser.
        steps: Of the optimiser.
        accuracy: On the target, without examples, mean over seeds; None where a training failed.
        retention: Of the validation suite, mean over seeds; None where it could not be measured.
    """

    method: str
    learning_rate: float
    steps: int
    accuracy: float | None
    retention: float | None


@dataclass(frozen=True, slots=True)
class Choice:
    """The setting that stands for a method, and whether it reaches the accuracy that is to be matched."""

    setting: Setting
    matched: bool


@dataclass(frozen=True, slots=True)
class Pooled:
    """An estimate over training seeds, with what its interval rests on: the spread of seeds, or that of questions."""

    value: float
    low: float
    high: float
    over: Over


@dataclass(frozen=True, slots=True)
class Standing:
    """What a method came to on the questions that report.

    Attributes:
        method: Its name.
        matched: Whether its setting reached the accuracy that was to be matched, on validation.
        accuracy: On the target, without examples.
        retention: None where it could not be measured.
        cost: Of the training, relative to the baseline's.
    """

    method: str
    matched: bool
    accuracy: Pooled
    retention: Pooled | None
    cost: float


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The method to take.

    Attributes:
        verdict: `clear` where its interval lies above that of the next, `insufficient` where they overlap, `none` where
            no method qualifies.
        method: None where no method qualifies.
        next: The next best that qualifies; None where there is none.
    """

    verdict: Literal["clear", "insufficient", "none"]
    method: Standing | None
    next: Standing | None


def threshold(settings: Sequence[Setting], baseline: str, match: float) -> float | None:
    """The validation accuracy to match: a fraction of the best of the baseline; None where all its trainings failed."""
    found = [one.accuracy for one in settings if one.method == baseline and one.accuracy is not None]
    return match * max(found) if found else None


def choose(settings: Sequence[Setting], least: float) -> dict[str, Choice]:
    """The setting of every method: of those that reach the accuracy `least`, the one that keeps most.

    A method that reaches it nowhere is represented by its most accurate setting. Of equals the one with fewer steps is
    taken, then the one with the lower learning rate. A method whose every training failed is left out.

    Example:
        >>> kept, accurate = Setting("full", 1e-4, 50, 0.97, 0.9), Setting("full", 2e-4, 50, 0.99, 0.6)
        >>> choose([kept, accurate], least=0.96)["full"].setting.learning_rate
        0.0001
    """
    chosen = {}
    for method in dict.fromkeys(one.method for one in settings):
        usable = [one for one in settings if one.method == method and one.accuracy is not None]
        reaching = [one for one in usable if _number(one.accuracy) >= least - ROUNDING]
        if reaching:
            best = max(reaching, key=lambda one: (_number(one.retention), *_cheapness(one)))
        elif usable:
            best = max(usable, key=lambda one: (_number(one.accuracy), *_cheapness(one)))
        else:
            continue
        chosen[method] = Choice(best, bool(reaching))
    return chosen


def pooled(by_seed: Sequence[Estimate], bounds: tuple[float, float] = (-np.inf, np.inf)) -> Pooled:
    """The mean over seeds that were all asked the same questions, with the wider of two intervals.

    One is the t interval of the seeds' values: what another training would give on these questions. The other is the
    mean of the seeds' own intervals over demonstration sets: what these trainings would give on other questions. Of
    one seed there is only the latter; a few seeds that happen to agree are no more certain than their questions.

    Args:
        by_seed: One estimate per seed.
        bounds: What a value can be.

    Example:
        >>> pooled([Estimate(0.9, 0.85, 0.95)]).over
        'sets'
        >>> pooled([Estimate(0.9, 0.89, 0.91), Estimate(0.8, 0.79, 0.81)]).over
        'seeds'
    """
    values = [one.value for one in by_seed]
    center = float(np.mean(values))
    sets = float(np.mean([max(one.value - one.low, one.high - one.value) for one in by_seed]))
    spread = mean_estimate(values)
    seeds = spread.high - center if spread is not None else 0.0
    half = max(sets, seeds)
    low, high = max(center - half, bounds[0]), min(center + half, bounds[1])
    return Pooled(center, low, high, "seeds" if seeds > sets else "sets")


def averaged(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of one seed's estimates on several targets; its half-width is theirs on average, which is careful."""
    value, low, high = np.mean([(one.value, one.low, one.high) for one in estimates], axis=0).tolist()
    return Estimate(value, low, high)


def front(standings: Sequence[Standing]) -> set[str]:
    """The methods that no other beats: none is as good both in accuracy and in retention, and better in one."""
    points = {one.method: (one.accuracy.value, one.retention.value) for one in standings if one.retention is not None}
    return {
        method
        for method, (accuracy, kept) in points.items()
        if not any(a >= accuracy and k >= kept and (a, k) != (accuracy, kept) for a, k in points.values())
    }


def recommend(standings: Sequence[Standing], max_cost: float) -> Recommendation:
    """Of the methods that match and cost at most `max_cost`, the one whose retention has the highest lower bound.

    Bounds that agree to a tenth of a per cent are equal, and the cheaper method comes first. It is clear where its
    interval lies above all others'; else the one that reaches highest is named beside it. The winner's figure is that
    of the best of several, so it flatters a little.
    """
    ranked = sorted(
        (one for one in standings if one.matched and one.retention is not None and one.cost <= max_cost),
        key=lambda one: (-round(_low(one), 3), one.cost),
    )
    if not ranked:
        return Recommendation("none", None, None)
    first, *others = ranked
    highest = max(others, key=_high, default=None)
    if highest is not None and _high(highest) >= _low(first):
        return Recommendation("insufficient", first, highest)
    return Recommendation("clear", first, others[0] if others else None)


def mean_by_seed(values: Mapping[int, float | None]) -> float | None:
    """The mean over seeds; None where one seed has no value."""
    known = [value for value in values.values() if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _cheapness(setting: Setting) -> tuple[int, float]:
    return -setting.steps, -setting.learning_rate


def _number(value: float | None) -> float:
    return float("-inf") if value is None else value


def _low(standing: Standing) -> float:
    return standing.retention.low if standing.retention is not None else float("-inf")


def _high(standing: Standing) -> float:
    return standing.retention.high if standing.retention is not None else float("inf")
