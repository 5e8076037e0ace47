"""Pass, fail, or not enough evidence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from keepshot.evaluation.statistics import Estimate, Evidence, minimum_detectable, sets_for

# 1 - .95 is a little more than .05 in binary fractions; a drop of just what is allowed is allowed.
ROUNDING = 1e-9

# So many times as many sets as were asked: beyond that the evaluation costs more than the training.
MOST_TIMES = 16

Verdict = Literal["pass", "fail", "insufficient"]


@dataclass(frozen=True, slots=True)
class GateResult:
    """A verdict with its reason in one sentence."""

    verdict: Verdict
    max_drop: float
    reason: str


def gate_verdict(retention: Estimate | None, max_drop: float, why_none: str = "") -> GateResult:
    """Judge the drop 1 - retention by its whole interval.

    Args:
        retention: With its 95 % interval; None if it could not be measured.
        max_drop: The largest drop that is accepted, as a fraction.
        why_none: Why there is no retention.

    Returns:
        `pass` if the interval lies within `max_drop`, `fail` if it lies beyond, else `insufficient`; the reason then
        says what drop the sets could tell and, at the measured spread, how many sets would decide.

    Example:
        >>> gate_verdict(Estimate(0.99, 0.97, 1.01), 0.05).verdict
        'pass'
        >>> gate_verdict(Estimate(0.93, 0.88, 0.98), 0.05).verdict
        'insufficient'
    """
    if retention is None:
        return GateResult("insufficient", max_drop, why_none or "retention could not be measured")
    drop = f"drop {1 - retention.value:.1%} [{1 - retention.high:.1%}, {1 - retention.low:.1%}]"
    if 1 - retention.low <= max_drop + ROUNDING:
        return GateResult("pass", max_drop, f"{drop} lies within {max_drop:.1%}")
    if 1 - retention.high > max_drop + ROUNDING:
        return GateResult("fail", max_drop, f"{drop} lies beyond {max_drop:.1%}")
    return GateResult(
        "insufficient", max_drop, f"{drop} reaches over {max_drop:.1%} on both sides{_what_helps(retention, max_drop)}"
    )


def gate_report(retention: Mapping[str, Any], max_drop: float) -> GateResult:
    """Judge the `retention` part of a `report.json`.

    Args:
        retention: `value`, `low` and `high`; `evidence` and `reason` where the report has them.
        max_drop: The largest drop that is accepted, as a fraction.

    Raises:
        KeyError: The value or its interval is missing.

    Example:
        >>> gate_report({"value": 0.8, "low": 0.7, "high": 0.9}, 0.05).reason
        'drop 20.0% [10.0%, 30.0%] lies beyond 5.0%'
    """
    value, low, high = retention["value"], retention["low"], retention["high"]
    if value is None or low is None or high is None:
        return gate_verdict(None, max_drop, retention.get("reason", ""))
    evidence = retention.get("evidence")
    found = Estimate(float(value), float(low), float(high), Evidence(**evidence) if evidence else None)
    return gate_verdict(found, max_drop)


def _what_helps(retention: Estimate, max_drop: float) -> str:
    """What the evidence can tell, and how much of it would decide if the drop stayed where it is."""
    if retention.evidence is None:
        return ""
    sets = retention.evidence.sets
    needed = sets_for(retention, abs(1 - retention.value - max_drop), MOST_TIMES * sets)
    told = f"; {sets} demonstration sets can tell drops of {minimum_detectable(retention):.1%} or more from none"
    if needed is None:
        return f"{told}, and more will hardly decide so near to the limit; a method that keeps more would"
    return f"{told}; about {needed} (evaluate.sets) with as many queries each would decide"
