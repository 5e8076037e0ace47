"""The intervals and the gate on simulated models, whose true retention is known.

A model answers a question with the probability chance + (1 - chance) · logistic(ability + ease of the question + what
the demonstrations do). The tuned model has lost a share 1 - retention of the questions, on which it guesses, and what
demonstrations do to it is alike and not the same. Given the question, the two answer independently.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pytest
from scipy import stats

from keepshot.evaluation.curve import Evaluation
from keepshot.evaluation.gate import gate_verdict
from keepshot.evaluation.items import Item
from keepshot.evaluation.plan import EvaluationPlan
from keepshot.evaluation.retention import difference, retention
from keepshot.evaluation.statistics import mean_estimate, ratio_estimate, sets_needed
from keepshot.keys import key
from keepshot.tasks.example import Example, Task

RUNS, SETS, QUERIES, SHOTS = 2_000, 8, 40, 16
ABILITIES = {"open": 1.0, "hard": 0.3, "two labels": 1.2}
TASKS = {
    name: Task(name, (Example("i", "a"), Example("j", "b")), labels=("a", "b") if name == "two labels" else ())
    for name in ABILITIES
}
ITEM = Item("", 0, SHOTS, 0, "", "", (), "", 1.0, 1.0)
EASE = 1.5
"""Deviation of the questions' ease, in units of the logistic."""
ALIKE = 0.7
"""Correlation of what the demonstrations of a set do to the two models."""


@dataclass(frozen=True, slots=True)
class Simulated(Evaluation):
    """An evaluation of which only the accuracy of every set was drawn."""

    by_set: Mapping[str, list[float]] = field(default_factory=dict)

    def accuracy(self, task, shots):
        return self.by_set[task]


def simulated(accuracies):
    """Models from accuracies by run, task and set; the plan's first stage is the usual number of sets."""
    plan = EvaluationPlan((SHOTS,), SETS, QUERIES)
    cells = {(name, SHOTS): (ITEM,) * (accuracies.shape[2] * QUERIES) for name in TASKS}
    return [
        Simulated("m", plan, TASKS, cells, by_set=dict(zip(TASKS, run.tolist(), strict=True))) for run in accuracies
    ]


def drawn(kept, context, sets=SETS, runs=RUNS):
    """Accuracies of base and tuned model by run, task and set.

    Args:
        kept: True retention.
        context: Deviation of what the demonstrations do, in units of the logistic.
        sets: Demonstration sets.
        runs: How often it is all done.
    """
    generator = np.random.default_rng(key("coverage", str(kept), str(context), sets))
    before, after = [], []
    for name, ability in ABILITIES.items():
        chance = TASKS[name].chance
        ease = generator.normal(ability, EASE, (runs, sets, QUERIES))
        shared, own = generator.normal(size=(2, runs, sets, 1))
        effects = shared, ALIKE * shared + np.sqrt(1 - ALIKE**2) * own
        base, tuned = (chance + (1 - chance) / (1 + np.exp(-ease - context * effect)) for effect in effects)
        lost = generator.random(ease.shape) >= kept
        before.append((generator.random(ease.shape) < base).mean(axis=2))
        after.append((generator.random(ease.shape) < np.where(lost, chance, tuned)).mean(axis=2))
    return np.stack(before, axis=1), np.stack(after, axis=1)


@cache
def retentions(kept, context):
    models = zip(*map(simulated, drawn(kept, context)), strict=True)
    return [retention(before, after, list(TASKS), SHOTS) for before, after in models]


def covers(estimate, truth):
    return estimate.low <= truth <= estimate.high


@pytest.mark.parametrize(("kept", "context"), [(1.0, 0.4), (0.9, 0.4), (0.6, 0.4), (1.0, 1.2)])
def test_retention_is_covered_at_eight_sets(kept, context):
    assert 0.93 <= np.mean([covers(estimate, kept) for estimate in retentions(kept, context)]) <= 0.97


