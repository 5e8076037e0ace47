"""How the trained models of the laboratory are tuned: values, as the methods of a language model are."""

from dataclasses import dataclass

from keepshot.models.roles import Role
from keepshot.theory.preservation import Anchors

ALL: tuple[Role, ...] = ("query", "key", "value")
"""The roles of full fine-tuning."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to train; the defaults are the authors'.

    Attributes:
        steps: Of each stage.
        batch: Prompts in a step.
        pool: Pairs (x, y) that fine-tuning draws from.
        learning_rate: Constant.
    """

    steps: int = 5_000
    batch: int = 5_000
    pool: int = 100_000
    learning_rate: float = 0.01


@dataclass(frozen=True, slots=True)
class FewShotLoss:
    """An added loss on prompts with demonstrations of the target.

    Attributes:
        shots: n.
        weight: lambda at the first step.
        annealed: Whether lambda falls to 0 in equal steps; else it stays.
    """

    shots: int = 20
    weight: float = 1.0
    annealed: bool = True

    def at(self, step: int, steps: int) -> float:
        """lambda at a step, counted from 0."""
        return self.weight * ((steps - 1 - step) / max(1, steps - 1) if self.annealed else 1.0)


@dataclass(frozen=True, slots=True)
class Tuning:
    """A way to fine-tune: the target's zero-shot loss, and what is added to it.

    Attributes:
        roles: What may move; everything else stays bit-identical.
        few_shot: The loss on prompts with demonstrations of the target.
        anchors: What holds the model to its base.
    """

    roles: tuple[Role, ...] = ALL
    few_shot: FewShotLoss | None = None
    anchors: Anchors | None = None
