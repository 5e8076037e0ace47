"""The search sees only what it measures: made-up models show whether it takes the right point."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepshot.evaluation import Estimate
from keepshot.models.interpolate import Group
from keepshot.runs.rescue_search import Found, Measured, Point, search

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
        accuracy = min(1.0, gain)
        best = min(1.0, sum(target[group] for group in groups))
        return Measured(exactly(accuracy), best - accuracy, exactly(1 - loss))

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
    assert found.chosen.measured.target.value >= 0.99
    assert found.chosen.measured.retention.value > max(
        p.measured.retention.value for p in found.points[:11] if p.measured.target.value >= 0.99
    )


def test_the_target_is_not_given_up() -> None:
    found = searched(dict.fromkeys(GROUPS, 0.25), dict.fromkeys(GROUPS, 0.2))  # every step back costs accuracy
    assert set(found.chosen.coefficients.values()) == {1.0}
    assert found.chosen.measured.retention.value == pytest.approx(0.2)
    assert found.reason.startswith("No point keeps more than the tuned model")


def on_the_line(accuracies: Sequence[float], losses: Sequence[float], kept: Sequence[float], max_loss: float) -> float:
    """The coefficient that is chosen of as many as there are accuracies."""
    steps = len(accuracies) - 1

    def measure(coefficients: Mapping[Group, float]) -> Measured:
        at = round(coefficients["all"] * steps)
        return Measured(exactly(accuracies[at]), losses[at], exactly(kept[at]))

    return search(measure, ["all"], steps=steps, max_loss=max_loss).chosen.coefficients["all"]


def test_the_loss_decides_and_not_the_accuracy() -> None:
    accuracies, kept = [0.0, 0.9, 0.9, 0.9, 0.9], [1.0, 0.9, 0.8, 0.7, 0.6]
    assert on_the_line(accuracies, [0.9, 0.03, 0.02, 0.01, 0.0], kept, 0.02) == 0.5
    assert on_the_line(accuracies, [0.9, 0.03, 0.02, 0.01, 0.0], kept, 0.0) == 1.0
    assert on_the_line(accuracies, [0.9, -0.01, 0.02, 0.01, 0.0], kept, 0.0) == 0.25  # better than the tuned model


def test_a_loss_of_just_what_is_allowed_is_allowed() -> None:
    assert on_the_line([0.6, 0.89, 0.9], [0.3, 0.9 - 0.89, 0.0], [1.0, 0.9, 0.8], 0.01) == 0.5  # .9 - .89 > .01


def test_of_equals_the_one_with_more_of_the_target_and_then_of_the_tuning_is_taken() -> None:
    assert on_the_line([0.98, 0.99, 1.0, 0.99, 1.0, 0.97], [0.0] * 6, [1.0] * 6, 0.01) == 0.8
    assert on_the_line([0.5] * 6, [0.0] * 6, [0.9, 1.0, 1.0, 1.0, 1.0, 0.9], 0.01) == 0.8


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
    allowed = [point.measured.retention.value for point in found.points if point.measured.loss <= max_loss + 1e-9]
    assert found.chosen.measured.loss <= max_loss + 1e-9
    assert found.chosen.measured.retention.value == max(allowed)
