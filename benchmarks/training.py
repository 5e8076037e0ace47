"""A training step's time against its floor: unpadded tokens x 6 x parameters / the machine's matrix rate.

python -m benchmarks.training
"""

import tempfile
import time
from pathlib import Path

from benchmarks.machine import matrix_rate
from keepshot.config import load_config
from keepshot.files import read_json
from keepshot.runs import tune

STEPS = 30


def main() -> None:
    """Print seconds per step, the floor, and their ratio."""
    rate = matrix_rate()
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(
            {
                "model": "mini",
                "data": {"train": "mini:word-rule"},
                "method": ["full", "icl-mix"],
                "output": str(Path(folder) / "run"),
                "train": {"max_steps": STEPS, "per_device_train_batch_size": 32, "disable_tqdm": True},
                "evaluate": {"shots": [0], "sets": 2, "queries": 5},
            }
        )
        start = time.perf_counter()
        run = tune(config)
        cost = read_json(run.training)
        print(f"whole run {time.perf_counter() - start:.0f} s")
    floor_s = cost["tokens"] * 6 * cost["total_parameters"] / rate
    print(f"matrix rate {rate / 1e9:.0f} GFLOP/s; {cost['tokens'] / STEPS:.0f} tokens a step")
    print(f"{STEPS} steps: {cost['train_seconds']:.1f} s, floor {floor_s:.1f} s")
    print(f"ratio: {cost['train_seconds'] / floor_s:.2f}")


if __name__ == "__main__":
    main()
