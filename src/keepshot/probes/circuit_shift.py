"""How far the circuit of one state of a model is from that of another.

A state is a model with a kind of prompt: the base without examples, the base behind k of them, a tuned model. With
m_c of `keepshot.probes.patching`, its span LD(clean) - LD(corrupt), and s^_c = s_c / sum s_c,

    s_c    = sum over pairs |m_c| |span| / sum over pairs |span|

    CS_L1 = 1/2 sum_c |s^_c(M) - s^_c(base)|                             in [0, 1]
    CS_J  = 1 - |Top_K(M) and Top_K(base)| / |Top_K(M) or Top_K(base)|   K a share of the components
    CS_rho = 1 - Spearman's rho of s(M) and s(base)

for heads and MLPs apart. **The definitions are this project's**: the formula of arXiv 2410.04691 is not known. In the
plain mean of |m_c| a few pairs that the corruption hardly touches would decide all, since m_c divides by their span. A
shift is one only beyond the noise floor, that of two halves of one state's own pairs.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats

from keepshot.errors import DataError
from keepshot.keys import generator, permutation
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
    """s_c: the size of every component's effect, as a part of what the corruption does."""
    span = (patched.clean - patched.corrupt).abs()
    sizes = (patched.effects.abs() * span).sum(dim=1) / span.sum()
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


def shift_interval(
    first: Patched, second: Patched, which: Which = "heads", *, resamples: int = 200
) -> tuple[Shift, Shift]:
    """Limits of the 95 % bootstrap interval of a shift over pairs, which both states were asked alike.

    A shift is a size, so that other draws of pairs make it rather larger: the interval lies rather above the shift.

    Args:
        first: A state.
        second: Another, asked the same pairs.
        which: Of the components.
        resamples: How many.

    Raises:
        DataError: They were asked different numbers of pairs, or have different components.
    """
    count = first.effects.shape[1]
    if second.effects.shape[1] != count:
        raise DataError(
            f"states that are compared were asked the same pairs; got {count} and {second.effects.shape[1]}"
        )
    draw = generator("circuit shift", count)
    found = []
    for _ in range(resamples):
        places = torch.tensor(draw.choices(range(count), k=count))
        found.append(shift(_part(first, places), _part(second, places), which))
    ranks = [one.rank for one in found if one.rank is not None]

    def limit(at: float) -> Shift:
        jaccard = np.quantile([one.jaccard for one in found], at, axis=0)
        rank = float(np.quantile(ranks, at)) if ranks else None
        return Shift(float(np.quantile([one.l1 for one in found], at)), tuple(jaccard.tolist()), rank)

    return limit(0.025), limit(0.975)


def normalised(patched: Patched, which: Which) -> dict[Component, float]:
    """s^_c: the scores as parts of 1; all alike where no component has any effect."""
    found = scores(patched, which)
    return dict(zip(found, _normalised(np.array(list(found.values()))).tolist(), strict=True))


def noise_floor(patched: Patched, which: Which = "heads", *, splits: int = 100) -> Shift:
    """What a shift must exceed: the 95 % quantile of that between halves of one state's pairs, split by key many times.

    Halves have half the pairs that two states are compared on, so the floor is rather too high.

    Args:
        patched: A state.
        which: Of the components.
        splits: How often.

    Raises:
        DataError: There are fewer than two pairs.
    """
    count = patched.effects.shape[1]
    if count < 2:
        raise DataError("a noise floor needs at least 2 pairs")
    found = []
    for number in range(splits):
        order = torch.tensor(permutation(count, number, "noise floor"))
        found.append(shift(_part(patched, order[: count // 2]), _part(patched, order[count // 2 :]), which))
    jaccard = np.quantile([one.jaccard for one in found], 0.95, axis=0)
    ranks = [one.rank for one in found if one.rank is not None]
    rank = float(np.quantile(ranks, 0.95)) if ranks else None
    return Shift(float(np.quantile([one.l1 for one in found], 0.95)), tuple(jaccard.tolist()), rank)


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
