"""Batches of episodes from worker processes, the same whatever their number."""

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from multiprocessing.connection import Connection

import numpy as np
from jaxtyping import Bool, UInt8

from keepshot import keys
from keepshot.errors import RunError
from keepshot.tasks.universe.episodes import row as drawn_row
from keepshot.tasks.universe.problems import NO_PROBLEMS, ProblemShares

Batch = tuple[UInt8[np.ndarray, "rows length"], Bool[np.ndarray, "rows length"]]


def batch(seed: int, index: int, rows: int, length: int, shares: ProblemShares = NO_PROBLEMS) -> Batch:
    """Batch number `index` of the stream that `seed` names; `shares` are those of `row`.

    Returns:
        Token ids with documents of training tasks in each row, padded with 0, and a mask that is true at answers.

    Example:
        >>> ids, answers = batch(seed=0, index=5, rows=2, length=64)
        >>> ids.shape, int(ids[0, 0])
        ((2, 64), 1)
    """
    generator = keys.generator(seed, "pretrain", "batch", index)
    ids, answers = np.zeros((rows, length), np.uint8), np.zeros((rows, length), np.bool_)
    for row in range(rows):
        tokens, mask = drawn_row(generator, length, shares)
        ids[row, : len(tokens)] = tokens
        answers[row, : len(mask)] = mask
    return ids, answers


@contextmanager
def batches(
    seed: int, rows: int, length: int, workers: int, start: int = 0, shares: ProblemShares = NO_PROBLEMS
) -> Iterator[Iterator[Batch]]:
    """The batches `start`, `start` + 1, … without end, each made by the next of `workers` processes in turn.

    The processes end with the block.

    Raises:
        RunError: A worker process ended.
    """
    # Spawned, not forked: the caller may hold threads and a CUDA context, which do not survive a fork.
    context = multiprocessing.get_context("spawn")
    connections, processes = [], []
    try:
        for worker in range(workers):
            receiver, sender = context.Pipe(duplex=False)
            connections.append(receiver)
            arguments = (sender, seed, (rows, length, shares), start + worker, workers)
            process = context.Process(target=_send_batches, args=arguments, daemon=True)
            process.start()
            processes.append(process)
            sender.close()  # the worker holds the other copy, so that its end is seen here
        yield _received(connections, rows, length)
    finally:
        for process in processes:
            process.terminate()
            process.join()
            process.close()
        for connection in connections:
            connection.close()


def _send_batches(sender: Connection, seed: int, drawn: tuple[int, int, ProblemShares], first: int, step: int) -> None:
    """The work of one process; sending blocks until the batch is asked for, which keeps one batch ready."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt from the keyboard is the reader's to handle
    for index in count(first, step):
        ids, answers = batch(seed, index, *drawn)
        try:
            sender.send_bytes(ids.tobytes() + answers.tobytes())
        except BrokenPipeError:  # the reader is gone
            return


def _received(connections: list[Connection], rows: int, length: int) -> Iterator[Batch]:
    while True:
        for worker, connection in enumerate(connections):
            try:
                content = np.frombuffer(connection.recv_bytes(), np.uint8).reshape(2, rows, length)
            except (EOFError, OSError):  # it ended between two batches, or amid one
                raise RunError(f"worker process {worker}, which makes training batches, ended; see its error") from None
            yield content[0], content[1].astype(np.bool_)
