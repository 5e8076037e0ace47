"""The named methods. To add one, add one value; the contract tests, `keepshot methods` and the config take it up."""

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


@dataclass(frozen=True, slots=True)
class Addition:
    """A stream that joins the target's, with its term.

    Attributes:
        name: As written in a config.
        stream: What the model sees besides.
        sees: That in words.
        cites: Where it comes from.
    """

    name: str
    stream: StreamSpec
    sees: str
    cites: str

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
    )
}


def resolve_method(written: object) -> tuple[str, Strategy, float | None]:
    """A config's `method` as a value.

    Args:
        written: A name (`value`), a list of one trainable and any additions (`[value, icl-mix]`; an addition may be
            `{icl-mix: {share: .3}}`, the trainable `{trainable: {pattern: REGEX}}`), or a whole strategy.

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
    return "+".join([name, *(stream.name for stream in additions)]), strategy, rate


def compose(trainable: Trainable, added: list[StreamSpec]) -> Strategy:
    """A strategy of the target's rows and some streams; each stream's weight in the loss is its share of the cost."""
    names = [stream.name for stream in added]
    if len(set(names)) < len(names):
        raise ConfigError(f"method names an addition twice: {', '.join(names)}")
    shares = [stream.share or 0.0 for stream in added]
    if sum(shares) >= 1:
        raise ConfigError(f"the shares of {', '.join(names)} sum to {sum(shares):g}; they must leave something over")
    terms = [Term(stream=stream.name, weight=share) for stream, share in zip(added, shares, strict=True)]
    return Strategy(
        trainable=trainable,
        streams=(StreamSpec(name=TARGET), *added),
        terms=(Term(weight=1 - sum(shares)), *terms),
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


def _addition(written: object) -> StreamSpec:
    name: object = written
    changes: object = {}
    if isinstance(written, dict) and len(written) == 1:
        name, changes = next(iter(written.items()))
    if not isinstance(name, str) or name not in ADDITIONS or not isinstance(changes, dict):
        raise ConfigError(
            f"method addition {written!r} is unknown; use {' or '.join(ADDITIONS)}, or {{NAME: {{share: .2}}}}"
        )
    fields = ADDITIONS[name].stream.model_dump() | changes
    return _validated(TypeAdapter(StreamSpec), fields, f"method.{name}")


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
