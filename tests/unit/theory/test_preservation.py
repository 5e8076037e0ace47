"""Held to the base: the formula against prompts and the master formula, the optimum against slopes and training."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepshot.errors import ConfigError
from keepshot.keys import key
from keepshot.theory.descent import descend_exactly
from keepshot.theory.preservation import Anchors, anchor_prompts, difference, drift, held_value, mean_error, moment
from keepshot.theory.pretrained import pretrained
from keepshot.theory.regression import Regression, from_spectrum, isotropic, target
from keepshot.theory.risk import Sparse, Term, risk
from keepshot.theory.tuning import ALL, Budget
from keepshot.theory.value import value_only_from

UNEVEN = from_spectrum([2.0, 1.0, 0.5], 0.3)


def anything(seed: int, dimension: int = 3) -> Sparse:
    random = np.random.default_rng(key(seed, "test", "any model"))
    A = 0.4 * random.standard_normal((dimension, dimension))
    q, w, *v = random.standard_normal(2 + dimension)
    return Sparse(float(q), (A + A.T) / 2, 0.5 * np.array(v), float(w))


def parameters(model: Sparse) -> tuple[float, np.ndarray, np.ndarray, float]:
    return model.q, model.A, model.v, model.w


def predictions(model: Sparse, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Token by token, the query last, as the model is defined."""
    total = np.zeros(len(x))
    for token in range(x.shape[1]):
        score = model.q + np.einsum("bi,ij,bj->b", x[:, -1], model.A, x[:, token])
        label = 0.0 if token == x.shape[1] - 1 else y[:, token]
        total += score * (x[:, token] @ model.v + model.w * label)
    return total / x.shape[1]


@pytest.mark.parametrize("shots", [0, 1, 6])
def test_the_difference_of_two_models_on_prompts(shots: int) -> None:
    first, second, task = anything(0), anything(1), np.array([0.5, -1.0, 0.8])
    random = np.random.default_rng(key("test", "prompts", shots))
    x = random.standard_normal((200_000, shots + 1, 3)) @ np.linalg.cholesky(UNEVEN.covariance).T
    y = x @ task + UNEVEN.noise**0.5 * random.standard_normal(x.shape[:2])
    squares = (predictions(first, x, y) - predictions(second, x, y)) ** 2
    both = parameters(first), parameters(second)
    found = difference(UNEVEN.covariance, UNEVEN.noise, *both, task, shots)
    assert abs(found - squares.mean()) < 4 * squares.std() / len(squares) ** 0.5


