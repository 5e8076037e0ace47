"""What KL anchors cost: time and peak memory of a training with them over the same training without.

    python -m benchmarks.anchors [--model mini] [--data mini:word-rule] [--steps 60] [--repeats 3]

Three trainings, each in a process of its own, in turn: without anchors, with a share of .1 and the cached reference,
and with the same rows and a second model in memory that is asked at every step (the plain way to write such a term).
The last two must end at the same weights but for rounding, or the benchmark fails. Memory is what the process needs
beyond the libraries. What a cache of fewer tokens would miss is measured at the end of the training. The last line is
the cached term's time over that of no term.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.machine import in_its_own_process
from keepshot.config import load_config
from keepshot.models.load import CausalLM, load_model
from keepshot.runs.data import evaluation_suite, load_target
from keepshot.runs.folder import RunFolder
from keepshot.runs.preparation import prepare
from keepshot.runs.references import references
from keepshot.strategies import apply_trainable
from keepshot.strategies.terms import reference, token_kl
from keepshot.train import KeepTrainer, Objective, Planner
from keepshot.train.batches import MicroBatch, collate

SHARE = 0.1
KEPT = (1, 8, 64)
VARIANTS = ("none", "cached", "two models")
TIME_BAR, MEMORY_BAR = 1.25, 1.15
SAME_MOVES = 0.01  # relative: what AdamW makes of rounding in 60 steps


@dataclass(frozen=True, slots=True)
class TwoModels(Objective):
    """The KL term as one would write it first: the base is kept, and asked at every step."""

    base: CausalLM | None = None

    def losses(self, logits: Tensor, batch: MicroBatch) -> dict[tuple[str, str], tuple[Tensor, Tensor]]:
        """As the cached objective's, with the base's whole distribution."""
        found = Objective((), {}).losses(logits, batch)
        for term in self.terms:
            here = (batch.streams == batch.stream_names.index(term.stream)).nonzero()[:, 0]
            if term.kind == "kl" and len(here):
                assert self.base is not None
                with torch.no_grad():
                    said = self.base(input_ids=batch.input_ids, use_cache=False, logits_to_keep=batch.keep).logits
                ours, theirs = (F.log_softmax(part[here].float(), dim=-1) for part in (logits, said))
                found["kl", term.stream] = (here, (theirs.exp() * (theirs - ours)).sum(-1))
        return found


def train(variant: str, model: str, data: str, steps: int) -> dict[str, Any]:
    """One training; seconds, bytes beyond the libraries, tokens, and a sample of how far the weights moved."""
    before = _resident()
    with tempfile.TemporaryDirectory() as folder:
        addition = [] if variant == "none" else [{"self-anchor": {"share": SHARE}}]
        config = load_config(
            {
                "model": model,
                "data": {"train": data},
                "suite": "mini",
                "method": ["full", *addition],
                "output": folder,
                "train": {
                    "max_steps": steps, "per_device_train_batch_size": 32, "learning_rate": 1e-4, "disable_tqdm": True,
                    "save_strategy": "no",
                },
            }
        )  # fmt: skip
        target = load_target(config.data, config.seed)
        place = RunFolder(Path(folder))
        prepared = prepare(config, target, evaluation_suite(config, target)[0], place)
        fresh = load_model(model, dtype="float32")
        trainable = apply_trainable(fresh, prepared.strategy.trainable, config.seed, prepared.start)
        started_at = _sample(trainable.model)
        budget = prepared.arguments.per_device_train_batch_size * prepared.planner.max_length
        start = time.monotonic()
        terms = prepared.strategy.terms
        if variant == "cached":
            asked = references(trainable.model, prepared.strategy, prepared.planner, prepared.arguments, place, budget)
            objective = asked.objective
        else:
            base = load_model(model, dtype="float32").eval() if variant == "two models" else None
            objective = Objective() if base is None else TwoModels(terms, base=base)
        trainer = KeepTrainer(
            trainable, prepared.arguments, prepared.planner, metrics=place.metrics, micro_batch_tokens=budget,
            objective=objective,
        )  # fmt: skip
        trainer.train()
        seconds = time.monotonic() - start
        tokens = sum(stream.tokens for stream in trainer.plan_state.streams.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    found = {
        "seconds": seconds,
        "bytes": peak - before,
        "tokens": tokens,
        "moved": (_sample(trainable.model) - started_at).tolist(),
    }
    if isinstance(objective, TwoModels):
        found["kl"] = _kl_by_kept(trainable.model, objective, prepared.planner)
    return found


def _kl_by_kept(model: CausalLM, objective: TwoModels, planner: Planner) -> dict[int, float]:
    """Mean KL from the base over some fixed rows, as a cache of so many tokens and the mass of the others sees it."""
    assert objective.base is not None
    stream = planner.streams[-1]
    rows = planner.rows(stream.name, [stream.sampler.draw(index) for index in range(16)])
    batch = collate(rows, (stream.name,))
    with torch.no_grad():
        base, ours = (
            one.eval()(
                input_ids=batch.input_ids.to(one.device), use_cache=False, logits_to_keep=batch.keep.to(one.device)
            ).logits
            for one in (objective.base, model)
        )
    vocabulary = base.shape[-1]
    sizes = [*(size for size in KEPT if size < vocabulary), vocabulary]
    return {size: float(token_kl(ours, reference(base, size)).mean()) for size in sizes}


def _sample(model: CausalLM) -> Tensor:
    """Some of every tensor's numbers."""
    return torch.cat([parameter.detach().flatten()[:64].clone() for parameter in model.parameters()])


