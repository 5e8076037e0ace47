"""What the machine can do at best: its measured float32 matrix rate."""

import time

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
