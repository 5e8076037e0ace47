"""What methods cost: time, memory and computed tokens of their trainings over those of the first one.

    python -m benchmarks.methods [full full+self-anchor full+self-anchor+ewc] [--model mini] [--data mini:word-rule]
                                 [--steps 150] [--repeats 3]

Trainings run in turn, each in a process of its own, on a machine that does nothing else. Time and memory are those of
`training.json`: references, Fisher information and the steps, without evaluating and saving. The last line is the last
method's time over the first one's; all ratios are of medians over turns.
"""

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import in_its_own_process
from keepshot.config import load_config
from keepshot.runs.data import evaluation_suite, load_target
from keepshot.runs.folder import RunFolder
from keepshot.runs.preparation import prepare
from keepshot.runs.tuning import Run, train_stage

METHODS = ("full", "full+self-anchor", "full+self-anchor+ewc")
FIGURES = ("train_seconds", "peak_memory_bytes", "tokens")


def train(method: str, model: str, data: str, steps: int) -> dict[str, Any]:
    """One training's cost."""
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(
            {
                "model": model, "data": {"train": data}, "suite": "mini", "method": method.split("+"), "output": folder,
                "sources": {"general": [{"path": "mini"}]},
                "train": {
                    "max_steps": steps, "per_device_train_batch_size": 32, "learning_rate": 1e-4, "disable_tqdm": True,
                    "save_strategy": "no",
                },
            }
        )  # fmt: skip
        target = load_target(config.data, config.seed)
        suite = evaluation_suite(config, target)[0]
        place = RunFolder(Path(folder))
        prepared = prepare(config, target, suite, place)
        cost = train_stage(Run(config, place, target, suite, config.evaluate.plan(0), prepared), lambda line: None)
    return {figure: cost[figure] for figure in FIGURES}


def _alone(method: str, options: argparse.Namespace) -> dict[str, Any]:
    return in_its_own_process(
        "benchmarks.methods", method=method, model=options.model, data=options.data, steps=options.steps
    )


def main() -> None:
    """Print every method's cost and its ratios to the first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("methods", nargs="*", default=METHODS)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--data", default="mini:word-rule")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(train(**json.loads(options.one))))
        return
    rounds = [{one: _alone(one, options) for one in options.methods} for _ in range(options.repeats)]
    cost = {
        one: {figure: median(found[one][figure] for found in rounds) for figure in FIGURES} for one in options.methods
    }
    first = cost[options.methods[0]]
    for one, found in cost.items():
        seconds, memory, tokens = (found[figure] / first[figure] for figure in FIGURES)
        print(f"{one}: {found[FIGURES[0]]:.1f} s ({seconds:.2f} x), memory {memory:.2f} x, tokens {tokens:.2f} x")
    print(f"ratio: {cost[options.methods[-1]]['train_seconds'] / first['train_seconds']:.2f}")


if __name__ == "__main__":
    main()
