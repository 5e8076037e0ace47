"""Linear attention on prompts of numbers: the model in which fine-tuning can be computed exactly, dense and trainable.

A prompt is a matrix of tokens z_i = (1, x_i, y_i), the query z_N = (1, x, 0) last. A layer adds to every token

    z_n  <-  z_n + 1/N  sum over heads h and tokens M of  (z_n^T Q_h z_M)  V_h z_M

and the prediction is the last number of the query. There is no causal mask, the query attends to itself, and N counts
it. With softmax, softmax over M takes the place of 1/N times the score.

| symbol | meaning | shape | here |
|---|---|---|---|
| Q | query and key, merged | (heads, d+2, d+2) | `query_key` |
| W_Q, W_K | the same apart, Q = W_Q^T W_K | (heads, d+2, d+2) | `query`, `key` |
| V | value, with no output matrix behind it | (heads, d+2, d+2) | `value` |

The roles are those of a language model (`keepshot.models.roles`), so that "train only the values" is the same here as
there. Query and key share a merged Q.

Reference:
    arXiv 2602.23197 for one layer and one head; several of both, and softmax, are the plain generalisation.
"""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from keepshot.errors import ModelError
from keepshot.keys import key as keyed
from keepshot.models.roles import Part, Role

INITIAL_DEVIATION = 0.05
"""Of every entry before pretraining (authors' code)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The size and kind of a model.

    Attributes:
        dimension: d, the input features; tokens have d + 2 numbers.
        layers: At least 1.
        heads: At least 1; each has matrices of full width.
        separate: Whether query and key are two matrices.
        softmax: Whether scores are normalised by softmax instead of divided by the number of tokens.
    """

    dimension: int
    layers: int = 1
    heads: int = 1
    separate: bool = False
    softmax: bool = False

    def __post_init__(self) -> None:
        if min(self.dimension, self.layers, self.heads) < 1:
            raise ModelError(f"dimension, layers and heads are at least 1; got {self}")


class Attention(nn.Module):
    """One layer."""

    def __init__(self, shape: Shape, random: torch.Generator) -> None:
        super().__init__()
        width = shape.dimension + 2
        self.softmax = shape.softmax
        for name in ("query", "key", "value") if shape.separate else ("query_key", "value"):
            matrix = INITIAL_DEVIATION * torch.randn(shape.heads, width, width, generator=random)
            self.register_parameter(name, nn.Parameter(matrix))

    @property
    def scores(self) -> Float[Tensor, "heads width width"]:
        """Q, merged if it is not."""
        parameters = dict(self.named_parameters())
        if "query_key" in parameters:
            return parameters["query_key"]
        return parameters["query"].mT @ parameters["key"]

    def forward(self, tokens: Float[Tensor, "prompts tokens width"]) -> Float[Tensor, "prompts tokens width"]:
        """All tokens after the layer."""
        scores = torch.einsum("bni,hij,bmj->bhnm", tokens, self.scores, tokens)
        return tokens + torch.einsum("bhnm,hij,bmj->bni", self._weights(scores), self.value, tokens)

    def readout(self, tokens: Float[Tensor, "prompts tokens width"]) -> Float[Tensor, " prompts"]:
        """The last number of the last token after the layer: `forward(tokens)[:, -1, -1]`, without the rest."""
        query = torch.einsum("bi,hij->bhj", tokens[:, -1], self.scores)
        weights = self._weights(query @ tokens.mT)
        values = tokens @ self.value[:, -1].mT
        return tokens[:, -1, -1] + (weights * values.mT).sum((1, 2))

    def _weights(self, scores: Float[Tensor, "prompts heads *tokens"]) -> Float[Tensor, "prompts heads *tokens"]:
        return scores.softmax(-1) if self.softmax else scores / scores.shape[-1]


class LinearAttention(nn.Module):
    """A stack of layers that predicts the query's label.

    Args:
        shape: Size and kind.
        seed: Of the initial numbers.

    Example:
        >>> model = LinearAttention(Shape(dimension=5), seed=0)
        >>> model(torch.zeros(3, 21, 7)).shape, [name for name, _ in model.named_parameters()]
        (torch.Size([3]), ['layers.0.query_key', 'layers.0.value'])
    """

    def __init__(self, shape: Shape, seed: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(keyed(seed, "linear attention"))
        self.shape = shape
        self.layers = nn.ModuleList(Attention(shape, random) for _ in range(shape.layers))

    def forward(self, tokens: Float[Tensor, "prompts tokens width"]) -> Float[Tensor, " prompts"]:
        """Predictions; the query is the last token, its label 0."""
        *lower, last = self.layers
        for layer in lower:
            tokens = layer(tokens)
        prediction: Tensor = last.readout(tokens)
        return prediction


def attention_roles(model: LinearAttention) -> dict[Role, tuple[Part, ...]]:
    """The parts of each role, as `keepshot.models.roles.roles` gives them for a language model.

    A merged Q is listed under query and under key: neither can be trained without the other.

    Example:
        >>> attention_roles(LinearAttention(Shape(dimension=5), seed=0))["value"]
        (Part(parameter='layers.0.value', axis=0, spans=None),)
    """
    names = [name for name, _ in model.named_parameters()]
    roles: tuple[Role, ...] = ("query", "key", "value")
    return {role: tuple(Part(name) for name in names if role in name.rpartition(".")[2].split("_")) for role in roles}


def train_only(model: LinearAttention, roles: Collection[Role]) -> list[nn.Parameter]:
    """Freeze all numbers but those of some roles, and return the latter.

    Raises:
        ModelError: A role that this model does not have, or none.
    """
    parts = attention_roles(model)
    if not roles or not set(roles) <= set(parts):
        raise ModelError(f"linear attention has the roles {', '.join(parts)}; got {', '.join(roles) or 'none'}")
    moving = {part.parameter for role in roles for part in parts[role]}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in moving)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
