"""Closed forms against training: exact descent to convergence, and a dense model at a reduced size."""

from collections.abc import Iterator

import numpy as np

from keepshot.keys import key
from keepshot.models.linear_attention import LinearAttention, Shape
from keepshot.models.roles import Role
from keepshot.theory.checks.line import CONTEXT, DIMENSION, NOISE, SAME, SETTING, TARGET, Line
from keepshot.theory.descent import descend_exactly
from keepshot.theory.full import balanced_w, full_risk
from keepshot.theory.label_weight import task_label_weight
from keepshot.theory.risk import Sparse, Term, prior_terms, risk
from keepshot.theory.training import as_dense, finetune, invariants, pretrain, trained_risks
from keepshot.theory.tuning import ALL, Budget, FewShotLoss, Tuning
from keepshot.theory.value import value_risk

_STEPS = 1_200
_REDUCED = Budget(steps=_STEPS, batch=500)
# Zero-shot prompts cost little, and their loss has heavy tails: x^T A x v^T x is of third order.
_ZERO_SHOT = Budget(steps=_STEPS, batch=5_000)


def exact_training(seed: int) -> Iterator[Line]:
    """Gradient descent on the exact loss, within the sparse family."""
    random = np.random.default_rng(key(seed, "theory check", "exact training"))
    q, w, *rest = 0.05 * random.standard_normal(2 + DIMENSION + DIMENSION**2)
    start = Sparse(float(q), np.reshape(rest[DIMENSION:], (DIMENSION, DIMENSION)), np.array(rest[:DIMENSION]), float(w))
    prior, zero_shot = prior_terms(DIMENSION, CONTEXT), [Term(TARGET, 0)]
    base = descend_exactly(SETTING, start, ALL, lambda _: prior, Budget(steps=800))
    a = (CONTEXT + 1) / (CONTEXT + 1 + DIMENSION + DIMENSION * NOISE)
    kept = invariants(base.dense(), TARGET).product
    yield _near("exact: pretrained product (Corollary 4.1)", kept, a, 1e-6)
    tuned = descend_exactly(SETTING, base, ALL, lambda _: zero_shot, Budget(steps=1_500))
    found = invariants(tuned.dense(), TARGET)
    yield _near("exact: all parameters, q v (Theorem 4.3)", found.known, 1.0, 1e-6)
    yield _near("exact: all parameters, E(0)", risk(SETTING, tuned, TARGET, 0), NOISE, 1e-6)
    yield _near("exact: all parameters, w (heuristic)", found.w, balanced_w(DIMENSION, a), 5e-3)
    expected = full_risk(20, SAME, NOISE, found.w)
    yield _near("exact: all parameters, E(20) (Corollary 4.4)", risk(SETTING, tuned, TARGET, 20), expected, 1e-6)
    tuned = descend_exactly(SETTING, base, ["value"], lambda _: zero_shot, Budget(steps=300))
    found = invariants(tuned.dense(), TARGET)
    yield _near("exact: value only, E(0) (Theorem 4.6)", risk(SETTING, tuned, TARGET, 0), 0.1 + 2 / 9, 1e-6)
    yield _near("exact: value only, product as before (4.7)", found.product, kept, 1e-12)
    expected = value_risk(20, SAME, DIMENSION, NOISE, kept)
    yield _near("exact: value only, E(20) (Theorem 4.6)", risk(SETTING, tuned, TARGET, 20), expected, 1e-6)
    loss = FewShotLoss()

    def mixed(step: int) -> list[Term]:
        return [Term(TARGET, 0), Term(TARGET, loss.shots, loss.at(step, 600))]

    tuned = descend_exactly(SETTING, base, ["value"], mixed, Budget(steps=600))
    best = task_label_weight(20, SAME, DIMENSION, NOISE)
    yield _near("exact: few-shot loss annealed, product (4.9)", invariants(tuned.dense(), TARGET).product, best, 1e-3)


def dense_training(seed: int) -> Iterator[Line]:
    """The dense model on sampled prompts, at a reduced size: wider tolerances than those of a full training."""
    base = pretrain(SETTING, Shape(DIMENSION), CONTEXT, _REDUCED, seed)
    kept = invariants(as_dense(base), TARGET).product
    yield _near("dense: pretrained product", kept, 0.7925, 0.03)

    def tuned(roles: tuple[Role, ...], few_shot: FewShotLoss | None = None) -> LinearAttention:
        budget = _REDUCED if few_shot else _ZERO_SHOT
        return finetune(base, SETTING, [TARGET], Tuning(roles, few_shot), budget, seed)

    def errors(model: LinearAttention) -> list[float]:
        return [error for error, _ in trained_risks(model, SETTING, TARGET, [0, 20], 100_000, seed, "check")]

    everything = tuned(ALL)
    zero, twenty = errors(everything)
    yield _near("dense: all parameters, E(0)", zero, 0.1, 0.01)
    expected = full_risk(20, SAME, NOISE, invariants(as_dense(everything), TARGET).w)
    yield _near("dense: all parameters, E(20) at its w (Corollary 4.4)", twenty, expected, 0.15)
    value = tuned(("value",))
    zero, twenty = errors(value)
    yield _near("dense: value only, E(0)", zero, 0.3222, 0.03)
    yield _near("dense: value only, E(20), few-shot ability kept", twenty, 0.345, 0.03)
    yield _near("dense: value only, product as before", invariants(as_dense(value), TARGET).product, kept, 1e-3)
    frozen = [np.array_equal(as_dense(model).score, as_dense(base).score) for model in (base, value)]
    yield Line("training", "dense: value only, query and key bit-identical", str(all(frozen)), all(frozen))
    mixed = invariants(as_dense(tuned(("value",), FewShotLoss())), TARGET).product
    yield _near("dense: few-shot loss annealed, product", mixed, 0.654, 0.04)


def _near(claim: str, found: float, expected: float, tolerance: float) -> Line:
    text = f"{found:.5f}, expected {expected:.5f} +- {tolerance:g}, off by {found - expected:+.1e}"
    return Line("training", claim, text, abs(found - expected) <= tolerance)
