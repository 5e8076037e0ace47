"""What stands at the end of a training: a step back from the tuned weights towards the base's."""

from pydantic import BaseModel, ConfigDict, Field


class Merge(BaseModel):
    """What is saved is (1 - a) base + a tuned, number by number; of a LoRA adapter, its update times a.

    Attributes:
        coefficient: a, between the base (0) and the tuned model (1).

    Reference:
        WiSE-FT, arXiv 2109.01903, equation 1; a = .5 is what it takes where nothing is known of the other tasks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    coefficient: float = Field(default=0.5, gt=0, lt=1)
