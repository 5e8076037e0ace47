"""Which elements of which parameters: the words in which trainables say what may move."""

import re
from collections.abc import Sequence
from typing import TypeAlias

from jaxtyping import Bool
from torch import Tensor
from transformers import PreTrainedModel

from keepshot.models.roles import Part, Role, roles

Mask: TypeAlias = Bool[Tensor, "..."]
Parts: TypeAlias = dict[str, Mask | None]
"""Parameter name -> mask of the elements that may move (broadcasts to the parameter), or None for all of them."""


def parts_by_parameter(model: PreTrainedModel, wanted: Sequence[Role]) -> dict[str, list[Part]]:
    """The parameters that serve some roles, each with its parts of them."""
    found: dict[str, list[Part]] = {}
    by_role = roles(model)
    for role in dict.fromkeys(wanted):
        for part in by_role[role]:
            found.setdefault(part.parameter, []).append(part)
    return found


def a_few(names: Sequence[str]) -> str:
    """The first of some names, layers as 0."""
    shown = dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.)", "0", name) for name in names)
    return ", ".join(list(shown)[:4]) + (", …" if len(shown) > 4 else "")
