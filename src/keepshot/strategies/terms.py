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
    return Reference(top.indices, top.values, _log_tail(log_probs, top.indices))


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
    return temperature**2 * _kl(*_masses(logits, base, temperature))


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
    base_masses, masses = _masses(logits, base, temperature)
    return temperature**2 * _kl(masses, base_masses)


def _masses(
    logits: Float[Tensor, "tokens vocab"], base: Reference, temperature: float
) -> tuple[Float[Tensor, "tokens masses"], Float[Tensor, "tokens masses"]]:
    """Logs of the base's masses and of the model's: each kept token's, then that of all others if there are any."""
    log_probs = F.log_softmax(logits.float() / temperature, dim=-1)
    kept = log_probs.gather(-1, base.ids)
    if base.ids.shape[-1] == logits.shape[-1]:
        return base.log_probs, kept
    log_tail = _log_tail(log_probs, base.ids)
    return torch.cat([base.log_probs, base.log_tail[:, None]], -1), torch.cat([kept, log_tail[:, None]], -1)


def _log_tail(log_probs: Float[Tensor, "tokens vocab"], ids: Int[Tensor, "tokens kept"]) -> Float[Tensor, " tokens"]:
    """Log of the mass of all tokens but `ids`.

    Summed over those tokens: 1 - sum over `ids` would lose a small tail, and its gradient, to rounding.
    """
    return log_probs.scatter(-1, ids, -torch.inf).logsumexp(-1)


def _kl(first: Float[Tensor, "tokens masses"], second: Float[Tensor, "tokens masses"]) -> Float[Tensor, " tokens"]:
    """KL(first || second) of masses that sum to 1, in logs.

    With the difference of the masses, which sums to 0, every summand is at least 0: rounding leaves no negative KL.
    """
    p, q = first.exp(), second.exp()
    return (p * (first - second) + (q - p)).sum(-1)