@given(seed=st.integers(0, 10_000), shots=st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_the_moment_and_the_master_formula_say_the_same(seed: int, shots: int) -> None:
    model, task = anything(seed), anything(seed + 1).v
    S, at = UNEVEN.covariance, parameters(model)
    b = (shots * model.A @ S @ (model.v + model.w * task) + model.q * model.v) / (shots + 1)
    own = np.trace(S @ model.A) * task @ S @ model.v + 2 * task @ S @ model.A @ S @ model.v
    crossed = task @ S @ b + own / (shots + 1)
    squared = moment(S, UNEVEN.noise, at, at, task, shots)
    assert UNEVEN.noise + UNEVEN.power(task) - 2 * crossed + squared == pytest.approx(risk(UNEVEN, model, task, shots))
    assert difference(S, UNEVEN.noise, at, at, task, shots) == pytest.approx(0, abs=1e-9 * (1 + squared))


@pytest.mark.parametrize("labels", ["tasks", "arbitrary"])
@pytest.mark.parametrize("setting", [isotropic(3, 0.1), UNEVEN])
def test_the_held_value_matrix_has_no_slope(setting: Regression, labels: str) -> None:
    base, terms, anchors = pretrained(setting, 10), [Term(target(3), 0)], Anchors(labels, 8, 2.0)  # type: ignore[arg-type]
    held = held_value(setting, base, terms, anchors)

    def loss(v: np.ndarray, w: float) -> float:
        at = Sparse(base.q, base.A, v, w)
        return risk(setting, at, target(3), 0) + anchors.weight * drift(setting, at, base, anchors)

    best, step = loss(held.v, held.w), 1e-3
    for axis in np.eye(3):
        up, down = loss(held.v + step * axis, held.w), loss(held.v - step * axis, held.w)
        assert up - down == pytest.approx(0, abs=1e-11)  # a quadratic: central differences are exact
        assert up > best
    assert loss(held.v, held.w + step) - loss(held.v, held.w - step) == pytest.approx(0, abs=1e-11)
    # The anchors ask for no change of w, the zero-shot loss does not see it.
    assert held.w == pytest.approx(base.w)


def test_more_weight_gives_up_more_of_the_target() -> None:
    setting = isotropic(5, 0.1)
    base = pretrained(setting, 20)
    free = value_only_from(setting, base, target(5))
    held = [
        held_value(setting, base, [Term(target(5), 0)], Anchors(weight=weight)) for weight in (1e-6, 1.0, 10.0, 1e6)
    ]
    zero_shot = [risk(setting, model, target(5), 0) for model in held]
    kept = [mean_error(setting, model, 20) for model in held]
    assert zero_shot == sorted(zero_shot)
    assert kept == sorted(kept, reverse=True)
    assert zero_shot[0] == pytest.approx(risk(setting, free, target(5), 0), abs=1e-6)
    assert kept[-1] == pytest.approx(mean_error(setting, base, 20), abs=1e-6)
    drifts = [drift(setting, model, base, Anchors()) for model in held]
    assert drifts == sorted(drifts, reverse=True)


def test_exact_descent_finds_the_held_value_matrix() -> None:
    setting, anchors = isotropic(3, 0.1), Anchors(shots=8, weight=3.0)
    base, terms = pretrained(setting, 10), [Term(target(3), 0)]
    expected = held_value(setting, base, terms, anchors)
    found = descend_exactly(setting, base, ["value"], lambda _: terms, Budget(steps=300), anchors)
    assert np.append(found.v, found.w) == pytest.approx(np.append(expected.v, expected.w), abs=1e-6)


def test_anchors_keep_all_parameters_from_the_branch_that_forgets() -> None:
    setting = isotropic(3, 0.1)
    base, terms, budget = pretrained(setting, 10), [Term(target(3), 0)], Budget(steps=400)
    free = descend_exactly(setting, base, ALL, lambda _: terms, budget)
    held = descend_exactly(setting, base, ALL, lambda _: terms, budget, Anchors(shots=10, weight=10.0))
    assert mean_error(setting, free, 10) > 2 * mean_error(setting, base, 10)
    assert mean_error(setting, held, 10) < 1.1 * mean_error(setting, base, 10)
    assert risk(setting, held, target(3), 0) < 0.5 * risk(setting, base, target(3), 0)


def test_arbitrary_labels_have_the_labels_variance() -> None:
    prompts, [term] = anchor_prompts(UNEVEN, Anchors("arbitrary", 4))
    assert prompts.noise == pytest.approx(0.3 + (2 + 1 + 0.5) / 3)
    assert (term.task.tolist(), term.shots, term.weight) == ([0.0, 0.0, 0.0], 4, 1.0)
    _, tasks = anchor_prompts(UNEVEN, Anchors("tasks", 4))
    assert sum(term.weight for term in tasks) == pytest.approx(1)


@pytest.mark.parametrize("wrong", [{"shots": -1}, {"weight": -1.0}, {"weight": float("inf")}])
def test_impossible_anchors(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="anchors have at least 0 shots"):
        Anchors(**wrong)  # type: ignore[arg-type]


def test_anchors_that_do_not_see_w() -> None:
    base = pretrained(UNEVEN, 10)
    for anchors in (Anchors(shots=0), Anchors(weight=0.0)):
        with pytest.raises(ConfigError, match="to determine the value matrix"):
            held_value(UNEVEN, base, [Term(target(3), 0)], anchors)
