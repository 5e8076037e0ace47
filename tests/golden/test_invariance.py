"""One step's loss and gradient do not depend on how its rows are computed, and are those of the definition."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests import processes
from tests.anchored import (
    TWO_KINDS,
    anchored_plan,
    full_step,
    objective_of,
    perturbed,
    strategy_loss,
)
from tests.architectures import ARCHITECTURES
from tests.training import byte_tokenizer, few_shot, plan, prepared, target, trainer_of
from torch import Tensor, nn

from keepshot.strategies import Everything, Roles, token_nll
from keepshot.train import HeldNumbers, MicroBatch, Objective, PlannedRow, Planner, Step, collate, micro_batches

STREAMS = ("target", "few-shot")
Result = tuple[float, dict[str, Tensor]]


def planner() -> Planner:
    return plan(target(0.7), few_shot(0.4, 0.3), rows=8)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return prepared(ARCHITECTURES["llama"](), Everything()).model


@pytest.fixture(scope="module")
def step() -> Step:
    found = planner().plan(planner().start())
    assert len({len(row.row.ids) for row in found.rows}) > 4, "rows of one length would hide padding"
    assert {row.stream for row in found.rows} == set(STREAMS)
    return found


def result(model: nn.Module, losses: Iterator[Tensor]) -> Result:
    """The sum of some losses and its gradient."""
    model.zero_grad()
    total = 0.0
    for loss in losses:
        loss.backward()
        total += float(loss.detach())
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def batch_loss(model: nn.Module, batch: MicroBatch) -> Tensor:
    logits = model(input_ids=batch.input_ids, use_cache=False, logits_to_keep=batch.keep).logits
    return (batch.coefficients * token_nll(logits, batch.targets)).sum()


def plain_loss(model: nn.Module, row: PlannedRow, weight: float, padding: int) -> Tensor:
    """The definition: a row by itself, behind masked padding, with the logits of every position."""
    ids = torch.tensor([[0] * padding + list(row.row.ids)])
    mask = (torch.arange(ids.shape[1]) >= padding).long()[None]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits[0]
    log_probabilities = logits.log_softmax(-1)
    scored = [p + padding for start, end in row.scored for p in range(start, end)]
    return weight * torch.stack([-log_probabilities[p - 1, ids[0, p]] for p in scored]).mean()


def plain_losses(model: nn.Module, step: Step, padding: int) -> Iterator[Tensor]:
    """Every stream's weight, shared evenly by its rows, each the mean over its scored tokens."""
    for row in step.rows:
        count = sum(other.stream == row.stream for other in step.rows)
        yield plain_loss(model, row, {"target": 0.7, "few-shot": 0.3}[row.stream] / count, padding)


@pytest.fixture(scope="module")
def reference(model: nn.Module, step: Step) -> Result:
    return result(model, plain_losses(model, step, padding=0))


def assert_same(found: Result, expected: Result) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        torch.testing.assert_close(
            found[1][name], gradient, rtol=1e-4, atol=1e-6 * float(gradient.abs().max()), msg=name
        )


@pytest.mark.parametrize("budget", [1, 90, 200, 10_000])
def test_batch_shape_changes_nothing(budget: int, model: nn.Module, step: Step, reference: Result) -> None:
    batches = micro_batches(step.rows, STREAMS, budget=budget)
    assert (len(batches) == len(step.rows)) == (budget == 1)
    assert_same(result(model, (batch_loss(model, batch) for batch in batches)), reference)


@pytest.mark.parametrize("filler", [0, 1, 97])
def test_what_stands_in_the_padding_changes_nothing(
    filler: int, model: nn.Module, step: Step, reference: Result
) -> None:
    assert_same(result(model, iter([batch_loss(model, collate(step.rows, STREAMS, filler))])), reference)


def test_the_order_of_rows_changes_nothing(model: nn.Module, step: Step, reference: Result) -> None:
    assert_same(result(model, iter([batch_loss(model, collate(step.rows[::-1], STREAMS))])), reference)


@pytest.mark.parametrize("num_processes", [2, 3])
def test_processes_add_up(num_processes: int, model: nn.Module, step: Step, reference: Result) -> None:
    losses = (
        batch_loss(model, batch)
        for process in range(num_processes)
        for batch in micro_batches(step.rows, STREAMS, budget=90, process=process, num_processes=num_processes)
    )
    assert_same(result(model, losses), reference)


