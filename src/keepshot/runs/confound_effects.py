"""The effect under a setting of the defects, and what a defect makes of it, with intervals over problems and seeds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import hypot
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from keepshot.keys import generator
from keepshot.runs.pattern_intervals import of_pairs, wilson
from keepshot.runs.pattern_questions import Rate

RESAMPLES = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What counts of the answers to a part of a task, under a setting.

    Attributes:
        shots: Those that fit.
        chosen_by: Of the base, by number of shots, on what chooses between them: this part, or validation.
        in_context: Of the base, by number of shots, on this part.
        tuned: By seed, on this part.
    """

    shots: tuple[int, ...]
    chosen_by: Bool[np.ndarray, "shots choosing"]
    in_context: Bool[np.ndarray, "shots problems"]
    tuned: Bool[np.ndarray, "seeds problems"]

    def best(self) -> int:
        """Place of the number of shots that is best on what chooses; of equally good ones the fewest."""
        return int(self.chosen_by.mean(axis=1).argmax())

    def effect(self) -> float:
        """What learning in context gets right beyond fine-tuning."""
        return float(self.in_context[self.best()].mean() - self.tuned.mean())

    def resampled(self, draws: "Draws") -> Float[np.ndarray, " resamples"]:
        """The effect over other problems and seeds."""
        return self.resampled_in_context(draws) - self.resampled_tuned(draws)

    def resampled_in_context(self, draws: "Draws") -> Float[np.ndarray, " resamples"]:
        """The base's accuracy over other problems, the number of shots chosen anew in each resample."""
        choosing = draws.of(self.chosen_by.shape[1])
        problems = draws.of(self.in_context.shape[1])
        best = self.chosen_by[:, choosing].mean(axis=2).argmax(axis=0)
        return np.asarray(self.in_context[:, problems].mean(axis=2)[best, np.arange(len(best))])

    def resampled_tuned(self, draws: "Draws") -> Float[np.ndarray, " resamples"]:
        """The accuracy of tuned models over other problems and seeds."""
        seeds, problems = draws.of(len(self.tuned)), draws.of(self.tuned.shape[1])
        return np.asarray(self.tuned[seeds[:, :, None], problems[:, None, :]].mean(axis=(1, 2)))


@dataclass(frozen=True, slots=True)
class LookedAt:
    """What tells a setting from others: of the base in context, and of the tuned models.

    Attributes:
        in_context: Prompts, what counts, what chooses the number of shots.
        tuned: Prompts, what counts, trainings.
    """

    in_context: object
    tuned: object


class Draws:
    """Resamples with replacement; the same of as many things, so that settings are compared on the same ones.

    Args:
        keys: Of the draw.
    """

    def __init__(self, *keys: int | str) -> None:
        self._keys = keys
        self._made: dict[int, np.ndarray] = {}

    def of(self, count: int) -> np.ndarray:
        """Places, [resamples, count]."""
        if count not in self._made:
            draw = np.random.default_rng(generator(*self._keys, count).getrandbits(64))
            self._made[count] = draw.integers(count, size=(RESAMPLES, count))
        return self._made[count]


def figures(
    heard: Mapping[str, Heard], looked_at: Mapping[str, LookedAt], released: str, none: str, *keys: int | str
) -> dict[str, dict[str, Any]]:
    """By setting: the number of shots, both accuracies, the effect, and what the setting's defect makes of it.

    Left out of all, a defect makes what the effect as released is above that without it; alone, what its effect is
    above that with none. Intervals are 95 %, the wider of two: a bootstrap over problems and seeds, in which every
    setting has the same ones and chooses the number of shots anew; and Wilson's over problems, for differences
    Newcombe's, since a bootstrap has no width where all answers are alike.

    Args:
        heard: By name of the setting.
        looked_at: By the same, what tells it from others; a defect that changes neither makes nothing to tell.
        released: Name of the setting with all defects.
        none: That with none.
        keys: Of the draws.
    """
    draws = Draws("confounds", *keys)
    effects = {name: one.resampled(draws) for name, one in heard.items()}
    found = {}
    for name, one in heard.items():
        made = None
        if name not in (released, none):
            # Alone, a defect is added to none; left out, it is taken from all.
            first, second = (released, name) if name.startswith("without") else (name, none)
            if looked_at[first] != looked_at[second]:
                value = heard[first].effect() - heard[second].effect()
                down, up = _apart(heard, looked_at, first, second)
                made = _wider(_interval(value, effects[first] - effects[second]), value - down, value + up)
        context, by_problem = one.in_context[one.best()], one.tuned.mean(axis=0)
        rate, mean = Rate.of(context.tolist()), float(by_problem.mean())
        value, down, up = of_pairs(context, by_problem)
        resampled = _interval(rate.value, one.resampled_in_context(draws))
        found[name] = {
            "shots": one.shots[one.best()],
            "in_context": {**asdict(rate), **_wider(resampled, rate.low, rate.high)},
            "tuned": _wider(_interval(mean, one.resampled_tuned(draws)), *wilson(mean, len(by_problem))),
            "effect": _wider(_interval(value, effects[name]), value - down, value + up),
            "made": made,
        }
    return found


def _apart(
    heard: Mapping[str, Heard], looked_at: Mapping[str, LookedAt], first: str, second: str
) -> tuple[float, float]:
    """How far down and up the limits of a difference of two effects are; what both look at has no error of its own."""
    one, other = heard[first], heard[second]
    down = up = 0.0
    if looked_at[first].in_context != looked_at[second].in_context:
        _, down, up = of_pairs(one.in_context[one.best()], other.in_context[other.best()])
    if looked_at[first].tuned != looked_at[second].tuned:
        _, tuned_down, tuned_up = of_pairs(one.tuned.mean(axis=0), other.tuned.mean(axis=0))
        down, up = hypot(down, tuned_up), hypot(up, tuned_down)
    return down, up


def _wider(found: dict[str, float], low: float, high: float) -> dict[str, float]:
    return {**found, "low": min(found["low"], low), "high": max(found["high"], high)}


def _interval(value: float, resampled: Float[np.ndarray, " resamples"]) -> dict[str, float]:
    low, high = np.quantile(resampled, [0.025, 0.975])
    return {"value": value, "low": float(low), "high": float(high)}
