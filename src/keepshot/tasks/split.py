"""Which rows validate: a keyed split that never puts one input on both sides."""

from collections.abc import Sequence
from functools import lru_cache

from keepshot.errors import ConfigError, DataError
from keepshot.keys import key
from keepshot.tasks.example import Example


def input_key(example: Example) -> int:
    """Equal for examples that ask the same, but for case and white space: instruction, history and input.

    Example:
        >>> input_key(Example("What  is\\nit?", "a")) == input_key(Example("what is it?", "b"))
        True
    """
    parts = [example.instruction, *(part for turn in example.history for part in (turn.role, turn.content))]
    return _text_key((*parts, example.input))


@lru_cache(1 << 14)  # every set of demonstrations goes through all examples of a task anew
def _text_key(parts: tuple[str, ...]) -> int:
    return key(*(" ".join(part.casefold().split()) for part in parts))


def split_validation(
    examples: Sequence[Example], *, fraction: float = 0.1, most: int = 500, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Part of `examples` set aside, as (train, validation), both in the order of `examples`.

    Examples that ask the same (see `input_key`) go to the same side. Which side depends on the seed and on what is
    asked, not on the order of the rows. Validation is as large as the smaller of `fraction` of the rows and `most`, or
    a little smaller where a group of equal inputs did not fit; where none fits, it is the smallest group.

    Raises:
        ConfigError: `fraction` is not between 0 and 1, or `most` not positive.
        DataError: All rows ask the same, so that nothing can be split.

    Example:
        >>> train, validation = split_validation([Example(str(i), "x") for i in range(50)], seed=0)
        >>> len(train), len(validation)
        (45, 5)
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"the validation fraction is {fraction}; it must lie between 0 and 1")
    if most < 1:
        raise ConfigError(f"at most {most} validation rows leave none; give at least 1")
    groups: dict[int, int] = {}
    asked = [input_key(example) for example in examples]
    for group in asked:
        groups[group] = groups.get(group, 0) + 1
    if len(groups) < 2:
        raise DataError(
            f"{len(examples)} rows with {len(groups)} different inputs cannot be split; give data.validation"
        )

    room = max(1, min(most, round(fraction * len(examples))))
    chosen: set[int] = set()
    for group in sorted(groups, key=lambda group: key(seed, "validation", group)):
        if groups[group] <= room and len(chosen) < len(groups) - 1:
            chosen.add(group)
            room -= groups[group]
    if not chosen:
        chosen.add(min(groups, key=lambda group: (groups[group], key(seed, "validation", group))))
    pairs = list(zip(asked, examples, strict=True))
    train = tuple(example for group, example in pairs if group not in chosen)
    return train, tuple(example for group, example in pairs if group in chosen)


def shared_inputs(train: Sequence[Example], test: Sequence[Example]) -> tuple[Example, ...]:
    """The rows of `train` that ask what a row of `test` asks too, but for case and white space.

    Example:
        >>> shared_inputs([Example("A b", "1"), Example("c", "2")], [Example("a  b", "1")])[0].input
        'A b'
    """
    tested = {input_key(example) for example in test}
    return tuple(example for example in train if input_key(example) in tested)
