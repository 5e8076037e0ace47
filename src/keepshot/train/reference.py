"""What the base says on fixed rows, computed once before the first step: no second model is ever in memory.

Training starts at the base, so the model at step 0 is the reference. Its predictions on a bank of rows are kept as the
most likely tokens with the mass of all others (`Reference`), on disk beside the run under a key of everything that they
depend on.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from keepshot.models.load import CausalLM
from keepshot.models.logits import kept_logits
from keepshot.strategies.strategy import Kind
from keepshot.strategies.terms import (
    Reference,
    answer_reference,
    masked_reference,
    reference,
    token_kl,
    token_masked_kl,
    token_reverse_kl,
)
from keepshot.train.batches import MicroBatch, micro_batches
from keepshot.train.keyed import key_of, load_keyed, save_keyed
from keepshot.train.planner import PlannedRow


@dataclass(frozen=True, slots=True)
class ReferenceBank:
    """The base's predictions on rows that are visited again and again.

    Attributes:
        places: Name of a row -> its first scored token in `reference`, and the one after its last.
        reference: Of all scored tokens, row after row, on the CPU.
        temperature: At which it was taken.
        kind: Of the term that it is for; an NLL asks for the right tokens' probabilities.
    """

    places: Mapping[str, tuple[int, int]]
    reference: Reference
    temperature: float = 1.0
    kind: Kind = "kl"

    def of(self, rows: Sequence[PlannedRow]) -> Reference:
        """The predictions at the scored tokens of `rows`, in order."""
        where = torch.cat([torch.arange(*self.places[row.name]) for row in rows])
        kept = self.reference
        return Reference(kept.ids[where].long(), kept.log_probs[where], kept.log_tail[where])

    def divergence(
        self, logits: Float[Tensor, "scored vocab"], targets: Int[Tensor, " scored"], base: Reference
    ) -> Float[Tensor, " scored"]:
        """The KL that its kind is about; where that is an NLL, the KL of the right token against all others.

        Args:
            logits: Of the model.
            targets: The scored tokens.
            base: `of` the same rows, on the same device.
        """
        match self.kind:
            case "masked-kl":
                return token_masked_kl(logits, targets, base, self.temperature)
            case "reverse-kl":
                return token_reverse_kl(logits, base, self.temperature)
            case "kl" | "nll":
                return token_kl(logits, base, self.temperature)

    @property
    def mean_tail(self) -> float:
        """Mean mass of the tokens that are not kept: what the cached KL cannot see inside of."""
        return float(self.reference.log_tail.cpu().double().exp().mean())


def reference_bank(
    model: CausalLM,
    rows: Sequence[PlannedRow],
    *,
    kept: int,
    temperature: float,
    budget: int,
    kind: Kind = "kl",
) -> ReferenceBank:
    """Ask the base about every scored token of `rows`, in the arithmetic (autocast) of the caller.

    Args:
        model: At step 0, with adapters that change nothing yet, if any.
        rows: Of one stream, with names that differ.
        kept: Most likely tokens to keep.
        temperature: Of the KL term.
        budget: Most padded tokens in a batch.
        kind: Of the term.
    """
    found: dict[str, Reference] = {}
    training = model.training
    model.eval()
    with torch.inference_mode():
        for batch in _batches(model, rows, budget):
            logits = _logits(model, batch)
            targets = batch.targets.to(logits.device)
            if kind == "nll":
                base = answer_reference(logits, targets)
            elif kind == "masked-kl":
                base = masked_reference(logits, targets, kept, temperature)
            else:
                base = reference(logits, kept, temperature)
            counts = batch.keep.sum(dim=1).tolist()
            parts = zip(base.ids.split(counts), base.log_probs.split(counts), base.log_tail.split(counts), strict=True)
            for row, (ids, log_probs, log_tail) in zip(batch.rows, parts, strict=True):
                found[row.name] = Reference(ids.int().cpu(), log_probs.cpu(), log_tail.cpu())
    model.train(training)
    assert len(found) == len(rows), "rows of a bank have names of their own"
    ends = torch.tensor([len(part.log_tail) for part in found.values()]).cumsum(0).tolist()
    places = dict(zip(found, zip([0, *ends[:-1]], ends, strict=True), strict=True))
    merged = Reference(*(torch.cat([getattr(part, name) for part in found.values()]) for name in _FIELDS))
    return ReferenceBank(places, merged, temperature, kind)


def mean_kl(model: CausalLM, rows: Sequence[PlannedRow], bank: ReferenceBank, budget: int) -> float:
    """Mean over rows of the bank's divergence from the base per scored token, in nats; see `divergence`."""
    values: list[float] = []
    training = model.training
    model.eval()
    with torch.inference_mode():
        for batch in _batches(model, rows, budget):
            logits = _logits(model, batch)
            targets, base = batch.targets.to(logits.device), bank.of(batch.rows).to(logits.device)
            kl = bank.divergence(logits, targets, base)
            values += [float(part.mean()) for part in kl.split(batch.keep.sum(dim=1).tolist())]
    model.train(training)
    return sum(values) / len(values)


def bank_key(
    weights: Iterable[str],
    rows: Sequence[PlannedRow],
    kept: int,
    temperature: float,
    dtype: str,
    kind: Kind = "kl",
) -> str:
    """A digest of all that a bank depends on: weights, token ids, scored positions, kept tokens, T, dtype and kind."""
    # Both directions of the KL keep the same numbers.
    masked = () if kind in ("kl", "reverse-kl") else (kind,)
    return key_of([repr((kept, temperature, dtype, *masked)).encode()], weights, rows)


def save_bank(bank: ReferenceBank, path: Path, key: str) -> None:
    """Write a bank as safetensors; `path` is complete or absent."""
    told = {"places": json.dumps(bank.places), "temperature": repr(bank.temperature), "kind": bank.kind}
    save_keyed({name: getattr(bank.reference, name) for name in _FIELDS}, path, key, told)


def load_bank(path: Path, key: str) -> ReferenceBank | None:
    """Read what `save_bank` wrote; None where there is no file, or one with another key.

    Raises:
        RunError: The file is something else.
    """
    if (found := load_keyed(path, key, "cached reference", _FIELDS)) is None:
        return None
    tensors, told = found
    places = {name: (start, end) for name, (start, end) in json.loads(told["places"]).items()}
    kind: Kind = next(kind for kind in get_args(Kind) if kind == told.get("kind", "kl"))
    return ReferenceBank(places, Reference(**tensors), float(told["temperature"]), kind)


_FIELDS = ("ids", "log_probs", "log_tail")


def _batches(model: CausalLM, rows: Sequence[PlannedRow], budget: int) -> list[MicroBatch]:
    # Any filler but the padding token's, at which transformers would advise a mask that right padding does not need.
    padding = getattr(model.config.get_text_config(), "pad_token_id", None)  # that of several inputs has none itself
    return micro_batches(rows, (rows[0].stream,), budget=budget, pad_id=int(padding == 0))


def _logits(model: CausalLM, batch: MicroBatch) -> Tensor:
    moved = batch.to(model.device)
    logits = model(input_ids=moved.input_ids, use_cache=False, logits_to_keep=moved.keep).logits
    return kept_logits(logits, moved.keep)
