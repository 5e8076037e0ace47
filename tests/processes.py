"""Child processes for tests, forked from a clean server that has imported everything once: that takes seconds."""

import importlib
import multiprocessing
import os
import signal
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


Killed = tuple[str, str, int]
"""Where a process dies: module, function, and at which call of it."""


def die_at(killed: Killed | None) -> None:
    """Let this process be killed, as by SIGKILL, instead of the named call; None lets it live."""
    if killed is None:
        return
    module, name, at = killed
    whole: Callable[..., Any] = getattr(importlib.import_module(module), name)
    calls = 0

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*args, **kwargs)

    setattr(importlib.import_module(module), name, dying)


def _on_one_thread(target: Callable[..., None], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a process that is killed would leak
    target(*args)
