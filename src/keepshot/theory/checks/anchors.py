"""What holds a model to its base, against prompts, slopes and descent; and tuning on several tasks."""

import math
from collections.abc import Iterator

import numpy as np

from keepshot.keys import key
from keepshot.theory.checks.line import CONTEXT, DIMENSION, SETTING, TARGET, Line
from keepshot.theory.checks.sampled import STANDARD_ERRORS, UNEVEN
from keepshot.theory.checks.slopes import SLOPE
from keepshot.theory.descent import descend_exactly
from keepshot.theory.gradient import gradient, slopes_of
from keepshot.theory.label_weight import few_shot_limit, mean_label_weight
from keepshot.theory.preservation import Anchors, Parameters, anchor_prompts, difference, drift, held_value
from keepshot.theory.pretrained import pretrained
from keepshot.theory.regression import Regression
from keepshot.theory.risk import Array, Sparse, Term, expression
from keepshot.theory.simulate import CHUNK, predictions, prompts_of
from keepshot.theory.tuning import Budget

_SHOTS = (0, 1, 5, 20)


def against_anchors(prompts: int, seed: int) -> Iterator[Line]:
    """Every claim about anchors and several tasks."""
    for name, setting in (("Sigma = I", SETTING), ("uneven", UNEVEN)):
        for labels in ("tasks", "arbitrary"):
            yield _drift(name, setting, Anchors(labels), prompts, seed)
        yield _held(name, setting)
        yield _several(name, setting)
    base, anchors = pretrained(SETTING, CONTEXT), Anchors(weight=3.0)
    held = held_value(SETTING, base, [Term(TARGET, 0)], anchors)
    found = descend_exactly(SETTING, base, ["value"], lambda _: [Term(TARGET, 0)], Budget(steps=400), anchors)
    off = float(np.abs(np.append(found.v - held.v, found.w - held.w)).max())
    yield Line("training", "exact: value only, held by anchors", f"off by {off:.1e}, limit 1e-6", off < 1e-6)
    all_tasks = few_shot_limit(SETTING, np.eye(DIMENSION), [*np.eye(DIMENSION), *-np.eye(DIMENSION)], 20).w
    expected = mean_label_weight(20, DIMENSION, SETTING.noise, 1.0)
    text = f"w {all_tasks:.6f}, Corollary 4.8 has {expected:.6f}"
    yield Line("formula", "few-shot loss on tasks of every direction", text, abs(all_tasks - expected) < 1e-9)


def _drift(name: str, setting: Regression, anchors: Anchors, count: int, seed: int) -> Line:
    """The squared difference of two arbitrary models on anchor prompts."""
    random = np.random.default_rng(key(seed, "theory check", "two models", name))
    models = [_anything(random), _anything(random)]
    drawn_from, terms = anchor_prompts(setting, anchors)
    root, squares = np.linalg.cholesky(setting.covariance), []
    for chunk in range(max(1, math.ceil(count / CHUNK))):
        random = np.random.default_rng(key(seed, "theory check", "anchors", anchors.labels, name, chunk))
        inputs = random.standard_normal((CHUNK, max(_SHOTS) + 1, DIMENSION)) @ root.T
        noises = math.sqrt(drawn_from.noise) * random.standard_normal(inputs.shape[:2])
        which = random.integers(len(terms), size=CHUNK)
        tasks = np.stack([term.task for term in terms])[which]
        tokens, _ = prompts_of(inputs, np.einsum("btd,bd->bt", inputs, tasks) + noises)
        first, second = (predictions(tokens, model.dense(), _SHOTS) for model in models)
        squares.append((first - second) ** 2)
    found = np.concatenate(squares)
    means, errors = found.mean(axis=0), found.std(axis=0) / len(found) ** 0.5
    closed = [drift(setting, models[0], models[1], Anchors(anchors.labels, shots)) for shots in _SHOTS]
    deviations = (np.array(closed) - means) / errors
    text = "  ".join(f"n={n} {value:.4f} ({z:+.1f})" for n, value, z in zip(_SHOTS, closed, deviations, strict=True))
    holds = bool(np.abs(deviations).max() < STANDARD_ERRORS)
    words = {"tasks": "other tasks", "arbitrary": "arbitrary labels"}[anchors.labels]
    return Line("Monte Carlo", f"difference of two models, {words}, {name}", text, holds)


def _anything(random: np.random.Generator) -> Sparse:
    A = 0.3 * random.standard_normal((DIMENSION, DIMENSION))
    v = 0.3 * random.standard_normal(DIMENSION)
    return Sparse(float(random.standard_normal()), (A + A.T) / 2, v, float(random.standard_normal()))


def _held(name: str, setting: Regression) -> Line:
    base, anchors, terms = pretrained(setting, CONTEXT), Anchors(weight=3.0), [Term(TARGET, 0)]
    held, (prompts, asked) = held_value(setting, base, terms, anchors), anchor_prompts(setting, anchors)
    start = (base.q, base.A, base.v, base.w)

    def loss(at: Parameters) -> Array:
        apart = [difference(setting.covariance, prompts.noise, at, start, term.task, term.shots) for term in asked]
        held_to = sum(term.weight * each for term, each in zip(asked, apart, strict=True))
        return expression(setting, at, terms) + anchors.weight * held_to

    norm = float(np.linalg.norm(slopes_of(loss, held, ("v", "w"))))
    text = f"norm {norm:.1e}, limit {SLOPE:.0e}"
    return Line("gradient", f"value only, held by anchors, {name}", text, norm < SLOPE)


def _several(name: str, setting: Regression) -> Line:
    """v by the zero-shot loss on three tasks, w by the few-shot loss on them."""
    tasks = list(np.eye(DIMENSION)[:3])
    tuned = few_shot_limit(setting, pretrained(setting, CONTEXT).A, tasks, 20)
    in_v = gradient(setting, tuned, [Term(task, 0) for task in tasks], ("v",))
    in_w = gradient(setting, tuned, [Term(task, 20) for task in tasks], ("w",))
    norm = float(np.linalg.norm(np.append(in_v, in_w)))
    text = f"norm {norm:.1e}, limit {SLOPE:.0e}"
    return Line("gradient", f"few-shot loss on three tasks, falling to 0, {name}", text, norm < SLOPE)
