"""A method is a value: streams x trainable x terms."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from keepshot.strategies.trainable import Trainable

TARGET = "target"
_STRICT = ConfigDict(frozen=True, extra="forbid")


class StreamSpec(BaseModel):
    """What the model sees in one kind of row.

    Attributes:
        name: Unique in a strategy, and part of a file's name; the first stream is called `target`.
        sampler: `zero-shot`: each example by itself. `k-shot`: demonstrations and a query of one task. `self-anchor`:
            the target's inputs under arbitrary functions.
        source: Where examples come from: the run's training data, or `sources.general`, `sources.icl` or
            `sources.anchors` of the config.
        share: Fraction of all computed tokens; the target has none, it takes what is left.
        shots: Fewest and most demonstrations of a k-shot row, or pairs in a row of self-anchors.
        scored: Whether every answer of a row is trained on, only the last, or all but the first (`later`).
        visits: How often a row is seen on average, where a KL term needs fixed rows.
    """

    model_config = _STRICT
    name: str = Field(pattern=r"^[^/\\]+$")
    sampler: Literal["zero-shot", "k-shot", "self-anchor"] = "zero-shot"
    source: Literal["target", "general", "icl", "anchors"] = "target"
    share: float | None = Field(default=None, gt=0, lt=1)
    shots: tuple[int, int] = (1, 16)
    scored: Literal["last", "all", "later"] = "all"
    visits: float = Field(default=4, gt=0)

    @model_validator(mode="after")
    def _check(self) -> "StreamSpec":
        if not 0 < self.shots[0] <= self.shots[1]:
            raise ValueError(f"shots are the fewest and the most, such as [1, 16]; {list(self.shots)} is not")
        if self.sampler == "self-anchor" and self.source != "target":
            raise ValueError(f"self-anchors are made of the target's own inputs; source {self.source} is not allowed")
        if self.sampler == "self-anchor" and self.shots[0] < 2:
            raise ValueError(f"a row of self-anchors has 2 pairs or more; shots {list(self.shots)} allows fewer")
        return self


Kind = Literal["nll", "kl", "reverse-kl"]
KEPT = 64


class Term(BaseModel):
    """What is minimised on a stream, in nats per scored token.

    Attributes:
        kind: `nll`: negative log-likelihood of the answers. `kl`: KL from the base to the model. `reverse-kl`: KL from
            the model to the base. Both are 0 before the first step.
        stream: The stream it is bound to; its scored answers are the tokens.
        weight: Fraction of the loss.
        anneal: `linear` lets the weight fall to 0 by the end of training.
        temperature: T of a KL term, which is T^2 KL between distributions at T.
        kept: Tokens of the base's distribution that a KL term keeps apart; the rest is one mass.
    """

    model_config = _STRICT
    kind: Kind = "nll"
    stream: str = TARGET
    weight: float = Field(default=1.0, gt=0)
    anneal: Literal["constant", "linear"] = "constant"
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    kept: int = Field(default=KEPT, ge=1)

    @model_validator(mode="after")
    def _check(self) -> "Term":
        if self.kind == "nll" and (self.temperature, self.kept) != (1.0, KEPT):
            raise ValueError("temperature and kept belong to the terms kl and reverse-kl; leave them out of nll")
        return self

    def at(self, progress: float) -> float:
        """The weight when a fraction `progress` of the training is done."""
        return self.weight if self.anneal == "constant" else self.weight * max(0.0, 1.0 - progress)


class Strategy(BaseModel):
    """A complete method.

    Attributes:
        trainable: Which numbers may move.
        streams: What the model sees; the target first.
        terms: What is minimised; every stream has one or more, each kind once, and their weights sum to 1.
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
        bound = {term.stream for term in self.terms}
        if bound != set(names):
            raise ValueError(f"every stream needs a term; streams are {names}, terms are bound to {sorted(bound)}")
        if len({(term.stream, term.kind) for term in self.terms}) < len(self.terms):
            raise ValueError("a stream has two terms of one kind; give it one with the sum of their weights")
        weight = sum(term.weight for term in self.terms)
        if abs(weight - 1) > 1e-6:  # more than the rounding of written decimals
            raise ValueError(f"the weights of the terms sum to {weight:.7g}; they are fractions of the loss, 1 in all")
        return self

    def weight(self, stream: str) -> float:
        """Fraction of the loss that a stream has."""
        return sum(term.weight for term in self.terms if term.stream == stream)

    def kl_terms(self, stream: str) -> tuple[Term, ...]:
        """The terms of a stream that compare with the base."""
        return tuple(term for term in self.terms if term.stream == stream and term.kind != "nll")
