import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepshot.evaluation import Estimate
from keepshot.runs.choice import (
    Pooled,
    Setting,
    Standing,
    averaged,
    choose,
    front,
    mean_by_seed,
    pooled,
    recommend,
    threshold,
)

RATES = st.floats(0, 1)


def setting(method: str, rate: float, accuracy: float | None, kept: float | None, steps: int = 100) -> Setting:
    return Setting(method, rate, steps, accuracy, kept)


def standing(
    name: str,
    low: float | None,
    high: float = 1.0,
    *,
    matched: bool = True,
    cost: float = 1.0,
    accuracy: float = 0.9,
) -> Standing:
    kept = None if low is None else Pooled((low + high) / 2, low, high, "seeds")
    return Standing(name, matched, Pooled(accuracy, accuracy, accuracy, "sets"), kept, cost)


def test_the_accuracy_to_match_is_that_of_the_best_baseline() -> None:
    settings = [setting("full", 1e-4, 0.8, 1.0), setting("full", 2e-4, 0.9, 0.5), setting("value", 1e-4, 1.0, 0.5)]
    assert threshold(settings, "full", 0.5) == 0.45
    assert threshold([setting("full", 1.0, None, None)], "full", 0.99) is None


def test_of_settings_that_match_the_one_that_keeps_most_is_chosen() -> None:
    settings = [
        setting("full", 1e-4, 0.90, 0.95),  # keeps most, does not match
        setting("full", 2e-4, 0.97, 0.70),
        setting("full", 3e-4, 0.96, 0.80),
        setting("full", 4e-4, 0.99, None),
        setting("value", 1e-4, 0.90, 0.9),
        setting("value", 5e-4, 0.95, 0.1),
        setting("lora", 1e-4, None, None),
    ]
    chosen = choose(settings, least=0.96)
    assert chosen.keys() == {"full", "value"}
    assert (chosen["full"].setting.learning_rate, chosen["full"].matched) == (3e-4, True)
    assert (chosen["value"].setting.learning_rate, chosen["value"].matched) == (5e-4, False)


def test_of_equal_settings_the_cheaper_then_the_gentler_is_chosen() -> None:
    settings = [
        setting("full", 1e-4, 0.9, 0.8, steps=200),
        setting("full", 2e-4, 0.9, 0.8, steps=100),
        setting("full", 1e-4, 0.9, 0.8, steps=100),
    ]
    found = choose(settings, least=0.5)["full"].setting
    assert (found.steps, found.learning_rate) == (100, 1e-4)
    assert choose(settings, least=0.95)["full"].setting == found


def test_the_accuracy_that_was_reached_is_matched_in_binary_fractions() -> None:
    third = sum([0.99, 0.99, 0.99]) / 3
    assert choose([setting("full", 1e-4, min(third, 0.99) - 1e-16, 0.5)], least=0.99)["full"].matched


def test_one_seed_has_the_interval_of_its_questions() -> None:
    found = pooled([Estimate(0.9, 0.8, 0.95)])
    assert (found.value, found.low, found.high) == pytest.approx((0.9, 0.8, 1.0))
    assert found.over == "sets"
    assert pooled([Estimate(0.9, 0.8, 1.0)], bounds=(0.0, 0.95)).high == 0.95


def test_seeds_that_differ_have_the_t_interval_and_seeds_that_agree_that_of_their_questions() -> None:
    apart = pooled([Estimate(value, value - 0.01, value + 0.01) for value in (0.8, 0.9, 1.0)])
    assert (apart.value, apart.over) == (pytest.approx(0.9), "seeds")
    assert apart.low == pytest.approx(0.9 - 4.302653 * 0.1 / 3**0.5, abs=1e-5)  # t(.975, 2) from a table
    alike = pooled([Estimate(0.9, 0.85, 0.95)] * 3)
    assert (alike.low, alike.high, alike.over) == (pytest.approx(0.85), pytest.approx(0.95), "sets")


@given(st.lists(st.tuples(RATES, RATES), min_size=1, max_size=5))
def test_no_interval_is_narrower_than_that_of_its_questions(parts: list[tuple[float, float]]) -> None:
    found = pooled([Estimate(value, value - half, value + half) for value, half in parts])
    assert found.high - found.value >= sum(half for _, half in parts) / len(parts) - 1e-9


def test_targets_are_averaged_seed_by_seed() -> None:
    found = averaged([Estimate(0.5, 0.4, 0.6), Estimate(1.0, 0.7, 1.0)])
    assert (found.value, found.low, found.high) == pytest.approx((0.75, 0.55, 0.8))


@given(st.lists(st.tuples(RATES, RATES), min_size=1, max_size=8))
def test_whatever_is_off_the_front_is_beaten_and_nothing_on_it_is(points: list[tuple[float, float]]) -> None:
    standings = [standing(str(i), y, y, accuracy=x) for i, (x, y) in enumerate(points)]
    best = {points[int(name)] for name in front(standings)}
    for x, y in points:
        beaten = any(a >= x and k >= y and (a, k) != (x, y) for a, k in points)
        assert ((x, y) in best) != beaten


def test_a_method_without_retention_is_not_on_the_front() -> None:
    assert front([standing("a", None, accuracy=1.0), standing("b", 0.1)]) == {"b"}


def test_the_highest_lower_bound_is_recommended() -> None:
    found = recommend([standing("wide", 0.80, 1.1), standing("sure", 0.9, 0.95)], max_cost=1.25)
    assert (found.verdict, found.method and found.method.method) == ("insufficient", "sure")
    assert found.next is not None
    assert found.next.method == "wide"
    clear = recommend([standing("sure", 0.9, 0.95), standing("far", 0.5, 0.89)], max_cost=1.25)
    assert clear.verdict == "clear"
    assert recommend([standing("one", 0.1)], max_cost=1.25).verdict == "clear"
    third = recommend([standing("a", 0.8, 0.9), standing("b", 0.77, 0.79), standing("c", 0.6, 1.1)], max_cost=1.25)
    assert (third.verdict, third.method and third.method.method) == ("insufficient", "a")
    assert third.next is not None
    assert third.next.method == "c"  # which may be better than a, and b is not


def test_of_equal_bounds_the_cheaper_comes_first() -> None:
    found = recommend([standing("dear", 0.9002, cost=1.2), standing("cheap", 0.9, cost=1.1)], max_cost=1.25)
    assert found.method is not None
    assert found.method.method == "cheap"


def test_only_what_matches_is_affordable_and_measured_qualifies() -> None:
    outside = [standing("a", 0.9, matched=False), standing("b", 0.9, cost=1.3), standing("c", None)]
    found = recommend(outside, max_cost=1.25)
    assert (found.verdict, found.method, found.next) == ("none", None, None)
    assert recommend([*outside, standing("d", 0.1)], max_cost=1.25).next is None


def test_a_mean_over_seeds_needs_all_of_them() -> None:
    assert mean_by_seed({0: 0.5, 1: 1.0}) == 0.75
    assert mean_by_seed({0: 0.5, 1: None}) is None
