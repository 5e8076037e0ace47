"""Closed forms give the specified numbers."""

import pytest
from tests.unit.theory import golden

from keepshot.theory.full import balanced_w, best_sparse_risk, full_risk, full_risk_limit
from keepshot.theory.label_weight import (
    few_shot_optimum,
    mean_label_weight,
    paper_label_weight,
    task_label_weight,
    task_label_weight_limit,
)
from keepshot.theory.pretrained import harmful_shots, pretrained, pretrained_paper, scaled_risk
from keepshot.theory.regression import Geometry, isotropic, target
from keepshot.theory.value import value_risk, value_risk_limit

SAME, OPPOSITE, ORTHOGONAL = Geometry(1.0, 1.0, 1.0), Geometry(1.0, 1.0, -1.0), Geometry(1.0, 1.0, 0.0)
SETTING = isotropic(5, 0.1)


def near(value: float) -> object:
    return pytest.approx(value, abs=5.1e-5)


def row(shots: int, tasks: Geometry) -> tuple[float, ...]:
    return (
        scaled_risk(shots, 5, 0.1, tasks.power, 20 / 26),
        full_risk(shots, tasks, 0.1, 0.52),
        value_risk(shots, tasks, 5, 0.1, 20 / 26),
        value_risk(shots, tasks, 5, 0.1, 0.66),
    )


@pytest.mark.parametrize("shots", golden.PLUS_MINUS)
def test_errors_on_the_target_and_its_opposite(shots: int) -> None:
    assert row(shots, SAME) + row(shots, OPPOSITE) == near(golden.PLUS_MINUS[shots])


@pytest.mark.parametrize("shots", golden.ORTHOGONAL)
def test_errors_on_an_orthogonal_task(shots: int) -> None:
    assert row(shots, ORTHOGONAL) == near(golden.ORTHOGONAL[shots])


@pytest.mark.parametrize("shots", golden.LABEL_WEIGHT)
def test_best_label_weights(shots: int) -> None:
    weights = tuple(task_label_weight(shots, tasks, 5, 0.1) for tasks in (SAME, OPPOSITE, ORTHOGONAL))
    assert weights == near(golden.LABEL_WEIGHT[shots])
    assert mean_label_weight(shots, 5, 0.1, 1.0) == pytest.approx(weights[2], abs=1e-12)


def test_limits_of_the_label_weight() -> None:
    limits = [task_label_weight_limit(tasks, 5) for tasks in (SAME, OPPOSITE, ORTHOGONAL)]
    assert limits == pytest.approx([8 / 9, 10 / 9, 1])
    for limit, tasks in zip(limits, (SAME, OPPOSITE, ORTHOGONAL), strict=True):
        assert task_label_weight(10**9, tasks, 5, 0.1) == pytest.approx(limit, abs=1e-6)


@pytest.mark.parametrize("dimension", golden.FIGURE_1)
def test_figure_1(dimension: int) -> None:
    scale, setting = 1000 / (1001 + dimension), isotropic(dimension, 0.0)
    error = [scaled_risk(shots, dimension, 0.0, 1.0, scale) for shots in range(40)]
    bound = harmful_shots(setting, pretrained_paper(setting, 1000).A, target(dimension)) + 1
    *errors, expected_bound = golden.FIGURE_1[dimension]
    assert [error[n] for n in (0, 1, dimension - 2, dimension - 1, 20)] == near(errors)
    assert bound == pytest.approx(expected_bound, abs=5.1e-4)
    assert [n for n in range(1, 40) if error[n] > error[0]] == list(range(1, dimension - 1))


@pytest.mark.parametrize("w", golden.FIGURE_2)
def test_figure_2(w: float) -> None:
    assert [full_risk(n, SAME, 0.1, w) for n in golden.FIGURE_SHOTS] == near(list(golden.FIGURE_2[w]))
    assert full_risk(0, SAME, 0.1, w) == pytest.approx(0.1, abs=1e-12)


@pytest.mark.parametrize("w", golden.FIGURE_3)
def test_figure_3(w: float) -> None:
    assert [value_risk(n, SAME, 5, 0.1, w) for n in golden.FIGURE_SHOTS] == near(list(golden.FIGURE_3[w]))
    assert value_risk(0, SAME, 5, 0.1, w) == pytest.approx(0.1 + 2 / 9, abs=1e-12)


def test_errors_with_very_many_examples() -> None:
    assert full_risk(10**9, ORTHOGONAL, 0.1, 3.0) == pytest.approx(full_risk_limit(ORTHOGONAL, 0.1), abs=1e-6)
    for tasks in (SAME, OPPOSITE, ORTHOGONAL):
        assert value_risk(10**9, tasks, 5, 0.1, 0.7) == pytest.approx(value_risk_limit(tasks, 5, 0.1, 0.7), abs=1e-6)


def test_few_shots_are_worse_than_none_below_the_threshold() -> None:
    assert harmful_shots(SETTING, pretrained_paper(SETTING, 20).A, target(5)) == pytest.approx(2.4375, abs=1e-9)


def test_zero_shot_errors_off_the_target() -> None:
    assert value_risk(0, OPPOSITE, 5, 0.1, 0.3) == pytest.approx(0.1 + 30 / 9)
    assert value_risk(0, ORTHOGONAL, 5, 0.1, 0.3) == pytest.approx(0.1 + 16 / 9)


@pytest.mark.parametrize(
    ("weight", "c", "w"), [(0.25, 0.11147, 0.65365), (1.0, 0.11253, 0.65232), (4.0, 0.11675, 0.64706)]
)
def test_few_shot_loss(weight: float, c: float, w: float) -> None:
    tuned = few_shot_optimum(SETTING, SETTING.covariance, [target(5)], 20, weight)
    assert (float(tuned.v @ target(5)), tuned.w) == (pytest.approx(c, abs=5.1e-6), pytest.approx(w, abs=5.1e-6))


def test_few_shot_loss_with_a_vanishing_weight() -> None:
    tuned = few_shot_optimum(SETTING, SETTING.covariance, [target(5)], 20, 1e-7)
    assert tuned.v == pytest.approx(target(5) / 9, abs=1e-5)
    assert tuned.w == pytest.approx(task_label_weight(20, SAME, 5, 0.1), abs=1e-5)


def test_constants_of_pretraining() -> None:
    assert pretrained(SETTING, 20).A[0, 0] == pytest.approx(21 / 26.5)
    assert pretrained_paper(SETTING, 20).A[0, 0] == pytest.approx(paper_label_weight(20, 5))
    assert mean_label_weight(20, 5, 0.1, 1.0) == pytest.approx(21 / 26.5)
    assert balanced_w(5, 21 / 26.5) == pytest.approx(0.504, abs=5e-4)
    assert best_sparse_risk(20, 1.0, 0.1) == near(1.0112)


def test_the_slip_of_figure_3_costs_nearly_nothing() -> None:
    best = value_risk(20, SAME, 5, 0.1, task_label_weight(20, SAME, 5, 0.1))
    assert value_risk(20, SAME, 5, 0.1, 0.66) - best == pytest.approx(4.2e-5, abs=1e-6)
