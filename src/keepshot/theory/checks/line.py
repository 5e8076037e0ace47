"""What a comparison says, and the setting that most of them are made in: that of the paper's experiments."""

from dataclasses import dataclass
from typing import Literal

from keepshot.theory.regression import Geometry, isotropic, target

DIMENSION, CONTEXT, NOISE = 5, 20, 0.1
SETTING = isotropic(DIMENSION, NOISE)
TARGET = target(DIMENSION)
SAME = Geometry(target_power=1.0, power=1.0, overlap=1.0)


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison.

    Attributes:
        witness: What a claim is held against.
        claim: What is compared.
        found: The numbers, as text.
        holds: Whether they are within their limit.
    """

    witness: Literal["Monte Carlo", "gradient", "formula", "training"]
    claim: str
    found: str
    holds: bool
