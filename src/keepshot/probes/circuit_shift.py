"""How far the circuit of one state of a model is from that of another.

A state is a model with a kind of prompt: the base without examples, the base behind k of them, a tuned model. With
s_c the mean over pairs of |m_c| (see `keepshot.probes.patching`) and s^_c = s_c / sum s_c,

    CS_L1 = 1/2 sum_c |s^_c(M) - s^_c(base)|                             in [0, 1]
    CS_J  = 1 - |Top_K(M) and Top_K(base)| / |Top_K(M) or Top_K(base)|   K a share of the components
    CS_rho = 1 - Spearman's rho of s(M) and s(base)

for heads and MLPs apart. **The definitions are this project's**: the formula of arXiv 2410.04691 is not known. A shift
is one only beyond the noise floor, that of two halves of the base's own pairs.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats

from keepshot.errors import DataError
from keepshot.keys import permutation
from keepshot.probes.patching import Component, Patched

Which = Literal["heads", "MLPs"]
SHARES = (0.05, 0.10)


@dataclass(frozen=True, slots=True)
class Shift:
    """Between two states.

    Attributes:
        l1: CS_L1.
        jaccard: CS_J, for the shares of `SHARES`.
        rank: CS_rho; None where the scores of a state are all alike.
    """

    l1: float
    jaccard: tuple[float, ...]
    rank: float | None


def scores(patched: Patched, which: Which) -> dict[Component, float]:
    """s_c: the mean size of every component's effect."""
    sizes = patched.effects.abs().mean(dim=1)
    wanted = which == "heads"
    return {
        component: float(size)
        for component, size in zip(patched.components, sizes, strict=True)
        if (component.head is not None) is wanted
    }


def shift(first: Patched, second: Patched, which: Which = "heads") -> Shift:
    """The circuit shift between two states, which have the same components.

    Raises:
        DataError: They have not.
    """
    one, other = scores(first, which), scores(second, which)
    if one.keys() != other.keys():
        raise DataError("circuits of different components cannot be compared")
    a, b = (np.array([found[component] for component in one]) for found in (one, other))
    l1 = 0.5 * float(np.abs(_normalised(a) - _normalised(b)).sum())
    jaccard = tuple(_jaccard(a, b, max(1, round(share * len(a)))) for share in SHARES)
    alike = np.ptp(a) == 0 or np.ptp(b) == 0
    return Shift(l1, jaccard, None if alike else 1 - float(stats.spearmanr(a, b).statistic))


def noise_floor(patched: Patched, which: Which = "heads", seed: int = 0) -> Shift:
    """The shift between two halves of one state's pairs, split by key.

    Raises:
        DataError: There are fewer than two pairs.
    """
    count = patched.effects.shape[1]
    if count < 2:
        raise DataError("a noise floor needs at least 2 pairs")
    order = torch.tensor(permutation(count, seed, "noise floor"))
    halves = (order[: count // 2], order[count // 2 :])
    first, second = (_part(patched, half) for half in halves)
    return shift(first, second, which)


def _part(patched: Patched, places: torch.Tensor) -> Patched:
    return Patched(
        patched.components,
        patched.effects[:, places],
        patched.clean[places],
        patched.corrupt[places],
        patched.whole[places],
    )


def _normalised(values: Float[np.ndarray, " components"]) -> Float[np.ndarray, " components"]:
    total = values.sum()
    return values / total if total else np.full_like(values, 1 / len(values))


def _jaccard(a: Float[np.ndarray, " components"], b: Float[np.ndarray, " components"], count: int) -> float:
    """Of equally large ones the earlier counts, in both alike."""
    first, second = (set(np.argsort(-values, kind="stable")[:count].tolist()) for values in (a, b))
    return 1 - len(first & second) / len(first | second)
