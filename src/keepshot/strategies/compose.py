"""How additions change a strategy: one mechanism, whatever they bring."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from keepshot.errors import ConfigError
from keepshot.strategies.merge import Merge
from keepshot.strategies.soft_prompt import SoftPrompt
from keepshot.strategies.strategy import TARGET, Penalty, Strategy, StreamSpec, Term
from keepshot.strategies.trainable import Trainable


@dataclass(frozen=True, slots=True)
class Change:
    """What an addition brings to a strategy, options read.

    Attributes:
        name: To show.
        stream: What the model sees besides; the target's own stream takes the place of the one that is there.
        term: What is minimised besides; an NLL on the target takes the place of the one that is there, with its weight.
        against_target: Whether the term's weight is meant beside the target's alone: two terms of half the loss each
            then get a third, as much as the target. Otherwise it is a fraction of the whole loss.
        penalty: What holds the numbers that move.
        prompt: What is trained first.
        merge: What becomes of the tuned weights.
    """

    name: str
    stream: StreamSpec | None = None
    term: Term | None = None
    against_target: bool = False
    penalty: Penalty | None = None
    prompt: SoftPrompt | None = None
    merge: Merge | None = None

    @property
    def replaces_target(self) -> bool:
        """Whether its term is the target's own."""
        return self.term is not None and (self.term.kind, self.term.stream) == ("nll", TARGET)


def compose(trainable: Trainable, changes: Sequence[Change]) -> Strategy:
    """A strategy of the target's rows, and what some changes bring; the target's NLL weighs what the terms leave.

    Raises:
        ConfigError: Two changes are the same, or leave nothing to the target.
    """
    names = [change.name for change in changes]
    brought = tuple(change.stream for change in changes if change.stream is not None)
    own_rows = next((stream for stream in brought if stream.name == TARGET), StreamSpec(name=TARGET))
    streams = tuple(stream for stream in brought if stream.name != TARGET)
    stream_names = [stream.name for stream in brought]
    if len(set(names)) < len(names) or len(set(stream_names)) < len(stream_names):
        raise ConfigError(f"method names an addition twice, or two for the same rows: {', '.join(names)}")
    added = [(change.term, change.against_target) for change in changes if change.term and not change.replaces_target]
    fixed = sum(term.weight for term, against_target in added if not against_target)
    for what, total in (("shares", sum(stream.share or 0.0 for stream in streams)), ("weights", fixed)):
        if total >= 1:
            raise ConfigError(f"the {what} of {', '.join(names)} sum to {total:g}; they must leave something over")
    ratios = [term.weight / (1 - term.weight) if against_target else 0.0 for term, against_target in added]
    left = (1 - fixed) / (1 + sum(ratios))
    own = next((change.term for change in changes if change.term and change.replaces_target), Term())
    terms = [
        term.model_copy(update={"weight": ratio * left}) if against_target else term
        for (term, against_target), ratio in zip(added, ratios, strict=True)
    ]
    parts = {
        "trainable": trainable,
        "streams": (own_rows, *streams),
        "terms": (own.model_copy(update={"weight": left}), *terms),
        "penalties": tuple(change.penalty for change in changes if change.penalty is not None),
        "prompt": next((change.prompt for change in changes if change.prompt is not None), None),
        "merge": next((change.merge for change in changes if change.merge is not None), None),
    }
    strategy: Strategy = validated(TypeAdapter(Strategy), parts, "method")
    return strategy


def validated(adapter: TypeAdapter, value: object, where: str) -> Any:
    """A value that a config spells.

    Raises:
        ConfigError: It is none; the first thing that is wrong, with its place.
    """
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join([where, *(str(part) for part in first["loc"])])
        got = f"; got {first['input']!r}" if first["loc"] else ""  # the whole value says nothing more
        raise ConfigError(f"{path}: {first['msg']}{got}") from None
