"""Every special case is the master formula, for any covariance, task, noise and number of shots; optima are optima."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float

from keepshot.errors import ConfigError
from keepshot.theory.full import best_sparse_risk, full, full_risk
from keepshot.theory.gradient import gradient
from keepshot.theory.label_weight import best_label_weight, few_shot_optimum, mean_label_weight, task_label_weight
from keepshot.theory.pretrained import harmful_shots, pretrained, pretrained_risk, scaled_risk
from keepshot.theory.regression import Regression, from_spectrum, geometry, isotropic, target, task_at
from keepshot.theory.risk import Sparse, Term, objective, prior_terms, risk
from keepshot.theory.value import (
    error_in_value,
    value_only,
    value_only_from,
    value_risk,
)

Case = tuple[Regression, Float[np.ndarray, " d"], Float[np.ndarray, " d"], np.random.Generator]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A setting with any covariance and noise, two tasks, and a generator for whatever else is arbitrary."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    dimension = draw(st.integers(1, 6))
    root = random.standard_normal((dimension, dimension))
    covariance = root @ root.T / dimension + 0.2 * np.eye(dimension)
    noise = draw(st.sampled_from([0.0, 0.1, 1.5]))
    return Regression(covariance, noise), *random.standard_normal((2, dimension)), random


SHOTS, WEIGHTS = st.integers(0, 50), st.floats(0.1, 5)


def near(value: float) -> object:
    return pytest.approx(value, rel=1e-10, abs=1e-10)


@given(cases(), SHOTS)
def test_pretrained_model(case: Case, shots: int) -> None:
    setting, task, _, random = case
    A = random.standard_normal((setting.dimension, setting.dimension))
    A = A + A.T
    reading = Sparse(q=0.0, A=A, v=np.zeros(setting.dimension), w=1.0)
    assert pretrained_risk(setting, A, task, shots) == near(risk(setting, reading, task, shots))
    scaled = Sparse(q=0.0, A=0.7 * np.linalg.inv(setting.covariance), v=np.zeros(setting.dimension), w=1.0)
    expected = risk(setting, scaled, task, shots)
    assert scaled_risk(shots, setting.dimension, setting.noise, setting.power(task), 0.7) == near(expected)


@given(cases())
def test_when_few_shots_are_worse_than_none(case: Case) -> None:
    setting, task, _, _ = case
    base = pretrained(setting, 20)
    bound = harmful_shots(setting, base.A, task)
    none = risk(setting, base, task, 0)
    worse = [shots for shots in range(1, 40) if risk(setting, base, task, shots) > none * (1 + 1e-12)]
    assert worse == [shots for shots in range(1, 40) if shots < bound - 1e-9]


def test_no_number_of_examples_helps_a_model_that_reads_them_backwards() -> None:
    assert harmful_shots(isotropic(3, 0.1), -np.eye(3), target(3)) == float("inf")


@given(cases(), SHOTS, WEIGHTS)
def test_full_fine_tuning(case: Case, shots: int, w: float) -> None:
    setting, target_task, task, _ = case
    expected = risk(setting, full(target_task, w), task, shots)
    assert full_risk(shots, geometry(setting, target_task, task), setting.noise, w) == near(expected)


@given(cases(), SHOTS, WEIGHTS)
def test_value_only_fine_tuning(case: Case, shots: int, w: float) -> None:
    setting, target_task, task, _ = case
    expected = risk(setting, value_only(setting, target_task, w), task, shots)
    tasks = geometry(setting, target_task, task)
    assert value_risk(shots, tasks, setting.dimension, setting.noise, w) == near(expected)


@given(cases(), SHOTS, WEIGHTS)
def test_error_as_a_quadratic_in_the_value(case: Case, shots: int, q: float) -> None:
    setting, task, v, random = case
    A = random.standard_normal((setting.dimension, setting.dimension))
    A = A + A.T
    model = Sparse(q=q, A=A, v=v, w=0.8)
    error = error_in_value(setting, q, A, [Term(task, shots, 2.0)])
    at = np.append(v, model.w)
    value = error.constant - error.linear @ at + at @ error.hessian @ at / 2
    assert float(value) == near(2 * risk(setting, model, task, shots))
    slopes = gradient(setting, model, [Term(task, shots, 2.0)], ("v", "w"))
    assert error.hessian @ at - error.linear == pytest.approx(slopes, rel=1e-9, abs=1e-9)


@given(cases(), st.integers(1, 50))
def test_best_label_weights(case: Case, shots: int) -> None:
    setting, target_task, task, _ = case
    frozen, tasks = value_only(setting, target_task, 0.0), geometry(setting, target_task, task)
    best = task_label_weight(shots, tasks, setting.dimension, setting.noise)
    assert best == near(best_label_weight(setting, frozen, [Term(task, shots)]))
    prior = prior_terms(setting.dimension, shots)
    power = float(np.trace(setting.covariance)) / setting.dimension
    mean = mean_label_weight(shots, setting.dimension, setting.noise, power)
    assert mean == near(best_label_weight(setting, frozen, prior))


@given(cases(), st.integers(1, 30), st.floats(0.01, 5))
def test_slopes_vanish_at_claimed_optima(case: Case, shots: int, weight: float) -> None:
    setting, task, _, _ = case
    task = task / np.linalg.norm(task)
    base = pretrained(setting, shots, variance=0.3)
    prior = prior_terms(setting.dimension, shots, variance=0.3)
    mixed = [Term(task, 0), Term(task, shots, weight)]
    w = best_label_weight(setting, value_only(setting, task, 0.0), [Term(task, shots)])
    value = value_only_from(setting, base, task)
    claims = [
        (base, prior, ("q", "A", "v", "w")),
        (full(task, weight), [Term(task, 0)], ("q", "A", "v", "w")),
        (value, [Term(task, 0)], ("v", "w")),
        (value_only(setting, task, w), [Term(task, 0)], ("v", "w")),
        (value_only(setting, task, w), [Term(task, shots)], ("w",)),
        (few_shot_optimum(setting, base.A, [task], shots, weight), mixed, ("v", "w")),
    ]
    for model, terms, blocks in claims:
        assert np.linalg.norm(gradient(setting, model, terms, blocks)) < 1e-9
    assert value.w == base.w


def test_pretrained_optimum_is_a_minimum_and_the_paper_s_is_not() -> None:
    setting = from_spectrum([0.3, 0.7, 1.0, 1.5, 2.5], 0.2)
    terms, base = prior_terms(5, 20, variance=1.0), pretrained(setting, 20, variance=1.0)
    least = objective(setting, base, terms)
    random = np.random.default_rng(0)
    for _ in range(50):
        step = 1e-3 * random.standard_normal((5, 5))
        assert objective(setting, Sparse(base.q, base.A + step + step.T, base.v, base.w), terms) > least


def test_zero_shot_loss_does_not_see_the_label_weight() -> None:
    setting, task = isotropic(4, 0.1), target(4)
    assert {risk(setting, value_only(setting, task, w), task, 0) for w in (0.0, 0.5, 3.0)} == {0.1 + 2 / 8}


def test_key_and_query_alone_cannot_help_at_zero_shots() -> None:
    setting, base = isotropic(5, 0.1), pretrained(isotropic(5, 0.1), 20)
    assert not gradient(setting, base, [Term(target(5), 0)], ("q", "A")).any()


def test_best_error_of_the_sparse_family_after_full_tuning() -> None:
    setting, task = from_spectrum([2.0, 1.0, 0.5], 0.3), target(3)
    power = setting.power(task)
    best = Sparse(q=1.0, A=np.zeros((3, 3)), v=task, w=-power / (power + 0.3))
    assert risk(setting, best, task, 9) == pytest.approx(best_sparse_risk(9, power, 0.3))
    assert gradient(setting, best, [Term(task, 9)], ["w"]) == pytest.approx(0, abs=1e-12)


def test_prior_terms_average_over_tasks() -> None:
    setting = from_spectrum([2.0, 1.0, 0.5], 0.3)
    random = np.random.default_rng(0)
    model = Sparse(q=0.4, A=np.diag([0.5, 0.2, 0.1]), v=np.array([0.1, 0.2, 0.3]), w=0.8)
    tasks = random.standard_normal((4000, 3))
    tasks /= np.linalg.norm(tasks, axis=1, keepdims=True)
    sampled = [risk(setting, model, task, 5) for task in tasks]
    exact = objective(setting, model, prior_terms(3, 5))
    assert exact == pytest.approx(np.mean(sampled), abs=4 * np.std(sampled) / 4000**0.5)


@given(cases(), st.floats(0, 360))
def test_tasks_at_an_angle(case: Case, angle: float) -> None:
    setting, target_task, _, _ = case
    if setting.dimension == 1:
        angle = 180.0
    tasks = geometry(setting, target_task, task_at(setting, target_task, angle))
    assert tasks.power == pytest.approx(tasks.target_power)
    assert tasks.overlap == pytest.approx(tasks.target_power * np.cos(np.radians(angle)), abs=1e-9 * tasks.power)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="symmetric"):
        Regression(np.array([[1.0, 0.5], [0.0, 1.0]]), 0.1)
    with pytest.raises(ConfigError, match="positive definite; its lowest eigenvalue is -1"):
        from_spectrum([1.0, -1.0], 0.1)
    with pytest.raises(ConfigError, match="variance, at least 0 and finite, not -1"):
        isotropic(2, -1.0)
    with pytest.raises(ConfigError, match="at least 0, not -1"):
        risk(isotropic(2, 0.1), full(target(2), 1.0), target(2), -1)
    with pytest.raises(ConfigError, match="0 or 180 degrees"):
        task_at(isotropic(1, 0.1), target(1), 90.0)
    with pytest.raises(ConfigError, match="positive weight, not 0 and 1"):
        few_shot_optimum(isotropic(2, 0.1), np.eye(2), [target(2)], 0, 1.0)
