"""Child processes for tests, forked from a clean server that has imported everything once: that takes seconds."""

import multiprocessing
import threading
from collections.abc import Callable
from typing import Any

import torch
from tqdm import tqdm

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["keepshot.runs.tuning", "tests.training"])


def start(target: Callable[..., None], *args: Any) -> multiprocessing.process.BaseProcess:
    """Run `target` with `args`, on one thread; it must be a function of an importable module."""
    process = _CONTEXT.Process(target=_on_one_thread, args=(target, args))
    process.start()
    return process


def exit_code(process: multiprocessing.process.BaseProcess, seconds: float = 120) -> int | None:
    """How a process ended: 0, 1 after an error, minus the signal that killed it; None if it is still running."""
    process.join(timeout=seconds)
    return process.exitcode


def _on_one_thread(target: Callable[..., None], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a process that is killed would leak
    target(*args)
