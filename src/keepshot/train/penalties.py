"""What holds the numbers that move to where they start: strength / 2 x sum of F (theta - theta0)^2.

L2-SP has F = 1. EWC takes the diagonal of the base's Fisher information on few-shot prompts c, at their answer tokens
A(c), with answers y ~ p0(. | c_<t) of the base itself:

    F_i = mean over c of 1 / |A(c)| x sum over t in A(c) of E over y of (d log p0(y | c_<t) / d theta_i)^2

Every square is that of one token: squares of a batch's mean gradient at the labels would be another quantity. But
answers that are drawn each by itself have gradients that are independent and 0 in the mean, so that

    E (sum over c, t of d log p0(y_ct | c_<t) / d theta_i / sqrt |A(c)|)^2 = sum over c, t of E (...)^2 / |A(c)|

and one square of the sum over many prompts and all of their tokens is unbiased too: a backward pass for each prompt
serves all its tokens. Squares of several such sums are averaged, since one alone has the noise of a single draw.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from keepshot.errors import RunError
from keepshot.keys import generator
from keepshot.models.load import CausalLM
from keepshot.models.logits import kept_logits
from keepshot.strategies.parts import Parts
from keepshot.strategies.trainable import placed_like, unwrapped_name
from keepshot.train.keyed import key_of, load_keyed
from keepshot.train.planner import PlannedRow

# The loss is scaled by a power of two, which changes no digit, so that float16 does not lose small gradients.
_SCALE = 1024.0


@dataclass(frozen=True, slots=True, eq=False)
class HeldNumbers:
    """Numbers that are drawn back to where they started.

    Attributes:
        kind: To show.
        strength: Of the pull.
        start: Parameter name -> theta0.
        importance: Parameter name -> F, which broadcasts; 1 for a parameter that is absent.

    Reference:
        arXiv 1802.01483 (L2-SP), 1612.00796 (EWC).
    """

    kind: str
    strength: float
    start: Mapping[str, Tensor]
    importance: Mapping[str, Tensor]

    def pull(self, model: nn.Module, scale: float = 1.0) -> Float[Tensor, ""]:
        """Add scale x strength x F (theta - theta0) to the gradients of a model.

        Autograd would come to the same, through memory three times as often and with two more copies of the numbers.

        Args:
            model: Its parameters have the gradients of the loss, or none.
            scale: By which these are scaled.

        Returns:
            strength / 2 x sum of F (theta - theta0)^2, not scaled.

        Example:
            >>> import torch
            >>> layer = torch.nn.Linear(2, 1, bias=False)
            >>> held = HeldNumbers("l2sp", 4.0, {"weight": layer.weight.detach() - 0.5}, {})
            >>> round(held.pull(layer).item(), 5)   # 4 / 2 x (0.25 + 0.25)
            1.0
            >>> layer.weight.grad.round(decimals=5)   # 4 x 0.5
            tensor([[2., 2.]])
        """
        parts = []
        for wrapped, parameter in model.named_parameters():
            name = unwrapped_name(wrapped)
            if name not in self.start:
                continue
            away = parameter.detach() - placed_like(self.start[name], parameter)
            weighed = away * placed_like(self.importance[name], parameter) if name in self.importance else away
            parts.append((away * weighed).sum())
            if parameter.grad is None:
                parameter.grad = (scale * self.strength * weighed).to(parameter.dtype)
            else:
                parameter.grad.add_(weighed, alpha=scale * self.strength)
        assert len(parts) == len(self.start), "a held parameter has gone"
        sums: Tensor = torch.stack([part.full_tensor() if isinstance(part, DTensor) else part for part in parts])
        return self.strength / 2 * sums.sum()


def fisher(
    model: CausalLM, parts: Parts, rows: Sequence[PlannedRow], *, passes: int, seed: int
) -> dict[str, Float[Tensor, "..."]]:
    """The diagonal of the Fisher information, in the arithmetic (autocast) of the caller.

    Args:
        model: At step 0; every parameter of `parts` requires a gradient.
        parts: For which numbers; 0 elsewhere.
        rows: Prompts; their scored tokens are A(c), whatever stands there.
        passes: Sums that are squared, each over a part of the rows; no more than there are rows.
        seed: Keys the draws.

    Returns:
        Parameter name -> F, not normalised, on the device of the parameter.
    """
    parameters = {name: parameter for name, parameter in model.named_parameters() if name in parts}
    found = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    training = model.training
    model.eval()
    for first in range(min(passes, len(rows))):
        sums: dict[str, Tensor] = {}
        for row in rows[first::passes]:
            log_probs = _drawn_log_probs(model, row, seed)
            score = log_probs.sum() * (_SCALE / math.sqrt(len(log_probs)))
            gradients = torch.autograd.grad(score, list(parameters.values()), allow_unused=True)
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    sums[name] = sums[name].add_(gradient) if name in sums else gradient.to(found[name])
        for name, gradient in sums.items():
            found[name] += (gradient / _SCALE).square() / len(rows)
    model.train(training)
    for name, part in parts.items():
        if part is not None:
            found[name].masked_fill_(~part.to(found[name].device), 0.0)
    return found


def normalised(importance: Mapping[str, Tensor], parts: Parts) -> dict[str, Tensor]:
    """F divided by its mean over the numbers of `parts`.

    Raises:
        RunError: It is 0 everywhere, or not finite.
    """
    count = sum(_num_moving(tensor, parts[name]) for name, tensor in importance.items())
    mean = sum(float(tensor.cpu().double().sum()) for tensor in importance.values()) / count
    if not 0 < mean < float("inf"):
        raise RunError(
            f"the mean Fisher information of the numbers that move is {mean:g}; the base's answers to the prompts of "
            "the penalty ewc do not depend on them: use other prompts, or l2sp"
        )
    return {name: tensor / mean for name, tensor in importance.items()}


def fisher_key(weights: Iterable[str], parts: Parts, rows: Sequence[PlannedRow], *settings: str | int) -> str:
    """A digest of all that a Fisher information depends on."""
    named = sorted(parts.items())
    masks = (b"whole" if part is None else part.cpu().numpy().tobytes() for _, part in named)
    return key_of([repr(([name for name, _ in named], settings)).encode(), *masks], weights, rows)


def load_importance(path: Path, key: str) -> dict[str, Tensor] | None:
    """F as `save_keyed` wrote it; None where there is no file, or one with another key.

    Raises:
        RunError: The file is something else.
    """
    found = load_keyed(path, key, "Fisher information")
    return None if found is None else found[0]


def _drawn_log_probs(model: CausalLM, row: PlannedRow, seed: int) -> Float[Tensor, " drawn"]:
    """Log-probabilities of tokens that the model itself draws at the scored places of a row, each by itself."""
    places = [place for start, end in row.scored for place in range(start, end)]
    ids = torch.tensor([row.row.ids], device=model.device)
    keep = torch.zeros(ids.shape, dtype=torch.bool, device=model.device)
    keep[0, [place - 1 for place in places]] = True  # the logits at p - 1 predict the token at p
    logits = kept_logits(model(input_ids=ids, use_cache=False, logits_to_keep=keep).logits, keep)
    log_probs = logits.float().reshape(len(places), -1).log_softmax(-1)
    drawn = [
        _draw(one, generator(seed, "ewc answer", row.name, at).random())
        for one, at in zip(log_probs, places, strict=True)
    ]
    return log_probs.gather(-1, torch.tensor(drawn, device=model.device)[:, None])[:, 0]


def _draw(log_probs: Float[Tensor, " vocab"], uniform: float) -> int:
    """The token whose stretch of the cumulated probabilities holds `uniform`."""
    sums: Float[Tensor, " vocab"] = log_probs.detach().cpu().double().exp().cumsum(0)
    at: Int[Tensor, ""] = torch.searchsorted(sums, sums[-1] * uniform, right=True)
    return min(int(at), len(sums) - 1)


def _num_moving(tensor: Tensor, part: Tensor | None) -> int:
    return tensor.numel() if part is None else int(part.expand_as(tensor).sum())
