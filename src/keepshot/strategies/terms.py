"""What is minimised: token losses, each in nats and float32. A step's loss is their sum weighted by coefficients.

The base enters a KL term by its `Reference`: at every scored token its most likely tokens and the mass of all others.
With K the kept tokens and t = 1 - sum of p(v) over K,

    KL_K(p0 || p) = sum over K of p0(v) log(p0(v) / p(v)) + t0 log(t0 / t)

lies between 0 and the full KL, grows with K, and is 0 only if all masses agree (log-sum inequality); at K = vocabulary
it is the full KL. Unlike a renormalised top-k KL it keeps the pressure on the tail.

What is kept may also be the right token alone (`answer_reference`), or the most likely of all but the right one
(`masked_reference`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Reference:
    """What the base says at scored tokens.

    Attributes:
        ids: The tokens that are kept apart.
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


def masked_reference(
    logits: Float[Tensor, "tokens vocab"], targets: Int[Tensor, " tokens"], kept: int, temperature: float = 1.0
) -> Reference:
    """What is kept of the base's predictions among the tokens that are not the right one, for `token_masked_kl`.

    The right token is taken out before the most likely ones are chosen, so that nothing has to be subtracted from a
    mass that it may make up alone.
    """
    return reference(_without(logits, targets, temperature), kept, temperature)


def token_masked_kl(
    logits: Float[Tensor, "tokens vocab"], targets: Int[Tensor, " tokens"], base: Reference, temperature: float = 1.0
) -> Float[Tensor, " tokens"]:
    """Target-masked KL at every token: the right token is removed, both sides are renormalised, the base comes first.

    The model keeps the base's ranking of the alternatives, while the right token's probability is left to the NLL. It
    lies between 0 and its value at all tokens kept.

    Args:
        logits: Of the model.
        targets: The right tokens.
        base: `masked_reference` at the same tokens and temperature.
        temperature: T, as for `token_kl`.

    Reference:
        arXiv 2605.29498; direction and temperature are not in its abstract and are ours.

    Example:
        >>> import torch
        >>> p0, p = torch.tensor([[0.5, 0.3, 0.15, 0.05]]), torch.tensor([[0.4, 0.3, 0.2, 0.1]])
        >>> first, second = torch.tensor([0]), torch.tensor([1])
        >>> round(token_masked_kl(p.log(), first, masked_reference(p0.log(), first, 4)).item(), 6)
        0.026702
        >>> round(token_masked_kl(p.log(), second, masked_reference(p0.log(), second, 4)).item(), 6)
        0.048232
    """
    return token_kl(_without(logits, targets, temperature), base, temperature)


def answer_reference(logits: Float[Tensor, "tokens vocab"], targets: Int[Tensor, " tokens"]) -> Reference:
    """How probable the base holds the right tokens: they alone are kept, for `base_shares`."""
    log_probs = F.log_softmax(logits.float(), dim=-1)
    ids = targets[:, None]
    return Reference(ids, log_probs.gather(-1, ids), _log_tail(log_probs, ids))


def base_shares(base: Reference, counts: Sequence[int], least: float) -> Float[Tensor, " tokens"]:
    """What each token of a row counts where those that the base held less probable than `least` count nothing.

    The others of the row count so much more that the row weighs what it did. A row that would lose all its tokens
    keeps them: a label of one or two tokens may be all that there is to learn.

    Args:
        base: `answer_reference` of whole rows.
        counts: Tokens of each row.
        least: 1 / the perplexity above which a token is left out.

    Returns:
        0, or the row's tokens divided by those that stay.

    Reference:
        arXiv 2501.14315, which leaves out perplexities above 2.5 (`least` .4); the guard is ours.

    Example:
        >>> import torch
        >>> p = torch.tensor([0.4, 0.39, 0.9, 0.1])
        >>> base = Reference(torch.zeros(4, 1, dtype=torch.long), p.log()[:, None], (1 - p).log())
        >>> base_shares(base, [2, 1, 1], 0.4)
        tensor([2., 0., 1., 1.])
    """
    shares = []
    for stays in (~below(base, least)).split(list(counts)):
        counted = stays | ~stays.any()
        shares.append(counted * (len(counted) / counted.sum()))
    return torch.cat(shares).float()


def below(base: Reference, least: float) -> Bool[Tensor, " tokens"]:
    """Which right tokens the base held less probable than `least`, for an `answer_reference`."""
    # The bound itself is not below, for all that the rounding of its logarithm does to it.
    return base.log_probs[:, 0].double().exp() < least * (1 - 1e-6)


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


def _without(
    logits: Float[Tensor, "tokens vocab"], targets: Int[Tensor, " tokens"], temperature: float
) -> Float[Tensor, "tokens vocab"]:
    """Logits with the right tokens so low that no mass is left there, not even at `temperature`; yet finite."""
    lowest = logits.detach().float().amax(-1, keepdim=True) - 1e4 * max(1.0, temperature)
    return logits.float().scatter(-1, targets[:, None], lowest)


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
