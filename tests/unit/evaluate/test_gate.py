import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepshot.evaluate import Estimate, gate_verdict


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
