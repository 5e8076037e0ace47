"""Evaluations that several processes share: the numbers of one, in all."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests import processes

from keepshot.evaluation import Evaluation, EvaluationPlan, read_items, write_items
from keepshot.runs import evaluate
from keepshot.runs import processes as launched
from keepshot.tasks.builtin import builtin_suite
from keepshot.tasks.example import Suite

MINI = {task.name: task for task in builtin_suite().tasks}
SUITE = Suite("s", (MINI["subtract-17"], MINI["weighted-digits"], MINI["reverse-shift"]))
PLAN = EvaluationPlan(shots=(0, 2), sets=3, queries=3, until=0.05, most_sets=5)
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
OPEN_MPI = tuple(
    f"OMPI_COMM_WORLD_{name}" for name in ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")
)  # what `mpirun` sets, with which accelerate starts several processes on a CPU


def ask(output: Path | None = None, seed: int = 0) -> Evaluation:
    return evaluate("mini", suite=SUITE, plan=replace(PLAN, seed=seed), output=output)


def evaluate_as(rank: int, size: int, names: tuple[str, ...], folder: Path) -> None:
    """In a process of its own: two evaluations as process `rank` of `size`, as a launcher would start it."""
    meeting_point(rank, size, folder)
    os.environ |= dict(zip(names, map(str, (rank, size, rank, size)), strict=True))
    for seed in (0, 1):
        found = ask(folder / f"{seed}-by-{rank}.json", seed)
        write_items(folder / f"{seed}-in-{rank}.parquet", found.items)
    assert torch.distributed.get_world_size() == size
    os._exit(0)  # as in the golden tests: nothing that torch still runs can keep this process


def evaluate_in_a_group(rank: int, size: int, folder: Path) -> None:
    """In a process of its own: evaluations with a process group that was there before, and is there afterwards."""
    meeting_point(rank, size, folder)
    os.environ |= dict(zip(TORCHRUN, map(str, (rank, size, rank, size)), strict=True))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=size)
    write_items(folder / f"0-in-{rank}.parquet", ask().items)
    ranks: list[int] = [0] * size
    torch.distributed.all_gather_object(ranks, rank)
    assert ranks == list(range(size))
    os._exit(0)


def meeting_point(rank: int, size: int, folder: Path) -> None:
    """Where the processes find each other, on a port that is free: as torchrun does it."""
    port = folder / "port"
    if rank == 0:
        # Lives as long as this process.
        globals()["store"] = torch.distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
        port.with_suffix(".part").write_text(str(globals()["store"].port))
        port.with_suffix(".part").rename(port)
    while not port.exists():
        time.sleep(0.02)
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port.read_text(), "TORCHELASTIC_USE_AGENT_STORE": "True"}


def run(target, *args) -> None:
    running = [processes.start(target, rank, 2, *args) for rank in range(2)]
    assert [processes.exit_code(process) for process in running] == [0, 0]


@pytest.mark.parametrize("names", [TORCHRUN, OPEN_MPI], ids=["torchrun", "mpirun"])
def test_two_processes_find_what_one_does_as_often_as_they_are_asked(names: tuple[str, ...], tmp_path: Path) -> None:
    run(evaluate_as, names, tmp_path)
    for seed in (0, 1):
        alone = ask(tmp_path / f"{seed}.json", seed)
        assert alone.sets == 5
        for rank in range(2):
            assert read_items(tmp_path / f"{seed}-in-{rank}.parquet") == alone.items
        assert (tmp_path / f"{seed}-by-0.json").read_text() == (tmp_path / f"{seed}.json").read_text()
        assert not (tmp_path / f"{seed}-by-1.json").exists(), "every process wrote the output"


def test_a_process_group_that_is_there_is_used_and_left(tmp_path: Path) -> None:
    run(evaluate_in_a_group, tmp_path)
    alone = ask()
    assert [read_items(tmp_path / f"0-in-{rank}.parquet") for rank in range(2)] == [alone.items] * 2


def test_without_a_launcher_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*TORCHRUN, *OPEN_MPI):
        monkeypatch.delenv(name, raising=False)
    with launched.processes() as found:
        assert (found.index, found.count, found.gather([1, 2])) == (0, 1, [1, 2])
    monkeypatch.setenv("WORLD_SIZE", "1")
    with launched.processes() as found:
        assert found.count == 1
    assert not torch.distributed.is_initialized()


def test_accelerate_launch_writes_what_one_process_does(tmp_path: Path) -> None:
    suite = tmp_path / "suite"
    suite.mkdir()
    for task in (MINI["subtract-17"], MINI["reverse-shift"]):
        rows = [json.dumps({"input": example.input, "output": example.output}) for example in task.examples]
        (suite / f"{task.name}.jsonl").write_text("\n".join(rows))
    arguments = ["--suite", str(suite), "--shots", "0,2", "--sets", "2", "--queries", "3", "--no-cache"]
    # With --cpu, accelerate 1.15 starts one process however many are asked for (huggingface/accelerate#2741).
    launch = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--main_process_port", "0"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--log_dir", str(tmp_path / "logs"), "--tee", "3"]
    together, logs = tmp_path / "together.json", tmp_path / "logs"
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", *launch, "-m", "keepshot"]
    finished = subprocess.run(
        [*command, "eval", "mini", *arguments, "--output", str(together)],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path)},  # no config
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    said = {path.parent.name: path.read_text() for path in logs.rglob("stdout.log")}
    assert sorted(said) == ["0", "1"], "there were not two processes"
    assert "accuracy by number of shots" in said["0"]
    assert said["1"] == "", "both processes speak"

    alone = evaluate("mini", suite=str(suite), plan=EvaluationPlan((0, 2), 2, 3), output=tmp_path / "alone.json")
    assert together.read_text() == (tmp_path / "alone.json").read_text()
    assert read_items(tmp_path / "together.items.parquet") == alone.items
