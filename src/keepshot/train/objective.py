"""The loss of a micro-batch: every scored token's terms, weighted; and once a step the penalties."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from keepshot.strategies.strategy import Term
from keepshot.strategies.terms import base_shares, token_nll
from keepshot.train.batches import MicroBatch
from keepshot.train.penalties import HeldNumbers
from keepshot.train.reference import ReferenceBank


@dataclass(frozen=True, slots=True)
class Objective:
    """What is minimised.

    A planner's coefficient of a token holds the weight of all terms of its stream; a term gets its part of it.

    Attributes:
        terms: Every stream has one or more; a stream that is not named has its NLL alone.
        banks: For every term that asks the base, by stream and kind, what it says on the rows of the stream.
        penalties: What holds the numbers that move.
    """

    terms: Sequence[Term] = ()
    banks: Mapping[tuple[str, str], ReferenceBank] = field(default_factory=dict)
    penalties: Sequence[HeldNumbers] = ()

    def parts(self, stream: str, progress: float) -> dict[str, float]:
        """Of a stream's weight, what each kind of term has when a fraction `progress` of the training is done."""
        mine = [term for term in self.terms if term.stream == stream]
        total = sum(term.weight for term in mine)
        return {term.kind: term.at(progress) / total for term in mine} if mine else {"nll": 1.0}

    def kinds(self, streams: Sequence[str]) -> list[tuple[str, str]]:
        """Kind and stream of all that is measured: NLL everywhere, of all tokens; the other terms; and penalties."""
        return (
            [("nll", stream) for stream in streams]
            + [(term.kind, term.stream) for term in self.terms if term.kind != "nll"]
            + [("penalty", penalty.kind) for penalty in self.penalties]
        )

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
                bank = self.banks[stream, term.kind]
                base = bank.of(batch.rows_of(stream)).to(logits.device)
                found[term.kind, stream] = (here, bank.divergence(mine, batch.targets[here], base))
        return found

    def weighted(
        self, losses: Mapping[tuple[str, str], tuple[Tensor, Tensor]], batch: MicroBatch, progress: float
    ) -> Float[Tensor, ""]:
        """Sum of coefficient x part x loss; an NLL that leaves tokens out counts the others of their rows more."""
        total = torch.zeros((), device=batch.coefficients.device)
        for (kind, stream), (here, values) in losses.items():
            if part := self.parts(stream, progress).get(kind, 0.0):
                coefficients = batch.coefficients[here]
                if (shares := self._shares(kind, stream, batch)) is not None:
                    coefficients = coefficients * shares.to(coefficients.device)
                total = total + part * (coefficients * values).sum()
        return total

    def pull(self, model: nn.Module, scale: float) -> dict[tuple[str, str], Float[Tensor, ""]]:
        """Add the penalties' gradients to those of a step; what each adds to its loss. See `HeldNumbers.pull`."""
        return {("penalty", penalty.kind): penalty.pull(model, scale) for penalty in self.penalties}

    def _shares(self, kind: str, stream: str, batch: MicroBatch) -> Float[Tensor, " _"] | None:
        """What the tokens of a stream count in an NLL that leaves some out, see `base_shares`; None: all the same."""
        least = next((term.least for term in self.terms if (term.kind, term.stream) == (kind, stream)), None)
        if least is None:
            return None
        rows = batch.rows_of(stream)
        return base_shares(self.banks[stream, kind].of(rows), [row.num_scored for row in rows], least)
