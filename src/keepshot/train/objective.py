"""The loss of a micro-batch: every scored token's terms, weighted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from keepshot.strategies.strategy import Term
from keepshot.strategies.terms import token_kl, token_nll, token_reverse_kl
from keepshot.train.batches import MicroBatch
from keepshot.train.reference import ReferenceBank

_KL = {"kl": token_kl, "reverse-kl": token_reverse_kl}


@dataclass(frozen=True, slots=True)
class Objective:
    """What is minimised.

    A planner's coefficient of a token holds the weight of all terms of its stream; a term gets its part of it.

    Attributes:
        terms: Every stream has one or more; a stream that is not named has its NLL alone.
        banks: For every stream with a KL term what the base says on its rows.
    """

    terms: Sequence[Term] = ()
    banks: Mapping[tuple[str, str], ReferenceBank] = field(default_factory=dict)

    def parts(self, stream: str, progress: float) -> dict[str, float]:
        """Of a stream's weight, what each kind of term has when a fraction `progress` of the training is done."""
        mine = [term for term in self.terms if term.stream == stream]
        total = sum(term.weight for term in mine)
        return {term.kind: term.at(progress) / total for term in mine} if mine else {"nll": 1.0}

    def kinds(self, streams: Sequence[str]) -> list[tuple[str, str]]:
        """Kind and stream of all that is measured: NLL everywhere, beside the other terms."""
        return [("nll", stream) for stream in streams] + [
            (term.kind, term.stream) for term in self.terms if term.kind != "nll"
        ]

    def losses(
        self, logits: Float[Tensor, "scored vocab"], batch: MicroBatch
    ) -> dict[tuple[str, str], tuple[Tensor, Float[Tensor, " _"]]]:
        """By kind and stream: at which scored tokens, and what the term is there, in nats."""
        found: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}
        for index, stream in enumerate(batch.stream_names):
            here = (batch.streams == index).nonzero()[:, 0]
            if not len(here):
                continue
            mine = logits if len(here) == len(logits) else logits[here]
            # What is only measured needs no graph, which would hold a copy of the logits.
            with torch.set_grad_enabled(torch.is_grad_enabled() and "nll" in self.parts(stream, 0.0)):
                found["nll", stream] = (here, token_nll(mine, batch.targets[here]))
            for term in self.terms:
                if term.stream != stream or term.kind == "nll":
                    continue
                rows = [row for row in batch.rows if row.stream == stream]
                base = self.banks[stream, term.kind].of(rows).to(logits.device)
                found[term.kind, stream] = (here, _KL[term.kind](mine, base, term.temperature))
        return found

    def weighted(
        self, losses: Mapping[tuple[str, str], tuple[Tensor, Tensor]], batch: MicroBatch, progress: float
    ) -> Float[Tensor, ""]:
        """Sum of coefficient x part x loss."""
        total = torch.zeros((), device=batch.coefficients.device)
        for (kind, stream), (here, values) in losses.items():
            if part := self.parts(stream, progress).get(kind, 0.0):
                total = total + part * (batch.coefficients[here] * values).sum()
        return total
