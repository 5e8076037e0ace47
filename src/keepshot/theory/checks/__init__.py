"""Every closed form against its witnesses: sampled prompts, the slope at each claimed optimum, and training.

A Monte-Carlo line holds if every error lies within 4 standard errors of the sampled mean (a true formula misses that
once in 16,000 comparisons), a gradient line if the norm is below 1e-9, a training line if it is within the tolerance
that it prints.
"""

from collections.abc import Iterator

from keepshot.theory.checks.anchors import against_anchors
from keepshot.theory.checks.line import Line
from keepshot.theory.checks.sampled import against_prompts
from keepshot.theory.checks.slopes import against_gradients, paper_slips
from keepshot.theory.checks.trained import dense_training, exact_training

__all__ = ["Line", "check"]

PROMPTS = 1_000_000


def check(seed: int = 0, prompts: int = PROMPTS) -> Iterator[Line]:
    """All comparisons, each as soon as it is made.

    Args:
        seed: Of prompts and training.
        prompts: For each Monte-Carlo comparison; shot counts and tasks share them.
    """
    yield from against_prompts(prompts, seed)
    yield from against_gradients()
    yield from against_anchors(prompts, seed)
    yield from paper_slips()
    yield from exact_training(seed)
    yield from dense_training(seed)
