"""What the machine can do at best, and a measurement in a process of its own."""

import json
import subprocess
import sys
import time
from typing import Any

import torch


def matrix_rate(rows: int = 640, width: int = 256, hidden: int = 704, seconds: float = 1.0) -> float:
    """Floating-point operations per second of the bundled model's own matrix shape."""
    a, b = torch.randn(rows, width), torch.randn(width, hidden)
    for _ in range(20):
        a @ b
    start, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds:
        a @ b
        count += 1
    return 2 * rows * width * hidden * count / passed


def in_its_own_process(module: str, **values: object) -> dict[str, Any]:
    """What `python -m MODULE --one VALUES` prints last, both as JSON; no other measurement is in its memory."""
    command = [sys.executable, "-m", module, "--one", json.dumps(values)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
