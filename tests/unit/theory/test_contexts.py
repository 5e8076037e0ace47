from functools import cache

import numpy as np
import pytest

from keepshot.theory.contexts import (
    ALL_PARAPHRASES,
    KINDS,
    MODELS,
    NOISE,
    ONE_NEAR,
    ONE_PARAPHRASE,
    PARAPHRASE,
    RANDOM,
    SLOTS,
    errors,
    estimate_logit,
    estimate_weight,
    kinds,
    losses,
    on_test,
    slopes,
    trained,
)

POINT = np.array([[0.3, 0.8, 0.2]])
RANDOM_ONLY, SIMILAR_ONLY, WITHIN, ACROSS = (
    kinds({"kind": mixture})
    for mixture in (
        [(1.0, RANDOM)],
        [(1.0, ALL_PARAPHRASES)],
        [(1.0, ONE_PARAPHRASE)],
        [(0.5, ALL_PARAPHRASES), (0.5, RANDOM)],
    )
)
# Of each kind of contexts: error on a random context, on one with a paraphrase, and the weight of the paraphrase there.
TABLE = {
    "R": {
        "random": (0.240, 0.222, 0.05),
        "similar only": (0.910, 0.616, 0.19),
        "within only": (0.249, 0.074, 0.72),
        "across only": (0.240, 0.201, 0.12),
        "contrastive": (0.241, 0.089, 0.50),
        "contrastive, evenly": (0.242, 0.080, 0.59),
    },
    "B": {
        "random": (0.240, 0.214, 0.06),
        "similar only": (0.701, 0.462, 0.24),
        "within only": (0.453, 0.074, 0.72),
        "across only": (0.240, 0.223, 0.13),
        "contrastive": (0.240, 0.093, 0.49),
        "contrastive, evenly": (0.241, 0.081, 0.57),
    },
}


@cache
def end_points(name: str) -> np.ndarray:
    return trained(MODELS[name])


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_ends_where_the_table_says(name: str) -> None:
    parameters = end_points(name)
    apart, _ = on_test(MODELS[name], parameters, RANDOM)
    mixed, weights = on_test(MODELS[name], parameters, ONE_PARAPHRASE)
    found = dict(zip(KINDS.names, zip(apart, mixed, weights[:, 1], strict=True), strict=True))
    assert found.keys() == TABLE[name].keys()
    for kind, expected in TABLE[name].items():
        assert found[kind] == pytest.approx(expected, abs=0.01), kind


def test_random_contexts_teach_the_head_nothing() -> None:
    binding, matching, _ = slopes(MODELS["R"], POINT, RANDOM_ONLY)[0]
    assert abs(binding) < 1e-9
    assert abs(matching) < 1e-9
    theta_1, theta_2, c = end_points("R")[KINDS.names.index("random")]
    assert (theta_1, theta_2) == (0.0, 0.5)
    assert c == pytest.approx(estimate_logit(SLOTS, 0.0, NOISE), abs=1e-3)
    assert estimate_logit(SLOTS, 0.0, 1e-6) > 12, "without doubt in the weights, the examples are not looked at"


def test_equally_similar_contexts_teach_no_binding_and_leave_a_line() -> None:
    slope = slopes(MODELS["R"], POINT, SIMILAR_ONLY)[0]
    assert abs(slope[0]) < 1e-9
    assert abs(slope[1] + PARAPHRASE * slope[2]) < 1e-9, "theta_2 + s c is conserved by gradient flow"
    theta_1, theta_2, c = end_points("R")[KINDS.names.index("similar only")]
    assert theta_1 == 0
    assert c - theta_2 * PARAPHRASE == pytest.approx(estimate_logit(SLOTS, PARAPHRASE, NOISE), abs=1e-3)
    assert theta_2 + PARAPHRASE * c == pytest.approx(0.5, abs=0.01)
    _, weights = on_test(MODELS["R"], end_points("R"), RANDOM)
    assert weights[KINDS.names.index("similar only"), 1:].sum() > 0.8, "blind copying"


def test_a_contrast_within_the_context_teaches_binding_and_matching() -> None:
    slope = slopes(MODELS["R"], POINT, WITHIN)[0]
    assert min(abs(slope[:2])) > 1e-3
    theta_1, theta_2, _ = end_points("R")[KINDS.names.index("within only")]
    assert theta_1 > 1
    assert theta_2 > 1


def test_a_contrast_across_contexts_alone_teaches_no_binding() -> None:
    slope = slopes(MODELS["R"], POINT, ACROSS)[0]
    assert abs(slope[0]) < 1e-9
    assert min(abs(slope[1:])) > 1e-4


def test_both_contrasts_teach_when_to_look_and_where() -> None:
    parameters = end_points("R")
    place = KINDS.names.index("contrastive")
    assert parameters[place] == pytest.approx((4.27, 3.70, 3.15), abs=0.01)
    held = [on_test(MODELS["R"], parameters, similarities)[1][place, 0] for similarities in (RANDOM, ONE_NEAR)]
    held.append(on_test(MODELS["R"], parameters, ONE_PARAPHRASE)[1][place, 0])
    assert held[0] > held[1] > held[2]


@pytest.mark.parametrize("contexts", [RANDOM_ONLY, SIMILAR_ONLY])
def test_a_gated_choice_learns_nothing_from_equal_examples(contexts) -> None:
    assert abs(slopes(MODELS["B"], POINT, contexts)[0, 0]) < 1e-9
    assert abs(slopes(MODELS["B"], POINT, WITHIN)[0, 0]) > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_the_slopes_are_those_of_the_loss(name: str) -> None:
    model, reach = MODELS[name], 1e-6
    for axis in range(3):
        ends = [losses(model, POINT + sign * reach * np.eye(3)[axis], WITHIN)[0] for sign in (1, -1)]
        assert slopes(model, POINT, WITHIN)[0, axis] == pytest.approx((ends[0] - ends[1]) / (2 * reach), abs=1e-8)


@pytest.mark.parametrize("similarities", [RANDOM, ONE_NEAR, ALL_PARAPHRASES])
def test_the_loss_is_the_mean_over_a_gaussian_process(similarities: np.ndarray) -> None:
    draws = 400_000
    random = np.random.default_rng(0)
    alike = np.outer(similarities, similarities)
    np.fill_diagonal(alike, 1.0)
    covariance = np.block([[np.ones((1, 1)), similarities[None]], [similarities[:, None], alike]])
    values = random.multivariate_normal(np.zeros(SLOTS + 1), covariance, size=draws)
    estimate = values[:, 0] + np.sqrt(NOISE) * random.standard_normal(draws)
    weights = np.array([0.4, 0.3, 0.1, 0.1, 0.05, 0.05])
    squares = (weights[0] * estimate + values[:, 1:] @ weights[1:] - values[:, 0]) ** 2
    expected, error = squares.mean(), squares.std() / np.sqrt(draws)
    assert abs(errors(weights, similarities) - expected) < 4 * error


def test_the_best_weight_of_equal_examples_is_a_minimum() -> None:
    for similarity in (0.0, 0.5, PARAPHRASE):
        best = estimate_weight(SLOTS, similarity, NOISE)
        around = [
            errors(np.array([a, *[(1 - a) / SLOTS] * SLOTS]), np.full(SLOTS, similarity))
            for a in (best - 1e-3, best, best + 1e-3)
        ]
        assert around[1] == min(around)