@pytest.mark.parametrize("context", [0.4, 1.2])
@pytest.mark.parametrize("max_drop", [0.0, 0.05])
def test_the_gate_seldom_fails_where_nothing_changed(max_drop, context):
    fails = [gate_verdict(estimate, max_drop).verdict == "fail" for estimate in retentions(1.0, context)]
    assert np.mean(fails) <= 0.05


def test_the_gate_never_fails_a_copy_that_answers_alike():
    before, _ = drawn(1.0, 0.4, runs=200)
    found = [retention(model, model, list(TASKS), SHOTS) for model in simulated(before)]
    assert {gate_verdict(estimate, 0.0).verdict for estimate in found} == {"insufficient"}
    assert {gate_verdict(estimate, 0.05).verdict for estimate in found} == {"pass"}


@pytest.mark.parametrize("half_width", [0.04, 0.02])
def test_asking_until_the_interval_is_narrow_keeps_coverage(half_width):
    kept, most = 0.9, 32
    before, after = drawn(kept, 0.4, most, runs=1_000)
    changes = (after - before).mean()  # over 32 000 sets
    covered = []
    for base, tuned in zip(before, after, strict=True):
        sets = sets_needed(base.mean(axis=0)[:SETS].tolist(), half_width, most)  # of the base's accuracy alone
        pair = [simulated(accuracies[None, :, :sets])[0] for accuracies in (base, tuned)]
        changed = difference(*pair, list(TASKS), SHOTS)
        covered.append((covers(retention(*pair, list(TASKS), SHOTS), kept), covers(changed, changes)))
    assert np.all(np.abs(np.mean(covered, axis=0) - 0.95) <= 0.02)


def narrow_enough(values, half_width, first):
    """The ordinary interval after the first look at which it is narrow enough: does it cover 0?"""
    counts = np.arange(1, values.shape[1] + 1)
    means = values.cumsum(axis=1) / counts
    squares = (values**2).cumsum(axis=1) - counts * means**2
    halves = stats.t.ppf(0.975, counts[first - 1 :] - 1) * np.sqrt(
        squares[:, first - 1 :] / (counts * (counts - 1))[first - 1 :]
    )
    narrow = halves <= half_width
    narrow[:, -1] = True
    looks, runs = narrow.argmax(axis=1), np.arange(len(values))
    return np.abs(means[runs, first - 1 + looks]) <= halves[runs, looks]


@pytest.mark.parametrize(("first", "half_width"), [(4, 0.6), (4, 0.4), (8, 0.5), (8, 0.35)])
def test_two_stages_cover_where_looking_until_it_is_narrow_does_not(first, half_width):
    values = np.random.default_rng(key("two stages", first, str(half_width))).normal(size=(4_000, 64))
    covered, halves = [], []
    for run in values:
        sets = sets_needed(run[:first].tolist(), half_width, most=64)
        estimate = mean_estimate(run[:sets].tolist(), first=first)
        covered.append(covers(estimate, 0.0))
        halves.append(estimate.high - estimate.value if sets < 64 else 0.0)
    assert max(halves) <= half_width * (1 + 1e-9)
    assert 0.94 <= np.mean(covered) <= 0.96
    assert narrow_enough(values, half_width, first).mean() < 0.94


def test_what_did_not_ask_for_more_sets_is_covered_as_well():
    generator = np.random.default_rng(key("another quantity"))
    asking = generator.normal(size=(4_000, 48))
    base = generator.normal(0.6, 0.05, asking.shape)
    tuned = 0.8 * base + 0.04 * (0.8 * asking + 0.6 * generator.normal(size=asking.shape))  # the mean is .48
    covered = []
    for run, a, b in zip(asking, tuned, base, strict=True):
        sets = sets_needed(run[:SETS].tolist(), 0.5, most=48)
        mean = mean_estimate(a[:sets].tolist(), first=SETS)
        covered.append((covers(mean, 0.48), covers(ratio_estimate(a[:sets].tolist(), b[:sets].tolist(), SETS), 0.8)))
    assert np.all(np.abs(np.mean(covered, axis=0) - 0.95) <= 0.01)
