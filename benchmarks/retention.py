"""Retention of a method over training seeds.

    python -m benchmarks.retention [METHOD] [LEARNING_RATE] [--seeds N] [--folder DIR]

METHOD is written as in a config (`full`, `"[full, icl-mix]"`). Runs are kept in the folder and taken up again.
"""

import argparse
from pathlib import Path

from ruamel.yaml import YAML

from keepshot.evaluate import mean_estimate
from keepshot.files import read_json
from keepshot.runs import tune
from keepshot.runs.tour import Entry, demo_config


def main() -> None:
    """Print retention and target accuracy per seed, then the mean with its interval over seeds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("method", nargs="?", default="[full, icl-mix]")
    parser.add_argument("learning_rate", nargs="?", type=float, default=2e-4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark"))
    options = parser.parse_args()
    method = YAML(typ="safe", pure=True).load(options.method)
    name = "+".join(method) if isinstance(method, list) else method
    kept = []
    for seed in range(options.seeds):
        path = options.folder / f"{name}-{options.learning_rate:g}-seed{seed}"
        if not (path / "report.json").exists():
            tune(demo_config(Entry(name, method, options.learning_rate), path, seed), resume=True)
        report = read_json(path / "report.json")
        kept.append(report["retention"]["value"])
        target = report["target"]["after"]["0"]["accuracy"]
        print(f"seed {seed}: target {target:.3f}, retention {kept[-1]:.3f}", flush=True)
    estimate = mean_estimate(kept)
    assert estimate is not None, "an interval needs at least two seeds"
    print(f"retention: {estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]")


if __name__ == "__main__":
    main()
