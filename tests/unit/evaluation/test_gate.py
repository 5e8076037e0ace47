from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepshot.evaluation.gate import gate_report, gate_verdict
from keepshot.evaluation.statistics import Estimate, Evidence


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.97, 1.01, "pass"),
        (0.95, 0.99, "pass"),  # a drop of 5 % at most is within 5 %
        (0.95, 0.95, "pass"),
        (0.9499, 0.99, "insufficient"),
        (0.9, 0.95, "insufficient"),  # a drop of 5 % is not beyond 5 %
        (0.9, 0.9499, "fail"),
        (-0.2, 0.3, "fail"),
    ],
)
def test_the_whole_interval_is_judged(low, high, verdict):
    assert gate_verdict(Estimate((low + high) / 2, low, high), 0.05).verdict == verdict


@pytest.mark.parametrize("percent", range(101))
def test_a_drop_of_just_what_is_allowed_passes(percent):
    retention = (100 - percent) / 100
    assert gate_verdict(Estimate(retention, retention, retention), percent / 100).verdict == "pass"


@given(st.tuples(*[st.floats(-1, 2)] * 3).map(sorted), st.floats(0, 1), st.floats(0, 0.5))
def test_a_laxer_gate_is_never_harder(ends, max_drop, more):
    low, value, high = ends
    order = ["fail", "insufficient", "pass"]
    strict, lax = (
        order.index(gate_verdict(Estimate(value, low, high), d).verdict) for d in (max_drop, max_drop + more)
    )
    assert strict <= lax


def test_the_reason_gives_the_drop_with_its_interval():
    result = gate_verdict(Estimate(0.93, 0.88, 0.98), 0.05)
    assert result.reason.startswith("drop 7.0% [2.0%, 12.0%]")
    assert result.max_drop == 0.05


def test_without_retention_there_is_not_enough_evidence():
    assert gate_verdict(None, 0.05, "the base cannot do it").reason == "the base cannot do it"
    silent = gate_verdict(None, 0.05)
    assert (silent.verdict, silent.reason) == ("insufficient", "retention could not be measured")


T7 = 2.364624


def measured(value, half, error=None):
    """Retention from eight sets; half the interval is what their spread gives, unless the error is given."""
    return Estimate(value, value - half, value + half, Evidence(half / T7 if error is None else error, 8, 7))


@pytest.mark.parametrize(
    ("retention", "words"),
    [
        # Standard error .021145 and t(.8) = .896 detect .05 + .019; with n sets, t(n - 1) x .021145 x sqrt(8 / n) is
        # .0307 for 17 and .0297 for 18.
        (measured(0.92, 0.05), "8 demonstration sets can tell drops of 6.9% or more from none; about 18 (eval"),
        # What goes unseen is .15 x 8 / 24 with 24 sets.
        (measured(1.0, 0.15, 0.0), "8 demonstration sets can tell drops of 15.0% or more from none; about 24 "),
        (measured(0.95, 0.05), "and more will hardly decide so near to the limit"),
        (measured(0.949, 0.05), "and more will hardly decide so near to the limit"),
    ],
)
def test_without_enough_evidence_the_reason_says_how_much_would_do(retention, words):
    result = gate_verdict(retention, 0.05)
    assert result.verdict == "insufficient"
    assert words in result.reason


def test_an_estimate_without_its_evidence_promises_nothing():
    assert gate_verdict(Estimate(0.93, 0.88, 0.98), 0.05).reason.endswith("on both sides")


@pytest.mark.parametrize("half", [0.01, 0.05])
def test_a_report_is_judged_as_the_estimate_in_it(half):
    estimate = measured(0.93, half)
    report = {**asdict(estimate), "shots": 16}
    assert gate_report(report, 0.05) == gate_verdict(estimate, 0.05)
    older = {name: report[name] for name in ("value", "low", "high")}
    assert gate_report(older, 0.05).verdict == gate_verdict(estimate, 0.05).verdict
    missing = {"value": None, "low": None, "high": None, "evidence": None, "reason": "the base cannot do it"}
    assert gate_report(missing, 0.05) == gate_verdict(None, 0.05, "the base cannot do it")