def test_left_padding_behind_a_mask_is_the_same(model: nn.Module, step: Step, reference: Result) -> None:
    assert_same(result(model, plain_losses(model, step, padding=5)), reference)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("budget", [1, 10_000])
def test_a_step_of_the_trainer_is_the_definition(
    side: str, budget: int, reference: Result, step: Step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(byte_tokenizer(), "padding_side", side)
    trainer = trainer_of(
        prepared(ARCHITECTURES["llama"](), Everything()), planner(), tmp_path, micro_batch_tokens=budget
    )
    trainer.model.zero_grad()
    loss = trainer.training_step(trainer.model, trainer.planner.plan(trainer.plan_state))
    found = {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}
    assert_same((float(loss), found), reference)
    assert trainer.plan_state == step.after


NAMES = tuple(stream.name for stream in TWO_KINDS.streams)
PROGRESS = (0.0, 0.5, 1.0)


@pytest.fixture(scope="module")
def anchored_step() -> Step:
    return full_step(anchored_plan(TWO_KINDS))


@pytest.fixture(scope="module")
def objective() -> Objective:
    return objective_of(ARCHITECTURES["llama"](), TWO_KINDS, anchored_plan(TWO_KINDS))


@pytest.fixture(scope="module")
def moved() -> nn.Module:
    """A model that is no longer its base, so that no KL is 0."""
    return perturbed(prepared(ARCHITECTURES["llama"](), Everything()).model)


@pytest.fixture(scope="module")
def anchored_references(moved: nn.Module, anchored_step: Step) -> dict[float, Result]:
    """By the definition against the base itself, a row by itself: no cache, no batch."""
    base = ARCHITECTURES["llama"]()
    return {p: result(moved, iter([strategy_loss(TWO_KINDS, moved, base, anchored_step, p)])) for p in PROGRESS}


def anchored_loss(model: nn.Module, objective: Objective, batch: MicroBatch, progress: float) -> Tensor:
    logits = model(input_ids=batch.input_ids, use_cache=False, logits_to_keep=batch.keep).logits
    return objective.weighted(objective.losses(logits, batch), batch, progress)


def assert_close(found: Result, expected: Result) -> None:
    """Value and whole gradient; logs of small probabilities have fewer digits than the NLL alone."""
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert found[1].keys() == expected[1].keys()
    mine, theirs = (torch.cat([some[1][name].flatten() for name in expected[1]]) for some in (found, expected))
    assert float((mine - theirs).norm() / theirs.norm()) < 1e-5


@pytest.mark.parametrize("progress", PROGRESS)
@pytest.mark.parametrize("budget", [1, 90, 10_000])
def test_nll_and_kl_are_the_definition_in_any_batch_shape(
    budget: int,
    progress: float,
    moved: nn.Module,
    objective: Objective,
    anchored_step: Step,
    anchored_references: dict[float, Result],
) -> None:
    batches = micro_batches(anchored_step.rows, NAMES, budget=budget)
    losses = (anchored_loss(moved, objective, batch, progress) for batch in batches)
    # A batch of rows that weigh nothing any more has no gradient to add.
    found = result(moved, (loss for loss in losses if loss.requires_grad))
    assert_close(found, anchored_references[progress])


def test_the_order_of_rows_changes_no_kl(
    moved: nn.Module, objective: Objective, anchored_step: Step, anchored_references: dict[float, Result]
) -> None:
    mixed = [*anchored_step.rows[1::2], *anchored_step.rows[::2]]
    for rows in (mixed, mixed[::-1]):
        loss = anchored_loss(moved, objective, collate(rows, NAMES), 0.5)
        assert_close(result(moved, iter([loss])), anchored_references[0.5])


@pytest.mark.parametrize("num_processes", [2, 3])
def test_kl_of_processes_adds_up(
    num_processes: int,
    moved: nn.Module,
    objective: Objective,
    anchored_step: Step,
    anchored_references: dict[float, Result],
) -> None:
    batches = [
        batch
        for process in range(num_processes)
        for batch in micro_batches(anchored_step.rows, NAMES, budget=90, process=process, num_processes=num_processes)
    ]
    losses = (anchored_loss(moved, objective, batch, 0.5) for batch in batches)
    assert_close(result(moved, losses), anchored_references[0.5])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("budget", [1, 10_000])
def test_a_step_of_the_trainer_with_kl_is_the_definition(
    side: str,
    budget: int,
    objective: Objective,
    anchored_step: Step,
    anchored_references: dict[float, Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At every progress: the weights that fall are those of the step that is being computed."""
    monkeypatch.setattr(byte_tokenizer(), "padding_side", side)
    trained = prepared(ARCHITECTURES["llama"](), Everything())
    perturbed(trained.model)
    trainer = trainer_of(
        trained, anchored_plan(TWO_KINDS), tmp_path, {"max_steps": 2}, micro_batch_tokens=budget, objective=objective
    )
    for done, progress in ((0, 0.0), (1, 0.5)):
        trainer.model.zero_grad()
        trainer.state.global_step = done
        loss = trainer.training_step(trainer.model, anchored_step)
        found = {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}
        assert_close((float(loss), found), anchored_references[progress])
    assert trainer.plan_state == anchored_step.after


def train_as(rank: int, size: int, folder: Path) -> None:
    """In a process of its own: two steps as process `rank` of `size`."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "0"}  # asked for, and not used: the store is a file
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
    trained = prepared(ARCHITECTURES["phi3"](), Roles(roles=("value",)))
    fields = {
        "optim": "sgd", "max_steps": 2, "weight_decay": 0.1, "max_grad_norm": 0.5, "save_strategy": "steps",
        "save_steps": 2,
    }  # fmt: skip
    steps = anchored_plan(TWO_KINDS)
    # Away from the model, so that the penalty pulls from the first step on, more than the clipped gradient hides.
    start = {name: p.detach() - 0.01 for name, p in trained.model.named_parameters() if name in trained.parts}
    held = HeldNumbers("l2sp", 5.0, start, {name: part.float() for name, part in trained.parts.items()})
    objective = replace(objective_of(trained.model, TWO_KINDS, steps), penalties=(held,))
    trainer = trainer_of(trained, steps, folder, fields, micro_batch_tokens=90, objective=objective)
    assert trainer.accelerator.num_processes == size
    trainer.train()
    save_file({name: p.detach() for name, p in trained.model.named_parameters()}, folder / f"weights-{rank}")
    torch.distributed.barrier()
    os._exit(0)  # taking gloo down under a live DDP model can deadlock: its thread wants the lock that the join holds


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    running = []
    for size in (1, 2):
        (tmp_path / str(size)).mkdir()
        running += [processes.start(train_as, rank, size, tmp_path / str(size)) for rank in range(size)]
    assert [processes.exit_code(process) for process in running] == [0, 0, 0]
    one, first, second = (load_file(tmp_path / name) for name in ("1/weights-0", "2/weights-0", "2/weights-1"))
    base = dict(ARCHITECTURES["phi3"]().named_parameters())
    moved = [name for name in one if not torch.equal(one[name], base[name])]
    assert moved == [name for name in one if "qkv_proj" in name]
    for name, expected in one.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], expected, rtol=1e-5, atol=1e-6)
        assert torch.equal(first[name] == base[name], expected == base[name])
    rows = [
        [json.loads(line) for line in (tmp_path / size / "metrics.jsonl").read_text().splitlines()] for size in "12"
    ]
    assert len(rows[0]) == len(rows[1]) == 2
    for alone, together in zip(*rows, strict=True):
        for name in {*alone} - {"epoch", "step", "learning_rate"}:
            assert together[name] == pytest.approx(alone[name], rel=1e-5, abs=1e-7), name
    measured = {"loss", "nll/target", "nll/few-shot", "kl/anchors", "reverse-kl/target", "penalty/l2sp", "grad_norm"}
    assert measured | {"tokens"} <= rows[0][1].keys()
    assert rows[0][1]["kl/anchors"] > 1e-5, "the second step is away from the base"
    checkpoint = tmp_path / "2" / "checkpoints" / "checkpoint-2"
    saved = load_file(checkpoint / "trainable.safetensors")
    assert all(torch.equal(saved[name], first[name]) for name in moved)
    assert {"complete", "rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in checkpoint.iterdir()}
