"""The fixed rows of a run's KL terms, and what the base says on them."""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from peft import PeftModel
from transformers import TrainingArguments

from keepshot.episodes import Bank, Sampler, ZeroShot
from keepshot.errors import RunError
from keepshot.models.load import CausalLM
from keepshot.runs.folder import RunFolder
from keepshot.strategies import Strategy, Term, fingerprint
from keepshot.train import (
    Objective,
    PlannedRow,
    Planner,
    ReferenceBank,
    bank_key,
    load_bank,
    mean_kl,
    reference_bank,
    save_bank,
)

# So many rows at the least, and this share more that training never sees: a bank can be overfitted.
FEWEST_ROWS = 16
HELD_OUT = 0.1
# What a KL may be before the first step, in nats per token: rounding.
STEP_0 = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-3}
CHECKED_ROWS = 8


def fixed_rows(planner: Planner, strategy: Strategy, target_tokens: float, seed: int) -> Planner:
    """The planner with fixed rows where a KL term needs them: as many as are visited `visits` times on average.

    Args:
        planner: Draws new rows without end.
        strategy: Its terms.
        target_tokens: Tokens of the target that the run will compute.
        seed: Keys the order of visits.
    """
    rest = 1.0 - sum(stream.share or 0.0 for stream in planner.streams)
    streams = []
    for spec, stream in zip(strategy.streams, planner.streams, strict=True):
        if strategy.kl_terms(spec.name) and not isinstance(stream.sampler, ZeroShot):
            sample = planner.rows(stream.name, [stream.sampler.draw(index) for index in range(FEWEST_ROWS)])
            mean_length = sum(len(row.row.ids) for row in sample) / len(sample)
            tokens = (rest if spec.share is None else spec.share) / rest * target_tokens
            rows = max(FEWEST_ROWS, math.ceil(tokens / mean_length / spec.visits))
            stream = replace(stream, sampler=Bank(stream.name, stream.sampler, rows, seed))
        streams.append(stream)
    return replace(planner, streams=streams)


@dataclass(frozen=True, slots=True)
class References:
    """The objective of a run with the rows that training never sees.

    Attributes:
        objective: Terms and banks.
        rows: By stream, those that training sees.
        held_out: By stream, those that it does not; none where the rows are the target's own examples.
    """

    objective: Objective
    rows: Mapping[str, list[PlannedRow]]
    held_out: Mapping[str, list[PlannedRow]]

    def report(self, model: CausalLM, args: TrainingArguments, budget: int) -> dict[str, dict[str, int | float | None]]:
        """By stream: rows, tail mass that was not kept, and the mean KL to the base on rows that were never seen.

        Where training sees all rows, the KL is null.
        """
        found: dict[str, dict[str, int | float | None]] = {}
        for (stream, _), bank in self.objective.banks.items():
            held_out = self.held_out[stream]
            with _autocast(model, args):
                kl = mean_kl(model, held_out, bank, budget) if held_out else None
            found[stream] = {
                "rows": len(self.rows[stream]),
                "held_out_rows": len(held_out),
                "mean_tail": bank.mean_tail,
                "held_out_kl_nats": kl,
            }
        return found


def references(
    model: CausalLM, strategy: Strategy, planner: Planner, args: TrainingArguments, folder: RunFolder, budget: int
) -> References:
    """Ask the base about the fixed rows of every KL term, or read what was asked before the run was interrupted.

    Args:
        model: At step 0, whatever a checkpoint holds.
        strategy: Its terms.
        planner: Its streams, fixed where a KL term needs that.
        args: Of the training, for its precision.
        folder: Keeps the answers.
        budget: Most padded tokens in a batch.

    Raises:
        RunError: The model at step 0 does not agree with its own answers, so that something is wrong with it.
    """
    banks: dict[tuple[str, str], ReferenceBank] = {}
    rows: dict[str, list[PlannedRow]] = {}
    held_out: dict[str, list[PlannedRow]] = {}
    weights = list(fingerprint(model, {}).values()) if any(term.kind != "nll" for term in strategy.terms) else []
    for stream in planner.streams:
        for term in strategy.kl_terms(stream.name):
            seen, unseen = _rows(planner, stream.sampler, stream.name)
            bank = _bank(model, term, [*seen, *unseen], weights, args, folder, budget)
            with _autocast(model, args):
                kl = mean_kl(model, seen[:CHECKED_ROWS], bank, budget)
            if abs(kl) > STEP_0[_precision(model, args)]:
                raise RunError(
                    f"the KL of stream {stream.name} is {kl:.2g} nats before the first step, and must be 0: the model "
                    "does not compute what it computed for the reference"
                )
            banks[stream.name, term.kind] = bank
            rows[stream.name], held_out[stream.name] = seen, unseen
    return References(Objective(strategy.terms, banks), rows, held_out)


def _rows(planner: Planner, sampler: Sampler, stream: str) -> tuple[list[PlannedRow], list[PlannedRow]]:
    """The rows that training sees, and those that it does not."""
    if isinstance(sampler, Bank):
        every = [sampler.row(place) for place in range(math.ceil(sampler.rows * (1 + HELD_OUT)))]
        rows = planner.rows(stream, every)
        return rows[: sampler.rows], rows[sampler.rows :]
    assert sampler.size is not None, "rows of a KL term are fixed"
    return planner.rows(stream, [sampler.draw(index) for index in range(sampler.size)]), []


def _bank(
    model: CausalLM,
    term: Term,
    rows: list[PlannedRow],
    weights: list[str],
    args: TrainingArguments,
    folder: RunFolder,
    budget: int,
) -> ReferenceBank:
    path = folder.path / "reference" / f"{term.stream}-{term.kind}.safetensors"
    key = bank_key(weights, rows, term.kept, term.temperature, str(_precision(model, args)))
    found = load_bank(path, key)
    if found is None:
        with _autocast(model, args), _bare(model):
            found = reference_bank(model, rows, kept=term.kept, temperature=term.temperature, budget=budget)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_bank(found, path, key)
    return found


def _bare(model: CausalLM) -> contextlib.AbstractContextManager:
    """The base itself: an adapter that does not start at nothing would otherwise be taken for a part of it."""
    return model.disable_adapter() if isinstance(model, PeftModel) else contextlib.nullcontext()


def _precision(model: CausalLM, args: TrainingArguments) -> torch.dtype:
    return torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else model.dtype


def _autocast(model: CausalLM, args: TrainingArguments) -> contextlib.AbstractContextManager:
    """The arithmetic of the training, so that the base is compared with itself."""
    if not (args.bf16 or args.fp16):
        return contextlib.nullcontext()
    return torch.autocast(model.device.type, dtype=_precision(model, args))
