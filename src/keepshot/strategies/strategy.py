"""A method is a value: streams x trainable x terms, penalties on the numbers that move, a merge at the end."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from keepshot.models.roles import Role
from keepshot.strategies.adapters import Lora
from keepshot.strategies.merge import Merge
from keepshot.strategies.soft_prompt import SoftPrompt
from keepshot.strategies.trainable import Trainable

TARGET = "target"
_STRICT = ConfigDict(frozen=True, extra="forbid")


class ContextSpec(BaseModel):
    """Which of the target's examples stand before a target row; see `keepshot.episodes.Contexts`.

    Attributes:
        kind: `random`, `similar`, `contrastive`, `across` or `within`.
        near: Probability of a near example in a contrastive context.
        paraphrase: Probability of a paraphrase in a contrastive context.
        nearest: Of how many nearest examples one is drawn.
        duplicate: Similarity from which another example counts as the same, and is no neighbour.
        similarity: `words` or `characters`: BM25 over these; `auto`: by the length of the inputs; anything else is a
            sentence-transformers model (extra `dense`), whose cosine it is.
        paraphrases: `edits`: small edits of the input, and of the answer where it holds the same words; `none`; or a
            file of rows with `of`, `input` and `output`.
    """

    model_config = _STRICT
    kind: Literal["random", "similar", "contrastive", "across", "within"] = "contrastive"
    near: float = Field(default=0.45, ge=0, le=1)
    paraphrase: float = Field(default=0.10, ge=0, le=1)
    nearest: int = Field(default=1, ge=1)
    duplicate: float = Field(default=0.98, gt=0)
    similarity: str = "auto"
    paraphrases: str = "edits"

    @model_validator(mode="after")
    def _check(self) -> "ContextSpec":
        if self.near + self.paraphrase > 1:
            raise ValueError(
                f"near {self.near:g} and paraphrase {self.paraphrase:g} are probabilities, at most 1 together"
            )
        return self


class StreamSpec(BaseModel):
    """What the model sees in one kind of row.

    Attributes:
        name: Unique in a strategy, and part of a file's name; the first stream is called `target`.
        sampler: `zero-shot`: each example by itself. `k-shot`: demonstrations and a query of one task. `self-anchor`:
            the target's inputs under arbitrary functions. `context`: each of the target's examples behind others of
            them.
        source: Where examples come from: the run's training data, or `sources.general`, `sources.icl` or
            `sources.anchors` of the config.
        share: Fraction of all computed tokens; the target has none, it takes what is left.
        shots: Fewest and most demonstrations of a k-shot row, or pairs in a row of self-anchors.
        scored: What of a row is trained on: every answer, only the last, all but the first (`later`), or every token
            (`row`), the questions too.
        visits: How often a row is seen on average, where a term that asks the base needs fixed rows.
        context: Of the sampler `context`: which examples stand before each.
    """

    model_config = _STRICT
    name: str = Field(pattern=r"^[^/\\]+$")
    sampler: Literal["zero-shot", "k-shot", "self-anchor", "context"] = "zero-shot"
    source: Literal["target", "general", "icl", "anchors"] = "target"
    share: float | None = Field(default=None, gt=0, lt=1)
    shots: tuple[int, int] = (1, 16)
    scored: Literal["last", "all", "later", "row"] = "all"
    visits: float = Field(default=4, gt=0)
    context: ContextSpec | None = None

    @model_validator(mode="after")
    def _check(self) -> "StreamSpec":
        if not 0 < self.shots[0] <= self.shots[1]:
            raise ValueError(f"shots are the fewest and the most, such as [1, 16]; {list(self.shots)} is not")
        if self.sampler == "self-anchor" and self.source != "target":
            raise ValueError(f"self-anchors are made of the target's own inputs; source {self.source} is not allowed")
        if self.sampler == "self-anchor" and self.shots[0] < 2:
            raise ValueError(f"a row of self-anchors has 2 pairs or more; shots {list(self.shots)} allows fewer")
        if self.sampler == "context" and self.source != "target":
            raise ValueError(f"contexts are made of the target's own examples; source {self.source} is not allowed")
        if (self.sampler == "context") != (self.context is not None):
            raise ValueError("the sampler context and the key context come together")
        return self


Kind = Literal["nll", "kl", "reverse-kl", "masked-kl"]
KEPT = 64


class Term(BaseModel):
    """What is minimised on a stream, in nats per scored token.

    Attributes:
        kind: `nll`: negative log-likelihood of the answers. `kl`: KL from the base to the model. `reverse-kl`: KL from
            the model to the base. `masked-kl`: KL from the base to the model over all tokens but the right one. The
            three are 0 before the first step.
        stream: The stream it is bound to; its scored answers are the tokens.
        weight: Fraction of the loss.
        anneal: `linear` lets the weight fall to 0 by the end of training.
        temperature: T of a KL term, which is T^2 KL between distributions at T.
        kept: Tokens of the base's distribution that a KL term keeps apart; the rest is one mass.
        least: `nll` only: answer tokens that the base held less probable get no loss, see `base_shares`; None trains
            on all.
    """

    model_config = _STRICT
    kind: Kind = "nll"
    stream: str = TARGET
    weight: float = Field(default=1.0, gt=0)
    anneal: Literal["constant", "linear"] = "constant"
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    kept: int = Field(default=KEPT, ge=1)
    least: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> "Term":
        if self.kind == "nll" and (self.temperature, self.kept) != (1.0, KEPT):
            raise ValueError("temperature and kept belong to the KL terms; leave them out of nll")
        if self.kind != "nll" and self.least is not None:
            raise ValueError(f"least belongs to the term nll; leave it out of {self.kind}")
        return self

    @property
    def asks_base(self) -> bool:
        """Whether it needs to know what the base says."""
        return self.kind != "nll" or self.least is not None

    def at(self, progress: float) -> float:
        """The weight when a fraction `progress` of the training is done."""
        return self.weight if self.anneal == "constant" else self.weight * max(0.0, 1.0 - progress)


_PROMPT_FIELDS = ("sampler", "source", "shots", "rows", "passes")


class Penalty(BaseModel):
    """What holds the numbers that move to where they start: strength / 2 x sum of F (theta - theta0)^2.

    theta0 are the numbers at step 0: the base's, or an adapter's own start (B = 0, so that A hardly matters).

    Attributes:
        kind: `l2sp`: F is 1. `ewc`: F is the diagonal of the base's Fisher information on few-shot prompts, divided by
            its mean over the numbers that move, so that one strength pulls equally on average in both kinds.
        strength: Of the pull; it has no part in the weights of the terms.
        roles: Only the numbers that serve these are held; None holds all that move.
        sampler: `ewc` only, as the next four: where the prompts come from, see `StreamSpec`.
        source: As for a stream.
        shots: As for a stream: pairs in a row of self-anchors.
        rows: Prompts.
        passes: Into so many parts the prompts are put; each costs a square of every number that moves, and more of
            them make the estimate less noisy.
    """

    model_config = _STRICT
    kind: Literal["l2sp", "ewc"]
    strength: float = Field(gt=0, allow_inf_nan=False)
    roles: tuple[Role, ...] | None = Field(default=None, min_length=1)
    sampler: Literal["k-shot", "self-anchor"] = "self-anchor"
    source: Literal["target", "icl", "anchors"] = "target"
    shots: tuple[int, int] = (8, 16)
    rows: int = Field(default=16, ge=1)
    passes: int = Field(default=16, ge=1)

    @model_validator(mode="after")
    def _check(self) -> "Penalty":
        fields = type(self).model_fields
        if self.kind == "l2sp" and any(getattr(self, name) != fields[name].default for name in _PROMPT_FIELDS):
            raise ValueError(f"{', '.join(_PROMPT_FIELDS)} belong to the penalty ewc; leave them out of l2sp")
        _ = self.prompts  # whose own check says what is wrong
        return self

    @property
    def prompts(self) -> StreamSpec | None:
        """What the base is asked for its Fisher information; None where there is none."""
        if self.kind == "l2sp":
            return None
        # As for the anchors of a KL term: a row's first question is the target's own zero-shot prompt.
        scored: Literal["later", "all"] = "later" if self.sampler == "self-anchor" else "all"
        return StreamSpec(name=self.kind, sampler=self.sampler, source=self.source, shots=self.shots, scored=scored)


class Strategy(BaseModel):
    """A complete method.

    Attributes:
        trainable: Which numbers may move.
        streams: What the model sees; the target first.
        terms: What is minimised; every stream has one or more, each kind once, and their weights sum to 1.
        penalties: What is added to that at every step, each kind once.
        prompt: A soft prompt that is trained before, on the target alone with all weights frozen, and then stands
            frozen before the target's rows; rows of other streams have none.
        merge: What becomes of the tuned weights before they are saved.
    """

    model_config = _STRICT
    trainable: Trainable
    streams: tuple[StreamSpec, ...] = (StreamSpec(name=TARGET),)
    terms: tuple[Term, ...] = (Term(),)
    penalties: tuple[Penalty, ...] = ()
    prompt: SoftPrompt | None = None
    merge: Merge | None = None

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
        if len({penalty.kind for penalty in self.penalties}) < len(self.penalties):
            raise ValueError("two penalties are of one kind; give one with the sum of their strengths")
        if self.prompt is not None and (asking := self.base_terms(TARGET)):
            what = asking[0].kind if asking[0].kind != "nll" else "nll with least"
            raise ValueError(
                f"the term {what} asks the base about the target's rows, before which a soft prompt stands that the "
                "base does not know; leave out the prompt (promot) or that term"
            )
        if isinstance(self.trainable, Lora) and any(penalty.roles for penalty in self.penalties):
            raise ValueError("roles of a penalty name weights, and an adapter moves none; leave them out")
        if self.merge is not None and self.prompt is not None:
            raise ValueError(
                "a soft prompt (promot) fits its own weights and none between them and the base; leave out the prompt "
                "or the merge (wise-ft)"
            )
        if self.merge is not None and isinstance(self.trainable, Lora) and self.trainable.dora:
            raise ValueError(
                "the update of DoRA is not linear in its scale, so that no straight line leads to the base; take a "
                "plain LoRA, or leave out the merge (wise-ft)"
            )
        return self

    def weight(self, stream: str) -> float:
        """Fraction of the loss that a stream has."""
        return sum(term.weight for term in self.terms if term.stream == stream)

    def base_terms(self, stream: str) -> tuple[Term, ...]:
        """The terms of a stream that need to know what the base says."""
        return tuple(term for term in self.terms if term.stream == stream and term.asks_base)
