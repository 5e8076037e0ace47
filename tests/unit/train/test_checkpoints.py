import json
from pathlib import Path

import pytest
import torch
from torch import nn

from keepshot.errors import RunError
from keepshot.train import PlanState, StreamState, checkpoints
from keepshot.train.checkpoints import (
    MARKER,
    WEIGHTS,
    load_plan,
    load_trainable,
    new_checkpoint,
    rotate,
    save_plan,
    save_trainable,
    truncate_metrics,
)


def write(root: Path, *steps: int) -> None:
    for step in steps:
        with new_checkpoint(root, step) as folder:
            (folder / "weights").write_text(str(step))


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


@pytest.fixture
def model() -> nn.Module:
    """Two trainable tensors, one frozen."""
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    model[1].bias.requires_grad_(False)
    model[0].bias.requires_grad_(False)
    return model


def test_a_checkpoint_appears_at_once_with_its_marker(tmp_path: Path) -> None:
    with new_checkpoint(tmp_path, 5) as folder:
        (folder / "weights").write_text("5")
        assert checkpoints(tmp_path) == []
        assert not (tmp_path / "checkpoint-5").exists()
    assert checkpoints(tmp_path) == [tmp_path / "checkpoint-5"]
    assert names(tmp_path) == ["checkpoint-5"]
    assert names(tmp_path / "checkpoint-5") == [MARKER, "weights"]


def test_an_error_while_writing_leaves_what_was_there(tmp_path: Path) -> None:
    write(tmp_path, 5)

    def fail() -> None:
        with new_checkpoint(tmp_path, 5) as folder:
            (folder / "weights").write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert checkpoints(tmp_path) == [tmp_path / "checkpoint-5"]
    assert (tmp_path / "checkpoint-5" / "weights").read_text() == "5"


def test_only_complete_checkpoints_count_and_by_number(tmp_path: Path) -> None:
    write(tmp_path, 10, 9, 100)
    for name in (".checkpoint-11.part", "checkpoint-12", "checkpoint-best", ".checkpoint-9.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text("")
    (tmp_path / "checkpoint-best" / MARKER).write_text("")
    assert [folder.name for folder in checkpoints(tmp_path)] == ["checkpoint-9", "checkpoint-10", "checkpoint-100"]
    assert checkpoints(tmp_path / "absent") == []


def test_writing_again_over_a_leftover_starts_afresh(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint-5.part").mkdir()
    (tmp_path / ".checkpoint-5.part" / "stale").write_text("")
    write(tmp_path, 5)
    assert names(tmp_path / "checkpoint-5") == [MARKER, "weights"]


@pytest.mark.parametrize(
    ("keep", "best", "kept"),
    [
        (None, None, [8, 9, 10, 11]),
        (0, None, [8, 9, 10, 11]),
        (1, None, [11]),
        (2, None, [10, 11]),
        (9, None, [8, 9, 10, 11]),
        (1, 11, [11]),
        (1, 9, [9, 11]),  # as with the Trainer: one more, since resuming needs the newest
        (2, 8, [8, 11]),
        (3, 8, [8, 10, 11]),
        (3, 10, [9, 10, 11]),
    ],
)
def test_the_oldest_go_but_never_the_best_or_the_newest(
    keep: int | None, best: int | None, kept: list[int], tmp_path: Path
) -> None:
    write(tmp_path, 8, 9, 10, 11)
    rotate(tmp_path, keep, f"elsewhere/checkpoint-{best}" if best else None)
    assert [folder.name for folder in checkpoints(tmp_path)] == [f"checkpoint-{step}" for step in kept]


def test_trainable_numbers_come_back_bit_for_bit_and_no_others(model: nn.Module, tmp_path: Path) -> None:
    save_trainable(model, tmp_path)
    other = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    for name, parameter in other.named_parameters():
        parameter.requires_grad_(model.get_parameter(name).requires_grad)
    frozen = other[1].bias.clone()
    load_trainable(other, tmp_path)
    assert torch.equal(other[0].weight, model[0].weight)
    assert torch.equal(other[1].weight, model[1].weight)
    assert torch.equal(other[1].bias, frozen)
    assert other[0].weight.requires_grad


def test_another_set_of_trainable_numbers_is_refused(model: nn.Module, tmp_path: Path) -> None:
    save_trainable(model, tmp_path)
    model[1].bias.requires_grad_(True)
    with pytest.raises(RunError, match=r"written by another method: 1.bias \(of 1\)") as caught:
        load_trainable(model, tmp_path)
    assert "\n" not in str(caught.value)


def test_numbers_of_another_shape_are_refused_and_nothing_is_changed(model: nn.Module, tmp_path: Path) -> None:
    save_trainable(model, tmp_path)
    other = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 4, bias=False))
    before = other[0].weight.clone()
    with pytest.raises(RunError, match=r"1.weight \(of 1\)"):
        load_trainable(other, tmp_path)
    assert torch.equal(other[0].weight, before)


@pytest.mark.parametrize("content", [None, b"", b"\x10\x00\x00\x00\x00\x00\x00\x00{not safetensors"])
def test_a_damaged_file_is_one_clear_line(content: bytes | None, model: nn.Module, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(RunError, match="delete that checkpoint and resume again") as caught:
        load_trainable(model, tmp_path)
    assert "\n" not in str(caught.value)


def test_the_plan_comes_back_as_it_was(tmp_path: Path) -> None:
    state = PlanState(7, {"target": StreamState(56, 4000, 0, 3), "general": StreamState(1, 2, 3, 4)})
    save_plan(state, 12.5, tmp_path)
    assert load_plan(tmp_path) == (state, 12.5)


def test_metrics_after_the_step_and_a_line_cut_by_a_kill_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}, {"step": 2, "eval_loss": 2.5}, {"step": 3, "loss": 1.0}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 2, "lo')
    truncate_metrics(path, 2)
    assert [json.loads(line) for line in path.read_text().splitlines()] == rows[:3]
    assert path.read_text().endswith("\n")
    truncate_metrics(path, 0)
    assert path.read_text() == ""


def test_metrics_that_are_not_there_stay_away(tmp_path: Path) -> None:
    truncate_metrics(tmp_path / "metrics.jsonl", 2)
    assert names(tmp_path) == []
