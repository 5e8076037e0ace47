"""Sampled prompts agree with the master formula, far from every special case, and are keyed."""

import numpy as np
import pytest

from keepshot.theory.full import harmless
from keepshot.theory.regression import Regression, isotropic, target
from keepshot.theory.risk import Dense, Sparse, risk
from keepshot.theory.simulate import CHUNK, simulate


@pytest.mark.parametrize("seed", range(3))
def test_master_formula(seed: int) -> None:
    random = np.random.default_rng(seed)
    root = random.standard_normal((4, 4)) / 2 + np.eye(4)
    setting = Regression(root @ root.T / 4 + 0.3 * np.eye(4), 0.3)
    A = 0.3 * random.standard_normal((4, 4))
    model = Sparse(q=0.7, A=(A + A.T) / 2, v=0.3 * random.standard_normal(4), w=0.8)
    tasks = list(0.5 * random.standard_normal((2, 4)))
    shots = [9, 0, 2]
    [found] = simulate(setting, [model.dense()], tasks, shots, 5 * CHUNK, seed, "test")
    for task, row in zip(tasks, found, strict=True):
        for count, estimate in zip(shots, row, strict=True):
            assert estimate.prompts == 5 * CHUNK
            assert abs(estimate.deviation(risk(setting, model, task, count))) < 4


def test_standard_error_is_that_of_the_mean() -> None:
    setting, model = isotropic(2, 0.5), Dense(np.zeros(4), np.zeros((4, 4)))
    [[[found]]] = simulate(setting, [model], [np.array([1.0, 0.0])], [1], CHUNK, 0, "test")
    # The error is the square of a normal with variance 1.5: its own variance is 2 x 1.5^2.
    assert found.standard_error == pytest.approx((2 * 1.5**2 / CHUNK) ** 0.5, rel=0.1)


def test_a_dense_optimum_that_does_no_harm() -> None:
    [[found]] = simulate(isotropic(5, 0.1), [harmless(target(5))], [target(5)], [0, 5, 20], 2 * CHUNK, 0, "test")
    assert all(abs(estimate.deviation(0.1)) < 4 for estimate in found)


def test_draws_are_keyed() -> None:
    setting, model = isotropic(2, 0.5), Sparse(0.0, np.eye(2), np.zeros(2), 1.0).dense()

    def mean(shots: list[int], prompts: int, *purpose: str | int) -> float:
        [[found]] = simulate(setting, [model], [target(2)], shots, prompts, *purpose)
        return found[shots.index(1)].mean

    assert mean([1, 3], CHUNK, 0, "a") == mean([3, 1, 2], CHUNK, 0, "a")
    assert len({mean([1, 3], CHUNK, seed, name) for seed in (0, 1) for name in "ab"}) == 4
