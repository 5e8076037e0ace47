"""What is minimised: token losses, each in nats and float32. A step's loss is their sum weighted by coefficients.

The base enters a KL term by its `Reference`: at every scored token its most likely tokens and the mass of all others.
With K the kept tokens and t = 1 - sum of p(v) over K,

    KL_K(p0 || p) = sum over K of p0(v) log(p0(v) / p(v)) + t0 log(t0 / t)

lies between 0 and the full KL, grows with K, and is 0 only if all masses agree (log-sum inequality); at K = vocabulary
it is the full KL. Unlike a renormalised top-k KL it keeps the pressure on the tail.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

# Where the base leaves less mass than this to all tokens that are not kept, 1 - sum is rounding error.
SMALLEST_TAIL = 1e-6


@dataclass(frozen=True, slots=True)
class Reference:
    """What the base says at scored tokens.

    Attributes:
        ids: Its most likely tokens.
        log_probs: Their log-probabilities.
        log_tail: Log of the mass of all other tokens; -inf where there is none.
    """

    ids: Int[Tensor, "tokens kept"]
    log_probs: Float[Tensor, "tokens kept"]
    log_tail: Float[Tensor, " tokens"]

    def to(self, device: torch.device) -> "Reference":
        """The same on `device`."""
        return Reference(self.ids.to(device), self.log_probs.to(device), self.log_tail.to(device))


def token_nll(logits: Float[Tensor, "tokens vocab"], targets: Int[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """Negative log-likelihood of every target token, in nats.

    Args:
        logits: Row i predicts `targets[i]`: the shift has been made by whoever chose the positions.
        targets: Token ids.

    Example:
        >>> import torch
        >>> token_nll(torch.zeros(1, 4), torch.tensor([2]))   # ln 4
        tensor([1.3863])
    """
    return F.cross_entropy(logits.float(), targets, reduction="none")


def reference(logits: Float[Tensor, "tokens vocab"], kept: int, temperature: float = 1.0) -> Reference:
    """What is kept of the base's predictions.

    Args:
        logits: Of the base.
        kept: Tokens to keep; all of a smaller vocabulary.
        temperature: Of the KL term that it is for; values at another cannot be recovered.
    """
    log_probs = F.log_softmax(logits.float() / temperature, dim=-1)
    top = log_probs.topk(min(kept, logits.shape[-1]), dim=-1)
    if top.values.shape[-1] == logits.shape[-1]:
        return Reference(top.indices, top.values, torch.full(logits.shape[:1], -torch.inf, device=logits.device))
    return Reference(top.indices, top.values, _log_rest(top.values))


def token_kl(
    logits: Float[Tensor, "tokens vocab"], base: Reference, temperature: float = 1.0
) -> Float[Tensor, " tokens"]:
    """Forward KL from the base to the model at every token, T^2 KL(base || model), in nats.

    The base comes first: the model is to keep all that the base holds possible. Its gradient in the logits is T times
    the model's probabilities minus the base's.

    Args:
        logits: Of the model.
        base: At the same tokens, taken at the same temperature.
        temperature: T; with T^2 the gradient keeps its size.

    Reference:
        arXiv 1606.09282 for the term; that the tail is kept is ours.

    Example:
        >>> import torch
        >>> p0, p = torch.tensor([[0.5, 0.3, 0.15, 0.05]]), torch.tensor([[0.4, 0.3, 0.2, 0.1]])
        >>> [round(token_kl(p.log(), reference(p0.log(), kept)).item(), 6) for kept in (1, 2, 4)]
        [0.020411, 0.030479, 0.033762]
    """
    log_probs, log_tail = _at(logits, base, temperature)
    kept = (base.log_probs.exp() * (base.log_probs - log_probs)).sum(-1)
    return temperature**2 * (kept + _tail(base.log_tail, log_tail, base.log_tail))


def token_reverse_kl(
    logits: Float[Tensor, "tokens vocab"], base: Reference, temperature: float = 1.0
) -> Float[Tensor, " tokens"]:
    """Reverse KL at every token, T^2 KL(model || base), in nats: what the base holds impossible shall stay so.

    Example:
        >>> import torch
        >>> p0, p = torch.tensor([[0.5, 0.3, 0.15, 0.05]]), torch.tensor([[0.4, 0.3, 0.2, 0.1]])
        >>> round(token_reverse_kl(p.log(), reference(p0.log(), 4)).item(), 6)
        0.037594
    """
    log_probs, log_tail = _at(logits, base, temperature)
    kept = (log_probs.exp() * (log_probs - base.log_probs)).sum(-1)
    return temperature**2 * (kept + _tail(log_tail, base.log_tail, base.log_tail))


def _at(
    logits: Float[Tensor, "tokens vocab"], base: Reference, temperature: float
) -> tuple[Float[Tensor, "tokens kept"], Float[Tensor, " tokens"]]:
    """The model's log-probabilities of the kept tokens, and of all others together."""
    log_probs = F.log_softmax(logits.float() / temperature, dim=-1).gather(-1, base.ids)
    return log_probs, _log_rest(log_probs)


def _log_rest(log_probs: Float[Tensor, "tokens kept"]) -> Float[Tensor, " tokens"]:
    """log(1 - sum of probabilities), by the one of two forms that keeps its digits."""
    total = log_probs.logsumexp(-1).clamp(max=-torch.finfo(torch.float32).tiny)
    return torch.where(total > -0.6931, (-torch.expm1(total)).log(), torch.log1p(-total.exp()))


def _tail(
    first: Float[Tensor, " tokens"], second: Float[Tensor, " tokens"], base: Float[Tensor, " tokens"]
) -> Float[Tensor, " tokens"]:
    """The tail's part of a KL; 0 where the base leaves none."""
    there = base.exp() > SMALLEST_TAIL
    # Both branches of `where` get gradients: nothing infinite may stand in the one that is not taken.
    first, second = torch.where(there, first, 0.0), torch.where(there, second, 0.0)
    return torch.where(there, first.exp() * (first - second), 0.0)
