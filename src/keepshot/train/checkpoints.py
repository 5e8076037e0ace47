"""Checkpoints that are complete or absent.

A checkpoint is written into a folder beside its place, flushed, marked complete and renamed. It holds the trainable
numbers in float32 (the rest is the base), the optimiser, the schedule, the RNG, and the planner's few numbers.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from keepshot.errors import RunError
from keepshot.files import new_folder, read_json, write_json
from keepshot.train.planner import PlanState, StreamState

WEIGHTS, PLAN, MARKER = "trainable.safetensors", "plan.json", "complete"


@contextmanager
def new_checkpoint(root: Path, step: int) -> Iterator[Path]:
    """A folder to fill, which becomes `root/checkpoint-<step>` with its marker when the block ends without error."""
    with new_folder(root / f"checkpoint-{step}") as folder:
        yield folder
        (folder / MARKER).write_text(f"step {step}\n", encoding="utf-8")


def checkpoints(root: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    found = []
    for folder in root.glob("checkpoint-*"):
        step = folder.name.removeprefix("checkpoint-")
        if step.isdigit() and (folder / MARKER).is_file():
            found.append((int(step), folder))
    return [folder for _, folder in sorted(found)]


def rotate(root: Path, keep: int | None, best: str | None) -> None:
    """Delete the oldest checkpoints beyond `keep`; the best and the newest always stay."""
    if keep is None or keep <= 0:
        return
    found = checkpoints(root)
    spared = {found[-1].name, Path(best).name} if best else {found[-1].name}
    others = [folder for folder in found if folder.name not in spared]
    for folder in others[: max(0, len(found) - keep)]:
        shutil.rmtree(folder)


def save_trainable(model: nn.Module, folder: Path) -> None:
    """Write every trainable parameter, as it is."""
    tensors = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    save_file(tensors, folder / WEIGHTS)


def load_trainable(model: nn.Module, folder: Path) -> None:
    """Read what `save_trainable` wrote.

    Raises:
        RunError: The file is damaged, or holds another set of parameters than the model trains.
    """
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{folder / WEIGHTS} cannot be read: {error}; delete that checkpoint and resume again") from None
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    mine, written = ({(name, tuple(t.shape)) for name, t in found.items()} for found in (parameters, tensors))
    if different := sorted({name for name, _ in mine ^ written}):
        raise RunError(
            f"{folder} was written by another method: {', '.join(different[:3])} (of {len(different)}) are not the "
            "same in checkpoint and model; resume with the run's own config"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def save_plan(state: PlanState, seconds: float, folder: Path) -> None:
    """Write the planner's state and the seconds of training so far."""
    streams = {name: asdict(stream) for name, stream in state.streams.items()}
    write_json(folder / PLAN, {"step": state.step, "seconds": seconds, "streams": streams})


def load_plan(folder: Path) -> tuple[PlanState, float]:
    """Read what `save_plan` wrote."""
    value = read_json(folder / PLAN)
    streams = {name: StreamState(**fields) for name, fields in value["streams"].items()}
    return PlanState(value["step"], streams), value["seconds"]


def truncate_metrics(path: Path, step: int) -> None:
    """Drop what `metrics.jsonl` says of steps after `step`: they will be taken again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # the line that a kill cut off
            continue
        if row["step"] <= step:
            kept.append(line + "\n")
    aside = path.with_name(f".{path.name}.part")
    aside.write_text("".join(kept), encoding="utf-8")
    aside.replace(path)
