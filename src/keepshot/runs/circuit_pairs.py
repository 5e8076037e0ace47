"""Clean and corrupt prompts of a pattern task, for activation patching.

A corrupt prompt is another problem of the task with as many tokens and another answer, of all such the one that differs
in the fewest tokens: this needs no edit of each problem by hand, and holds for every tokenizer. Its pattern holds, too:
rule and shortcut both tell the two apart, so that a model which follows either has a circuit to be found. Or its
pattern is broken, mostly with the same shortcut: only what tells their rules apart is found then, and of a model that
takes the shortcut nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

from keepshot.keys import generator
from keepshot.probes.patching import Pair
from keepshot.prompts import Row, Template, encode
from keepshot.tasks.example import Example

Corruption = Literal["answer", "pattern"]
"""A corrupt problem's pattern holds like the clean one's, with another answer; or it is broken."""


@dataclass(frozen=True, slots=True)
class Partners:
    """Two problems with different answers whose prompts have as many tokens."""

    clean: Example
    corrupt: Example


def partners(
    clean: Sequence[Example], others: Sequence[Example], template: Template, tokenizer: PreTrainedTokenizerBase
) -> list[Partners]:
    """For every problem the nearest partner that is left; a problem that has none is left out.

    Args:
        clean: Problems.
        others: Those that partners are taken from, each for one problem; of equally near ones the first.
        template: How prompts are written.
        tokenizer: Of the model.

    Example:
        >>> from keepshot.models.load import load_tokenizer
        >>> from keepshot.prompts import PLAIN
        >>> [found] = partners(
        ...     [Example("1 2", "odd")],
        ...     [Example("7 9", "even"), Example("1 3", "even"), Example("1 4", "odd"), Example("1 3 3", "odd")],
        ...     PLAIN, load_tokenizer("mini"),
        ... )
        >>> found.corrupt.input
        '1 3'
    """
    rows = encode([template.render([one]) for one in others], tokenizer)
    by_length: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        by_length.setdefault(row.answers[-1][0], []).append(place)
    tokens = {n: np.array([rows[place].ids[:n] for place in places]) for n, places in by_length.items()}
    found: list[Partners] = []
    taken: set[int] = set()
    for one, row in zip(clean, encode([template.render([one]) for one in clean], tokenizer), strict=True):
        n = row.answers[-1][0]
        if n not in tokens:
            continue
        distance = (tokens[n] != np.array(row.ids[:n])).sum(axis=1)
        for nearest in np.argsort(distance, kind="stable"):
            place = by_length[n][nearest]
            if place not in taken and others[place].output != one.output:
                found.append(Partners(one, others[place]))
                taken.add(place)
                break
    return found


def as_pair(
    both: Partners, shown: Sequence[Example], template: Template, tokenizer: PreTrainedTokenizerBase
) -> Pair | None:
    """Both problems behind the same demonstrations, up to where their answers part; None where they do not fit.

    What both answers begin with, such as a blank or a first digit, stands in the prompts.
    """
    clean, corrupt = encode([template.render([*shown, one]) for one in (both.clean, both.corrupt)], tokenizer)
    (start, _), (other, _) = clean.answers[-1], corrupt.answers[-1]
    if start != other:
        return None
    right, wrong = _answer(clean), _answer(corrupt)
    common = 0
    while common < min(len(right), len(wrong)) and right[common] == wrong[common]:
        common += 1
    if common == min(len(right), len(wrong)):
        return None
    first, second = clean.ids[: start + common], corrupt.ids[: start + common]
    if first[-1] != second[-1]:
        return None
    query = clean.answers[-2][1] if shown else 0
    return Pair(first, second, query, right[common], wrong[common])


def relabelled(shown: Sequence[Example], labels: Sequence[str], *keys: int | str) -> list[Example]:
    """Demonstrations with labels drawn at random: as long a context that says nothing of the task.

    Example:
        >>> shown = [Example(str(n), "even") for n in range(4)]
        >>> {one.output for one in relabelled(shown, ["even", "odd"], 0)} == {"even", "odd"}
        True
    """
    draw = generator("circuit", "random labels", *keys)
    return [replace(one, output=draw.choice(labels), aliases=()) for one in shown]


def _answer(row: Row) -> tuple[int, ...]:
    start, end = row.answers[-1]
    return row.ids[start:end]
