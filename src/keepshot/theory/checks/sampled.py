"""Closed forms against sampled prompts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from keepshot.keys import key
from keepshot.theory.checks.line import CONTEXT, DIMENSION, NOISE, SETTING, TARGET, Line
from keepshot.theory.full import full, full_risk, harmless
from keepshot.theory.pretrained import pretrained, pretrained_paper, pretrained_risk, scaled_risk
from keepshot.theory.regression import Geometry, Regression, Vector, from_spectrum, geometry, task_at
from keepshot.theory.risk import Dense, Sparse, risk
from keepshot.theory.simulate import simulate
from keepshot.theory.value import value_only, value_only_from, value_risk

STANDARD_ERRORS = 4.0
UNEVEN = from_spectrum([2.0, 1.5, 0.7, 0.5, 0.3], 0.3)
_SHOTS = (0, 1, 2, 5, 20)


@dataclass(frozen=True, slots=True, eq=False)
class _Form:
    """A closed form and the model whose error it claims to be."""

    name: str
    model: Dense
    error: Callable[[Vector, int], float]


def against_prompts(prompts: int, seed: int) -> Iterator[Line]:
    """The special cases where they apply, the general formulas for an uneven covariance; three tasks, five shots."""
    yield from _compared("Sigma = I", SETTING, _isotropic_forms(), prompts, seed)
    yield from _compared("uneven", UNEVEN, _general_forms(UNEVEN, seed), prompts, seed)


def _isotropic_forms() -> list[_Form]:
    def tasks(task: Vector) -> Geometry:
        return geometry(SETTING, TARGET, task)

    forms = [
        _Form(
            "pretrained, a = 20/26 (Corollary 4.2)",
            pretrained_paper(SETTING, CONTEXT).dense(),
            lambda task, n: scaled_risk(n, DIMENSION, NOISE, tasks(task).power, 20 / 26),
        ),
        _Form("dense optimum that does no harm", harmless(TARGET), lambda task, n: _harmless_risk(tasks(task))),
    ]
    for w in (0.52, 3.0):
        name = f"all parameters, w = {w:g} (Corollary 4.4)"
        forms.append(_Form(name, full(TARGET, w).dense(), lambda task, n, w=w: full_risk(n, tasks(task), NOISE, w)))  # type: ignore[misc]
    for w in (20 / 26, 0.66):
        name = f"value only, w = {w:.2f} (Theorem 4.6)"
        forms.append(
            _Form(
                name,
                value_only(SETTING, TARGET, w).dense(),
                lambda task, n, w=w: value_risk(n, tasks(task), DIMENSION, NOISE, w),  # type: ignore[misc]
            )
        )
    return forms


def _harmless_risk(tasks: Geometry) -> float:
    """It says theta_0^T x whatever the prompt: sigma^2 + S - 2 R + S_0."""
    return NOISE + tasks.power - 2 * tasks.overlap + tasks.target_power


def _general_forms(setting: Regression, seed: int) -> list[_Form]:
    random = np.random.default_rng(key(seed, "theory check", "any model"))
    A = 0.3 * random.standard_normal((DIMENSION, DIMENSION))
    anything = Sparse(q=0.7, A=(A + A.T) / 2, v=0.3 * random.standard_normal(DIMENSION), w=0.8)
    base = pretrained(setting, CONTEXT)
    value = value_only_from(setting, base, TARGET)
    w, inverse = 0.6, value_only(setting, TARGET, 0.6)
    return [
        _Form("any q, A, v, w (master formula)", anything.dense(), lambda task, n: risk(setting, anything, task, n)),
        _Form(
            "pretrained, exact (Corollary 4.2)",
            base.dense(),
            lambda task, n: pretrained_risk(setting, base.A, task, n),
        ),
        _Form("value only from it (master formula)", value.dense(), lambda task, n: risk(setting, value, task, n)),
        _Form(
            "value only, A = inverse, w = .6 (Theorem 4.6)",
            inverse.dense(),
            lambda task, n: value_risk(n, geometry(setting, TARGET, task), DIMENSION, setting.noise, w),
        ),
    ]


def _compared(name: str, setting: Regression, forms: Sequence[_Form], prompts: int, seed: int) -> Iterator[Line]:
    angles = {"target": 0.0, "orthogonal": 90.0, "opposite": 180.0}
    tasks = [task_at(setting, TARGET, angle) for angle in angles.values()]
    found = simulate(setting, [form.model for form in forms], tasks, _SHOTS, prompts, seed, "check", name)
    for form, by_task in zip(forms, found, strict=True):
        for words, other, row in zip(angles, tasks, by_task, strict=True):
            closed = [form.error(other, shots) for shots in _SHOTS]
            deviations = [estimate.deviation(error) for estimate, error in zip(row, closed, strict=True)]
            text = "  ".join(
                f"n={n} {error:.4f} ({z:+.1f})" for n, error, z in zip(_SHOTS, closed, deviations, strict=True)
            )
            holds = max(abs(z) for z in deviations) < STANDARD_ERRORS
            yield Line("Monte Carlo", f"{form.name}, {name}, {words}", text, holds)
