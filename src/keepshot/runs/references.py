"""The fixed rows of the terms that ask the base, and what it says on them."""

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
from keepshot.strategies import TARGET, Strategy, Term, fingerprint
from keepshot.strategies.terms import base_shares, below
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
# A run's visits are estimated by the mean length of a row.
SLACK = 1.1
# What a KL may be before the first step, in nats per token: rounding.
STEP_0 = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-3}
CHECKED_ROWS = 8
# arXiv 2501.14315 leaves out 20 to 24 % of the tokens; beyond this share too little may be left to learn from.
MANY_LEFT_OUT = 0.5
# Of answers that a look-up has shown before; a base that learns in context has nearly all of them.
FEW_RECALLED = 0.9
_HARDLY_LEARNED = " Where so many are left out, the target may hardly be learned: lower `least` of the term."


def fixed_rows(planner: Planner, strategy: Strategy, target_tokens: float, seed: int) -> Planner:
    """The planner with fixed rows where a term asks the base about them.

    As many as are visited `visits` times on average, but of the target every example that the run comes to, behind one
    context where examples have some. A source of no more rows stays as it is.

    Args:
        planner: Draws new rows without end.
        strategy: Its terms.
        target_tokens: Tokens of the target that the run will compute.
        seed: Keys the order of visits.
    """
    rest = 1.0 - sum(stream.share or 0.0 for stream in planner.streams)
    streams = []
    for spec, stream in zip(strategy.streams, planner.streams, strict=True):
        if strategy.base_terms(spec.name):
            sample = planner.rows(stream.name, [stream.sampler.draw(index) for index in range(FEWEST_ROWS)])
            mean_length = sum(len(row.row.ids) for row in sample) / len(sample)
            draws = (rest if spec.share is None else spec.share) / rest * target_tokens / mean_length
            rows = max(FEWEST_ROWS, math.ceil(draws / spec.visits))
            size = stream.sampler.size
            if spec.name == TARGET and size is not None and rows < size:
                rows = max(rows, min(math.ceil(SLACK * draws), size))  # no example of the target is left out
            if not (isinstance(stream.sampler, ZeroShot) and size is not None and rows >= size):
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

        Where rows ask again what they have shown, `recalled` is the share of these answers that the base had right: one
        that does not recall them has little that could be kept. Where training sees all rows, the KL is null. An NLL
        that leaves tokens out has their share instead, and the share of the rows that keep all their tokens because
        none would be left. A stream with several such terms has an entry for each, `STREAM KIND`.
        """
        found: dict[str, dict[str, int | float | None]] = {}
        streams = [stream for stream, _ in self.objective.banks]
        for (stream, kind), bank in self.objective.banks.items():
            name = stream if streams.count(stream) == 1 else f"{stream} {kind}"
            if kind == "nll":
                found[name] = {"rows": len(self.rows[stream]), **self._left_out(stream, bank)}
                continue
            held_out = self.held_out[stream]
            with autocast(model, args):
                kl = mean_kl(model, held_out, bank, budget) if held_out else None
            found[name] = {
                "rows": len(self.rows[stream]),
                "held_out_rows": len(held_out),
                "mean_tail": bank.mean_tail,
                "held_out_kl_nats": kl,
                **self._recalled(stream, bank),
            }
        return found

    def _recalled(self, stream: str, bank: ReferenceBank) -> dict[str, float]:
        rows = [row for row in self.rows[stream] if row.recurring]
        if not rows or bank.kind == "masked-kl":  # which does not hold the right token
            return {}
        likeliest = iter(bank.of(rows).ids[:, 0].tolist())
        hits = []
        for row in rows:
            for start, end in row.scored:
                right = [next(likeliest) for _ in range(start, end)] == list(row.row.ids[start:end])
                if (start, end) in row.recurring:
                    hits.append(right)
        return {"recalled": sum(hits) / len(hits)}

    def _left_out(self, stream: str, bank: ReferenceBank) -> dict[str, float]:
        least = next(term.least for term in self.objective.terms if (term.kind, term.stream) == ("nll", stream))
        assert least is not None, "an NLL that asks the base leaves tokens out"
        rows = self.rows[stream]
        counts = [row.num_scored for row in rows]
        base = bank.of(rows)
        shares = base_shares(base, counts, least)
        whole = [bool(low.all()) for low in below(base, least).split(counts)]
        return {"left_out_tokens": float((shares == 0).float().mean()), "rows_kept_whole": sum(whole) / len(rows)}


def references(
    model: CausalLM, strategy: Strategy, planner: Planner, args: TrainingArguments, folder: RunFolder, budget: int
) -> References:
    """Ask the base about the fixed rows of every term that needs it, or read what an interrupted run has asked.

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
    weights = list(fingerprint(model, {}).values()) if any(term.asks_base for term in strategy.terms) else []
    for stream in planner.streams:
        for term in strategy.base_terms(stream.name):
            seen, unseen = _rows(planner, stream.sampler, stream.name)
            bank = _bank(model, term, [*seen, *unseen], weights, args, folder, budget)
            with autocast(model, args):
                kl = mean_kl(model, seen[:CHECKED_ROWS], bank, budget)
            if abs(kl) > STEP_0[precision(model, args)]:
                raise RunError(
                    f"the KL of stream {stream.name} is {kl:.2g} nats before the first step, and must be 0: the model "
                    "does not compute what it computed for the reference"
                )
            banks[stream.name, term.kind] = bank
            rows[stream.name], held_out[stream.name] = seen, unseen
    return References(Objective(strategy.terms, banks), rows, held_out)


def reference_notes(reported: Mapping[str, Mapping[str, int | float | None]]) -> list[str]:
    """What a reader should know about what the base said, from `References.report`."""
    forgetful = [
        f"Stream {name}: the base itself recalls only {found['recalled']:.0%} of the answers that its prompts have "
        "shown before, so that there is little of this ability to keep."
        for name, found in reported.items()
        if (recalled := found.get("recalled")) is not None and recalled < FEW_RECALLED
    ]
    return forgetful + [
        f"Stream {name.removesuffix(' nll')}: {found['left_out_tokens']:.0%} of the answer tokens had no loss, because "
        f"the base held them improbable; {found['rows_kept_whole']:.0%} of the rows would have lost all, and kept them."
        f"{_HARDLY_LEARNED if (found['left_out_tokens'] or 0) > MANY_LEFT_OUT else ''}"
        for name, found in reported.items()
        if "left_out_tokens" in found
    ]


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
    key = bank_key(weights, rows, term.kept, term.temperature, str(precision(model, args)), term.kind)
    found = load_bank(path, key)
    if found is None:
        with autocast(model, args), _bare(model):
            found = reference_bank(
                model, rows, kept=term.kept, temperature=term.temperature, budget=budget, kind=term.kind
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        save_bank(found, path, key)
    return found


def _bare(model: CausalLM) -> contextlib.AbstractContextManager:
    """The base itself: an adapter that does not start at nothing would otherwise be taken for a part of it."""
    return model.disable_adapter() if isinstance(model, PeftModel) else contextlib.nullcontext()


def precision(model: CausalLM, args: TrainingArguments) -> torch.dtype:
    """The dtype that the training computes in."""
    return torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else model.dtype


def autocast(model: CausalLM, args: TrainingArguments) -> contextlib.AbstractContextManager:
    """The arithmetic of the training, so that the base is compared with itself."""
    if not (args.bf16 or args.fp16):
        return contextlib.nullcontext()
    return torch.autocast(model.device.type, dtype=precision(model, args))