def _resident() -> int:
    """Bytes of the process so far: the libraries."""
    if not Path("/proc/self/statm").exists():
        return 0
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _alone(variant: str, options: argparse.Namespace) -> dict[str, Any]:
    return in_its_own_process(
        "benchmarks.anchors", variant=variant, model=options.model, data=options.data, steps=options.steps
    )


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    a, b = torch.tensor(one["moved"]), torch.tensor(other["moved"])
    return float((a - b).norm() / b.norm())


def main() -> None:
    """Print time, memory and tokens of the three, their ratios, and how far the last two are apart."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="mini")
    parser.add_argument("--data", default="mini:word-rule")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(train(**json.loads(options.one))))
        return
    rounds = [{variant: _alone(variant, options) for variant in VARIANTS} for _ in range(options.repeats)]
    middle = {
        variant: {what: median(found[variant][what] for found in rounds) for what in ("seconds", "bytes", "tokens")}
        for variant in VARIANTS
    }
    plain = middle["none"]
    for variant, found in middle.items():
        ratios = {what: found[what] / plain[what] for what in found}
        print(
            f"{variant}: {found['seconds']:.1f} s ({ratios['seconds']:.2f} x), {found['bytes'] / 2**20:.0f} MiB "
            f"({ratios['bytes']:.2f} x), {found['tokens']:.0f} tokens ({ratios['tokens']:.2f} x)"
        )
    apart = _difference(rounds[0]["cached"], rounds[0]["two models"])
    print(f"cached and two models moved the weights alike but for {apart:.1e} (relative)")
    for kept, kl in rounds[0]["two models"]["kl"].items():
        print(f"KL after training with {kept} tokens and the tail: {kl:.6f} nats")
    if apart > SAME_MOVES:
        sys.exit("the cached reference did not train what two models train")
    time_ratio, memory_ratio = (middle["cached"][what] / plain[what] for what in ("seconds", "bytes"))
    print(f"memory ratio: {memory_ratio:.2f} (at most {MEMORY_BAR})")
    print(f"time at most: {TIME_BAR}")
    print(f"ratio: {time_ratio:.2f}")


if __name__ == "__main__":
    main()
