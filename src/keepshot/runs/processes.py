"""Evaluations under `accelerate launch`, torchrun or mpirun: every process asks a part, all get the whole."""

import atexit
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import PartialState
from accelerate.utils import gather_object, get_cpu_distributed_information

from keepshot.evaluation import Processes


@contextmanager
def processes() -> Iterator[Processes]:
    """The processes that were launched together; one where none were. All leave at the same time.

    A process group that is already there is used and left. One that is made here ends with the process: it cannot be
    made twice, and there may be another evaluation.
    """
    if get_cpu_distributed_information().world_size == 1:  # from the environment, whatever the device
        yield Processes()
        return
    made = not torch.distributed.is_initialized()
    state = PartialState(cpu=not torch.accelerator.is_available())
    if made:
        atexit.register(state.destroy_process_group)
    yield Processes(state.process_index, state.num_processes, gather_object)
    state.wait_for_everyone()
