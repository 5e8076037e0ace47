"""Pass, fail, or not enough evidence."""

from dataclasses import dataclass
from typing import Literal

from keepshot.evaluate.statistics import Estimate

# 1 - .95 is a little more than .05 in binary fractions; a drop of just what is allowed is allowed.
ROUNDING = 1e-9

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
        `pass` if the interval lies within `max_drop`, `fail` if it lies beyond, else `insufficient`.

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
        "insufficient",
        max_drop,
        f"{drop} reaches over {max_drop:.1%} on both sides",
    )
