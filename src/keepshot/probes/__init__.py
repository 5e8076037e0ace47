"""What a model does with its context: learn from it, ignore it, or copy it."""

from keepshot.probes.context_use import Asked, Scores, Step, probe
from keepshot.probes.questions import Pool, Question, questions

__all__ = ["Asked", "Pool", "Question", "Scores", "Step", "probe", "questions"]
