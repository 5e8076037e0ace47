"""Claimed optima against the gradient there, and the paper's slips against the same formulas."""

from collections.abc import Iterator, Sequence

import numpy as np

from keepshot.theory.checks.line import CONTEXT, DIMENSION, NOISE, SAME, SETTING, TARGET, Line
from keepshot.theory.checks.sampled import UNEVEN
from keepshot.theory.full import full
from keepshot.theory.gradient import Block, gradient
from keepshot.theory.label_weight import (
    best_label_weight,
    few_shot_optimum,
    task_label_weight,
    task_label_weight_limit,
)
from keepshot.theory.pretrained import pretrained, pretrained_paper
from keepshot.theory.regression import Regression, geometry
from keepshot.theory.risk import Sparse, Term, prior_terms, risk
from keepshot.theory.value import value_only, value_only_from

SLOPE = 1e-9
"""The norm of a gradient below which a point counts as stationary."""


def against_gradients() -> Iterator[Line]:
    """Every optimum, for the identity and for an uneven covariance."""
    yield from _slopes("Sigma = I", SETTING)
    yield from _slopes("uneven", UNEVEN)


def _slopes(name: str, setting: Regression) -> Iterator[Line]:
    """The gradient's norm at each claimed optimum."""
    d, base = setting.dimension, pretrained(setting, CONTEXT)
    inverse = np.linalg.inv(setting.covariance)
    zero_shot, prior = [Term(TARGET, 0)], prior_terms(d, CONTEXT)
    mixed = [Term(TARGET, 0), Term(TARGET, 20)]
    everything: tuple[Block, ...] = ("q", "A", "v", "w")
    best = task_label_weight(20, geometry(setting, TARGET, TARGET), d, setting.noise)
    mean = best_label_weight(setting, value_only(setting, TARGET, 0.0), prior)
    claims: list[tuple[str, Sparse, Sequence[Term], Sequence[Block]]] = [
        ("pretrained optimum, exact (Corollary 4.1)", base, prior, everything),
        ("all parameters, w = .52 (Theorem 4.3)", full(TARGET, 0.52), zero_shot, everything),
        ("value only, A = inverse (Theorem 4.6)", value_only(setting, TARGET, 0.66), zero_shot, ("v", "w")),
        ("value only, pretrained A", value_only_from(setting, base, TARGET), zero_shot, ("v", "w")),
        ("best w on average (Corollary 4.8)", value_only(setting, TARGET, mean), prior, ("w",)),
        ("best w on the target (Theorem 4.9)", value_only(setting, TARGET, best), [Term(TARGET, 20)], ("w",)),
        ("few-shot loss, A = inverse", few_shot_optimum(setting, inverse, [TARGET], 20, 1.0), mixed, ("v", "w")),
        ("few-shot loss, pretrained A", few_shot_optimum(setting, base.A, [TARGET], 20, 1.0), mixed, ("v", "w")),
    ]
    for claim, model, terms, blocks in claims:
        norm = float(np.linalg.norm(gradient(setting, model, terms, blocks)))
        yield Line("gradient", f"{claim}, {name}", f"norm {norm:.1e}, limit {SLOPE:.0e}", norm < SLOPE)


def paper_slips() -> Iterator[Line]:
    """What the paper prints where it differs, against the same witnesses."""
    paper = pretrained_paper(SETTING, CONTEXT)
    norm = float(np.linalg.norm(gradient(SETTING, paper, prior_terms(DIMENSION, CONTEXT), ["A"])))
    text = f"norm {norm:.1e}: m/(m+1+d) = {paper.A[0, 0]:.4f} is not stationary, (m+1)/(m+1+d+d sigma^2) = .7925 is"
    yield Line("gradient", "the paper's pretraining constant", text, norm > SLOPE)
    best = task_label_weight(20, SAME, DIMENSION, NOISE)
    [slope] = gradient(SETTING, value_only(SETTING, TARGET, 0.66), [Term(TARGET, 20)], ["w"])
    text = f"slope {slope:.1e} at .66, which is the best w of 21 shots; {best:.4f} is that of 20"
    yield Line("gradient", "the paper's w at 20 shots (figure 3)", text, bool(abs(slope) > SLOPE))
    zero_shot = risk(SETTING, value_only(SETTING, TARGET, 0.66), TARGET, 0)
    text = f"{zero_shot:.4f} by the master formula; the caption's own formula gives it, its number 3.1 is a slip"
    yield Line("formula", "value only at zero shots (figure 3)", text, abs(zero_shot - 0.1 - 2 / 9) < 1e-9)
    limit = risk(SETTING, full(TARGET, 3.0), TARGET, 10**9)
    yield Line("formula", "all parameters, many shots (figure 2)", f"{limit:.4f}, not 1", abs(limit - 1.1) < 1e-6)
    opposite = best_label_weight(SETTING, value_only(SETTING, TARGET, 0.0), [Term(-TARGET, 10**9)])
    expected = task_label_weight_limit(geometry(SETTING, TARGET, -TARGET), DIMENSION)
    text = f"{opposite:.4f} = (d+5)/(d+4) on the opposite task; (d+3)/(d+4) holds on the target alone"
    yield Line("formula", "limit of the best w", text, abs(opposite - expected) < 1e-6)
