"""The search sees only what it measures: made-up models show whether it takes the right point."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepshot.evaluate import Estimate
from keepshot.models.interpolate import Group
from keepshot.runs.rescue_search import GRID, Found, Measured, Point, search

GROUPS: tuple[Group, ...] = ("query+key", "value+output", "mlp", "rest")
RATES = st.floats(0, 1).map(lambda rate: round(rate, 2))


def exactly(value: float) -> Estimate:
    return Estimate(value, value, value)


def searched(
    target: Mapping[Group, float], cost: Mapping[Group, float], *, groups: Sequence[Group] = GROUPS, **settings: object
) -> Found:
    """Each group adds to the target's accuracy (at most 1 in all) and costs retention, in proportion."""

    def measure(coefficients: Mapping[Group, float]) -> Measured:
        gain = sum(target[group] * coefficients[group] for group in groups)
        loss = sum(cost[group] * coefficients[group] for group in groups)
        return exactly(min(1.0, gain)), exactly(1 - loss)

    return search(measure, groups, **({"steps": 10, "max_loss": 0.01} | settings))


def test_the_common_coefficient_is_the_smallest_that_is_good_enough() -> None:
    found = searched(dict.fromkeys(GROUPS, 0.4), dict.fromkeys(GROUPS, 0.1), by_group=False)
    assert set(found.chosen.coefficients.values()) == {0.7}  # .62 x 1.6 = .99
    assert found.chosen.stage == "common"
    assert len(found.points) == 11


def test_a_group_that_only_harms_goes_back_to_the_base() -> None:
    target: dict[Group, float] = {"query+key": 0.0, "value+output": 1.0, "mlp": 1.0, "rest": 0.0}
    cost: dict[Group, float] = {"query+key": 0.4, "value+output": 0.1, "mlp": 0.1, "rest": 0.0}
    found = searched(target, cost)
    assert found.chosen.stage == "groups"
    assert found.chosen.coefficients["query+key"] == 0.0
    assert found.chosen.target.value >= 0.99
    assert found.chosen.retention.value > max(p.retention.value for p in found.points[:11] if p.target.value >= 0.99)


def test_the_target_is_not_given_up() -> None:
    found = searched(dict.fromkeys(GROUPS, 0.25), dict.fromkeys(GROUPS, 0.2))  # every step back costs accuracy
    assert set(found.chosen.coefficients.values()) == {1.0}
    assert found.chosen.retention.value == pytest.approx(0.2)
    assert found.reason.startswith("No point keeps more than the tuned model")


def test_what_may_be_given_up_counts_from_the_tuned_model() -> None:
    def measure(coefficients: Mapping[Group, float]) -> Measured:
        a = coefficients["all"]
        return exactly([0.0, 0.5, 0.9, 0.84, 0.8][round(4 * a)]), exactly(
            1 - a / 2
        )  # better on the way than at the end

    assert search(measure, ["all"], steps=4, max_loss=0.0).chosen.coefficients == {"all": 0.5}
    assert search(measure, ["all"], steps=4, max_loss=0.3).chosen.coefficients == {"all": 0.25}


def test_a_loss_of_just_what_is_allowed_is_allowed() -> None:
    accuracies = {0.0: 0.6, 0.5: 0.89, 1.0: 0.9}  # .9 - .89 is more than .01 in binary fractions

    def measure(coefficients: Mapping[Group, float]) -> Measured:
        return exactly(accuracies[coefficients["all"]]), exactly(1 - coefficients["all"])

    assert search(measure, ["all"], steps=2, max_loss=0.01).chosen.coefficients == {"all": 0.5}


def test_of_equals_the_one_with_more_of_the_target_and_then_of_the_tuning_is_taken() -> None:
    def measure(coefficients: Mapping[Group, float]) -> Measured:
        return exactly(min(1.0, 0.995 + coefficients["all"] / 100)), exactly(1.0)

    assert search(measure, ["all"], steps=4, max_loss=0.01).chosen.coefficients == {"all": 1.0}


def test_one_group_has_one_stage() -> None:
    found = searched({"all": 2.0}, {"all": 0.5}, groups=["all"])
    assert {point.stage for point in found.points} == {"common"}
    assert found.chosen.coefficients == {"all": 0.5}


def test_every_point_is_seen_once_and_in_order() -> None:
    seen: list[Point] = []
    found = searched(dict.fromkeys(GROUPS, 0.5), dict.fromkeys(GROUPS, 0.1), seen=seen.append)
    assert tuple(seen) == found.points
    places = [tuple(point.coefficients.items()) for point in seen]
    assert len(places) == len(set(places))


@given(target=st.tuples(*[RATES] * 4), cost=st.tuples(*[RATES] * 4), max_loss=RATES.filter(lambda rate: rate < 1))
def test_no_measured_point_is_better_than_the_chosen_one(
    target: tuple[float, ...], cost: tuple[float, ...], max_loss: float
) -> None:
    by_group = [dict(zip(GROUPS, rates, strict=True)) for rates in (target, cost)]
    found = searched(*by_group, max_loss=max_loss)
    least = found.points[10].target.value - max_loss - 1e-9
    assert found.chosen.target.value >= least
    assert found.chosen.retention.value == max(p.retention.value for p in found.points if p.target.value >= least)
    assert all(
        value in GRID
        for p in found.points
        if p.stage == "groups"
        for value in set(p.coefficients.values())
        - set(found.points[0].coefficients.values())
        - {i / 10 for i in range(11)}
    )
