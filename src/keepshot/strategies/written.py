"""A config's `method` as a value: names, lists of a name and additions, and strategies written out."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import TypeAdapter

from keepshot.errors import ConfigError
from keepshot.strategies.adapters import Lora
from keepshot.strategies.compose import Change, compose, validated
from keepshot.strategies.merge import Merge
from keepshot.strategies.named import ADDITIONS, AUTO, FULL_RATE, LORA_RATE, METHODS, RECOMMENDED, SUBSET_RATE, Addition
from keepshot.strategies.soft_prompt import SoftPrompt
from keepshot.strategies.strategy import TARGET, Penalty, Strategy, StreamSpec, Term
from keepshot.strategies.trainable import Pattern, Roles, Trainable

Part = TypeVar("Part", StreamSpec, Term, Penalty, SoftPrompt, Merge)

CUSTOM = "custom"
"""Shown for a strategy that is written out."""
# What a part is, which its addition has settled.
_SETTLED = {"kind", "stream"}
# What the target's own rows do not have: they take what is left.
_OF_ADDED_ROWS = ("name", "source", "share")


def resolve_method(written: object) -> tuple[str, Strategy, float]:
    """A config's `method` as a value.

    Args:
        written: A name (`value`), a list of one trainable and any additions (`[value, icl-mix]`; an addition may be
            `{icl-kl: {share: .2, weight: .3}}`, the trainable `{trainable: {pattern: REGEX}}`), or a whole strategy.
            `auto` stands for the recommended trainable and its additions.

    Returns:
        The name to show (`custom` for a strategy written out), the strategy, and its default learning rate, that of
        what it trains.

    Raises:
        ConfigError: It is none of these.

    Example:
        >>> name, strategy, rate = resolve_method(["value", "icl-mix"])
        >>> name, [stream.name for stream in strategy.streams]
        ('value+icl-mix', ['target', 'icl-mix'])
    """
    if isinstance(written, dict) and {"streams", "terms", "penalties", "prompt", "merge"} & set(written):
        fields = dict(written)
        fields["trainable"] = _with_kind(fields.get("trainable"))
        strategy: Strategy = validated(TypeAdapter(Strategy), fields, "method")
        return CUSTOM, strategy, _rate(strategy.trainable)
    parts = list(written) if isinstance(written, list | tuple) and written else [written]
    if parts[0] == AUTO:
        parts = [*RECOMMENDED, *parts[1:]]
    first, *rest = parts
    if not rest and (whole := _alone(first)) is not None:
        first, rest = whole, [first]
    name, trainable, rate = _trainable(first)
    changes = [_addition(entry) for entry in rest]
    return "+".join([name, *(change.name for change in changes)]), compose(trainable, changes), rate


def _trainable(written: object) -> tuple[str, Trainable, float]:
    if isinstance(written, str) and written in METHODS:
        method = METHODS[written]
        return method.name, method.trainable, method.learning_rate
    if isinstance(written, dict) and set(written) == {"trainable"}:
        value: Trainable = validated(TypeAdapter(Trainable), _with_kind(written["trainable"]), "method.trainable")
        return value.kind, value, _rate(value)
    if isinstance(written, str) and written in ADDITIONS:
        raise ConfigError(f"method {written} is an addition; name what to train first, such as [full, {written}]")
    raise ConfigError(
        f"method {written!r} is unknown; use {AUTO}, one of {', '.join(METHODS)}, a list that starts with one of them "
        f"(then {' or '.join(ADDITIONS)}), {{trainable: {{pattern: REGEX}}}}, or a whole strategy"
    )


def _rate(trainable: Trainable) -> float:
    return {"everything": FULL_RATE, "lora": LORA_RATE}.get(trainable.kind, SUBSET_RATE)


def _alone(written: object) -> str | None:
    """What an addition that is written alone changes; None where it is none, or needs to be told."""
    name = next(iter(written)) if isinstance(written, dict) and len(written) == 1 else written
    return ADDITIONS[name].alone if isinstance(name, str) and name in ADDITIONS else None


def _addition(written: object) -> Change:
    name: object = written
    options: object = {}
    if isinstance(written, dict) and len(written) == 1:
        name, options = next(iter(written.items()))
    if not isinstance(name, str) or name not in ADDITIONS or not isinstance(options, dict):
        raise ConfigError(
            f"method addition {written!r} is unknown; use {' or '.join(ADDITIONS)}, or {{NAME: {{OPTION: value}}}}"
        )
    addition = ADDITIONS[name]
    where = f"method.{name}"
    _check_options(addition, options, where)
    stream = None if addition.stream is None else _changed(addition.stream, options, where)
    penalty = None if addition.penalty is None else _changed(addition.penalty, options, where)
    prompt = None if addition.prompt is None else _changed(addition.prompt, options, where)
    merge = None if addition.merge is None else _changed(addition.merge, options, where)
    term = addition.term
    if term is not None:
        share = None if stream is None else stream.share
        weight = share if addition.weight is None else addition.weight
        bound = {"stream": TARGET if stream is None else stream.name, "weight": weight or 1.0}
        term = _changed(term.model_copy(update=bound), options, where)
        if weight is not None and term.weight >= 1:
            raise ConfigError(f"{where}.weight {term.weight:g} must leave some of the loss to the target")
    shown = addition.name if stream is None or stream.name == TARGET else stream.name
    against_target = addition.weight is not None
    return Change(shown, stream, term, against_target, penalty, prompt, merge)


def _check_options(addition: Addition, options: Mapping[str, object], where: str) -> None:
    brought = (addition.stream, addition.term, addition.penalty, addition.prompt, addition.merge)
    parts = [part for part in brought if part is not None]
    allowed = {field: None for part in parts for field in type(part).model_fields if field not in _SETTLED}
    if addition.stream is not None and addition.stream.name == TARGET:
        for field in _OF_ADDED_ROWS:
            allowed.pop(field)
    if addition.stream is not None and addition.stream.sampler == "zero-shot":
        allowed.pop("shots")
    asks_base = addition.term is not None and addition.term.asks_base
    if addition.stream is not None and addition.stream.name != TARGET and not asks_base:
        allowed.pop("visits")  # rows that the base is not asked about are never fixed
    if addition.stream is None and addition.weight is None:
        allowed.pop("weight", None)  # the target's own term weighs what the others leave
    if unknown := [str(key) for key in options if key not in allowed]:
        raise ConfigError(f"{where}.{unknown[0]}: {addition.name} has no such option; it has {', '.join(allowed)}")


def _changed(part: Part, options: Mapping[str, object], where: str) -> Part:
    """A part of an addition with those of the options that are its own."""
    own = {key: value for key, value in options.items() if key in type(part).model_fields}
    settled = part.model_dump()
    for key, value in own.items():
        inner = settled.get(key)
        own[key] = inner | value if isinstance(inner, dict) and isinstance(value, dict) else value
    found: Part = validated(TypeAdapter(type(part)), settled | own, where)
    return found


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
