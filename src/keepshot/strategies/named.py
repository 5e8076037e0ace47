"""The named methods. To add one, add one value; the contract tests, `keepshot methods` and the config take it up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from keepshot.errors import ConfigError
from keepshot.strategies.strategy import TARGET, Strategy, StreamSpec, Term
from keepshot.strategies.trainable import Everything, Lora, Pattern, Roles, Trainable


@dataclass(frozen=True, slots=True)
class Method:
    """A trainable set with a name.

    Attributes:
        name: As written in a config.
        trainable: Which numbers may move.
        trains: That in words.
        learning_rate: Used where the config gives none.
        cites: Where it comes from.
    """

    name: str
    trainable: Trainable
    trains: str
    learning_rate: float
    cites: str

    @property
    def costs(self) -> str:
        """Memory beside the weights: a float32 gradient and two moments of AdamW for every number that moves."""
        return "12 bytes for every weight" if isinstance(self.trainable, Everything) else "12 bytes for each of these"


NLL = Term()


@dataclass(frozen=True, slots=True)
class Addition:
    """A stream that joins the target's, with its term.

    Attributes:
        name: As written in a config.
        stream: What the model sees besides.
        sees: That in words.
        cites: Where it comes from.
        term: What is minimised on it; its weight is set by `weight`.
        weight: Fraction of the loss beside the target's alone; None is the stream's share of the cost.
    """

    name: str
    stream: StreamSpec
    sees: str
    cites: str
    term: Term = NLL
    weight: float | None = None

    @property
    def costs(self) -> str:
        """Computed tokens, against the method without it at equal target rows."""
        share = self.stream.share or 0
        return f"{1 / (1 - share):.2f} x the tokens"


# Learning rates: 2e-5 is TRL's default for full fine-tuning. Subsets move fewer numbers and need larger steps
# (preservation_methods.md, section 5: 10 x for equal target accuracy); 2e-4 for LoRA as in arXiv 2106.09685.
FULL_RATE, SUBSET_RATE, LORA_RATE = 2e-5, 2e-4, 2e-4

METHODS = {
    method.name: method
    for method in (
        Method("full", Everything(), "all weights", FULL_RATE, "the plain baseline"),
        Method(
            "lora", Lora(), "rank-16 adapters on query and value (alpha 32, dropout .05)", LORA_RATE, "arXiv 2106.09685"
        ),
        Method("value", Roles(roles=("value",)), "the value matrices", SUBSET_RATE, "arXiv 2602.23197"),
        Method(
            "value-output",
            Roles(roles=("value", "output")),
            "the value and output matrices",
            SUBSET_RATE,
            "arXiv 2602.23197, with the output as part of the value path",
        ),
        Method(
            "query-key",
            Roles(roles=("query", "key")),
            "the query and key matrices (the theory's worst case)",
            SUBSET_RATE,
            "arXiv 2602.23197",
        ),
        Method(
            "attention",
            Roles(roles=("query", "key", "value", "output")),
            "all attention matrices",
            SUBSET_RATE,
            "the plain baseline among the subsets",
        ),
        Method(
            "lora-value",
            Lora(targets=("value",)),
            "rank-16 adapters on value alone",
            LORA_RATE,
            "arXiv 2106.09685 on the matrices of 2602.23197",
        ),
    )
}

# lambda = 1, the default of the literature's formulas: the term weighs what the target's loss weighs.
EVEN = 0.5

ADDITIONS = {
    addition.name: addition
    for addition in (
        Addition(
            "general",
            StreamSpec(name="general", source="general", share=0.1),
            "general instruction data of sources.general, zero-shot, 10 % of the tokens; for the model mini, which has "
            "no such data, few-shot episodes of the bundled universe",
            "hypothesis H3 of the literature; arXiv 2502.06042 for replay",
        ),
        Addition(
            "icl-mix",
            StreamSpec(name="icl-mix", sampler="k-shot", source="icl", share=0.2),
            "few-shot episodes of many other tasks (sources.icl), every answer trained on, 20 % of the tokens",
            "arXiv 2110.15943; 2506.11103 for training on every answer",
        ),
        Addition(
            "few-shot",
            StreamSpec(name="few-shot", sampler="k-shot", share=0.2, scored="last"),
            "few-shot episodes of the target itself, the query's answer trained on, 20 % of the tokens, half of the "
            "loss (constant; `anneal: linear` lets it fall to 0)",
            "arXiv 2602.23197, the auxiliary few-shot loss",
            weight=EVEN,
        ),
        Addition(
            "icl-kl",
            StreamSpec(name="icl-kl", sampler="k-shot", source="anchors", share=0.1, shots=(1, 8)),
            "few-shot prompts of other tasks (sources.anchors), KL from the base at every answer, no labels used, 10 % "
            "of the tokens, half of the loss",
            "this project",
            Term(kind="kl"),
            EVEN,
        ),
        Addition(
            "self-anchor",
            # A row's first question is the target's own zero-shot prompt, on which the base must not be kept.
            StreamSpec(name="self-anchor", sampler="self-anchor", share=0.1, shots=(8, 16), scored="later"),
            "no further data: the target's inputs under arbitrary functions, KL from the base at every answer but a "
            "row's first, 10 % of the tokens, half of the loss",
            "this project",
            Term(kind="kl"),
            EVEN,
        ),
    )
}


_TERM_FIELDS = ("weight", "anneal", "temperature", "kept")


def resolve_method(written: object) -> tuple[str, Strategy, float | None]:
    """A config's `method` as a value.

    Args:
        written: A name (`value`), a list of one trainable and any additions (`[value, icl-mix]`; an addition may be
            `{icl-kl: {share: .2, weight: .3}}`, the trainable `{trainable: {pattern: REGEX}}`), or a whole strategy.

    Returns:
        The name to show, the strategy, and its default learning rate (None for a strategy written out).

    Raises:
        ConfigError: It is none of these.

    Example:
        >>> name, strategy, rate = resolve_method(["value", "icl-mix"])
        >>> name, [stream.name for stream in strategy.streams]
        ('value+icl-mix', ['target', 'icl-mix'])
    """
    if isinstance(written, dict) and ("streams" in written or "terms" in written):
        fields = dict(written)
        fields["trainable"] = _with_kind(fields.get("trainable"))
        return "custom", _validated(TypeAdapter(Strategy), fields, "method"), None
    first, *rest = written if isinstance(written, list | tuple) and written else [written]
    name, trainable, rate = _trainable(first)
    additions = [_addition(entry) for entry in rest]
    strategy = compose(trainable, additions)
    return "+".join([name, *(one.stream.name for one in additions)]), strategy, rate


@dataclass(frozen=True, slots=True)
class Added:
    """A stream with its term, as it joins a strategy.

    Attributes:
        stream: What the model sees besides.
        term: What is minimised on it.
        against_target: Whether the term's weight is meant beside the target's alone: two terms of half the loss each
            then get a third, as much as the target. Otherwise it is a fraction of the whole loss.
    """

    stream: StreamSpec
    term: Term
    against_target: bool = False


def compose(trainable: Trainable, added: Sequence[Added]) -> Strategy:
    """A strategy of the target's rows and some streams with a term each; the target's loss weighs what is left."""
    names = [one.stream.name for one in added]
    if len(set(names)) < len(names):
        raise ConfigError(f"method names an addition twice: {', '.join(names)}")
    for what, total in (
        ("shares", sum(one.stream.share or 0.0 for one in added)),
        ("weights", sum(one.term.weight for one in added if not one.against_target)),
    ):
        if total >= 1:
            raise ConfigError(f"the {what} of {', '.join(names)} sum to {total:g}; they must leave something over")
    fixed = sum(one.term.weight for one in added if not one.against_target)
    ratios = [one.term.weight / (1 - one.term.weight) if one.against_target else 0.0 for one in added]
    target = (1 - fixed) / (1 + sum(ratios))
    terms = [
        one.term.model_copy(update={"weight": ratio * target}) if one.against_target else one.term
        for one, ratio in zip(added, ratios, strict=True)
    ]
    return Strategy(
        trainable=trainable,
        streams=(StreamSpec(name=TARGET), *(one.stream for one in added)),
        terms=(Term(weight=target), *terms),
    )


def _trainable(written: object) -> tuple[str, Trainable, float | None]:
    if isinstance(written, str) and written in METHODS:
        method = METHODS[written]
        return method.name, method.trainable, method.learning_rate
    if isinstance(written, dict) and set(written) == {"trainable"}:
        value: Trainable = _validated(TypeAdapter(Trainable), _with_kind(written["trainable"]), "method.trainable")
        rate = {"everything": FULL_RATE, "lora": LORA_RATE}.get(value.kind, SUBSET_RATE)
        return value.kind, value, rate
    if isinstance(written, str) and written in ADDITIONS:
        raise ConfigError(f"method {written} is an addition; name what to train first, such as [full, {written}]")
    raise ConfigError(
        f"method {written!r} is unknown; use one of {', '.join(METHODS)}, a list that starts with one of them (then "
        f"{' or '.join(ADDITIONS)}), {{trainable: {{pattern: REGEX}}}}, or a whole strategy"
    )


def _addition(written: object) -> Added:
    name: object = written
    changes: object = {}
    if isinstance(written, dict) and len(written) == 1:
        name, changes = next(iter(written.items()))
    if not isinstance(name, str) or name not in ADDITIONS or not isinstance(changes, dict):
        raise ConfigError(
            f"method addition {written!r} is unknown; use {' or '.join(ADDITIONS)}, or {{NAME: {{share: .2}}}}"
        )
    addition = ADDITIONS[name]
    of_term = {key: value for key, value in changes.items() if key in _TERM_FIELDS}
    of_stream = {key: value for key, value in changes.items() if key not in _TERM_FIELDS}
    stream = _validated(TypeAdapter(StreamSpec), addition.stream.model_dump() | of_stream, f"method.{name}")
    weight = stream.share if addition.weight is None else addition.weight
    fields = addition.term.model_dump() | {"stream": stream.name, "weight": weight} | of_term
    term: Term = _validated(TypeAdapter(Term), fields, f"method.{name}")
    if term.weight >= 1:
        raise ConfigError(f"method.{name}.weight {term.weight:g} must leave some of the loss to the target")
    return Added(stream, term, against_target=addition.weight is not None)


def _with_kind(written: object) -> object:
    """Trainables written without their kind are told apart by their first key."""
    if written == "everything":
        return {"kind": "everything"}
    if isinstance(written, str) and written in METHODS:
        return METHODS[written].trainable
    if not isinstance(written, dict) or "kind" in written:
        return written
    kinds = {"pattern": Pattern, "roles": Roles, "lora": Lora}
    for kind in kinds:
        if kind in written:
            if others := [str(name) for name in written if name != kind]:
                raise ConfigError(
                    f"method.trainable has {', '.join(others)} beside {kind}; one trainable has one kind, and what "
                    "belongs to lora is written inside it, such as {lora: {r: 8, targets: [value]}}"
                )
            inner = written[kind] if kind == "lora" else None
            return {"kind": kind, **(inner if isinstance(inner, dict) else written)}
    return written


def _validated(adapter: TypeAdapter, value: object, where: str) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join([where, *(str(part) for part in first["loc"])])
        raise ConfigError(f"{path}: {first['msg']}; got {first['input']!r}") from None
