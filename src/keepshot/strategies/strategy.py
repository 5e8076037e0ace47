"""A method is a value: streams x trainable x terms."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from keepshot.strategies.trainable import Trainable

TARGET = "target"
_STRICT = ConfigDict(frozen=True, extra="forbid")


class StreamSpec(BaseModel):
    """What the model sees in one kind of row.

    Attributes:
        name: Unique in a strategy; the first stream is called `target`.
        sampler: `zero-shot`: each example by itself. `k-shot`: demonstrations and a query of one task.
        source: Where examples come from: the run's training data, or `sources.general` or `sources.icl` of the config.
        share: Fraction of all computed tokens; the target has none, it takes what is left.
        shots: Fewest and most demonstrations of a k-shot row.
        scored: Whether every answer of a row is trained on or only the last.
    """

    model_config = _STRICT
    name: str = Field(min_length=1)
    sampler: Literal["zero-shot", "k-shot"] = "zero-shot"
    source: Literal["target", "general", "icl"] = "target"
    share: float | None = Field(default=None, gt=0, lt=1)
    shots: tuple[int, int] = (1, 16)
    scored: Literal["last", "all"] = "all"

    @model_validator(mode="after")
    def _check(self) -> "StreamSpec":
        if not 0 < self.shots[0] <= self.shots[1]:
            raise ValueError(f"shots are the fewest and the most, such as [1, 16]; {list(self.shots)} is not")
        return self


class Term(BaseModel):
    """What is minimised on a stream.

    Attributes:
        kind: `nll`: negative log-likelihood of the scored answers, in nats per token.
        stream: The stream it is bound to.
        weight: Fraction of the loss.
    """

    model_config = _STRICT
    kind: Literal["nll"] = "nll"
    stream: str = TARGET
    weight: float = Field(default=1.0, gt=0)


class Strategy(BaseModel):
    """A complete method.

    Attributes:
        trainable: Which numbers may move.
        streams: What the model sees; the target first.
        terms: What is minimised; every stream has one, and their weights sum to 1.
    """

    model_config = _STRICT
    trainable: Trainable
    streams: tuple[StreamSpec, ...] = (StreamSpec(name=TARGET),)
    terms: tuple[Term, ...] = (Term(),)

    @model_validator(mode="after")
    def _check(self) -> "Strategy":
        names = [stream.name for stream in self.streams]
        if len(set(names)) < len(names):
            raise ValueError(f"stream names must differ; they are {names}")
        first = self.streams[0]
        if first.name != TARGET or first.share is not None:
            raise ValueError("the first stream must be called target and have no share (it takes what is left)")
        if lacking := [stream.name for stream in self.streams[1:] if stream.share is None]:
            raise ValueError(f"stream {lacking[0]} needs a share between 0 and 1")
        if (total := sum(stream.share or 0 for stream in self.streams)) >= 1:
            raise ValueError(f"the shares sum to {total:g}; they must leave something to the target")
        bound = sorted(term.stream for term in self.terms)
        if bound != sorted(names):
            raise ValueError(f"every stream needs one term; streams are {names}, terms are bound to {bound}")
        weight = sum(term.weight for term in self.terms)
        if abs(weight - 1) > 1e-6:  # more than the rounding of written decimals
            raise ValueError(f"the weights of the terms sum to {weight:.7g}; they are fractions of the loss, 1 in all")
        return self

    def weight(self, stream: str) -> float:
        """Fraction of the loss that a stream has."""
        return next(term.weight for term in self.terms if term.stream == stream)
