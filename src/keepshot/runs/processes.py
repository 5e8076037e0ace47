"""Evaluations under `accelerate launch` or torchrun: every process asks a part, all get the whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from keepshot.evaluate import Processes


@contextmanager
def processes() -> Iterator[Processes]:
    """The processes that were launched together; one where none were.

    A process group that is already there is used and left; one that is made here is ended again.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    found = torch.distributed.is_initialized()
    state = PartialState(cpu=not torch.accelerator.is_available())
    yield Processes(state.process_index, state.num_processes, gather_object)
    if not found:
        state.wait_for_everyone()
        state.destroy_process_group()
