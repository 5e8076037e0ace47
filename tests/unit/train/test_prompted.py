"""Training behind a soft prompt, and of one: against the plain definition, row by row."""

import json
from pathlib import Path

import pytest
import torch
from tests.architectures import ARCHITECTURES
from tests.training import EXAMPLES, byte_tokenizer, few_shot, plan, prepared, target, trainer_of
from torch import Tensor, nn

from keepshot.prompts import PLAIN, encode
from keepshot.strategies import Everything, Lora, Roles, fingerprint, verify_frozen
from keepshot.strategies.soft_prompt import initial_prompt, prompt_set, without_prompt
from keepshot.strategies.trainable import Trainable, TrainableSet
from keepshot.train import Earlier, PlannedRow, Step, checkpoints, collate

FAMILIES = ("llama", "gpt2", "gemma3", "opt")
TOKENS = 4


def prompted(trained: TrainableSet, prompt: Tensor) -> TrainableSet:
    return TrainableSet(trained.model, trained.parts, trained.num_parameters, trained.num_total, prompt)


def behind(name: str, trainable: Trainable) -> TrainableSet:
    """A trainable set behind a frozen prompt."""
    model = ARCHITECTURES[name]()
    return prompted(prepared(model, trainable), initial_prompt(model, range(50, 90), TOKENS, 0))


def row_loss(model: nn.Module, prompt: Tensor | None, row: PlannedRow) -> Tensor:
    """Coefficient x NLL of a row by itself, behind the prompt where there is one."""
    ids = torch.tensor([list(row.row.ids)])
    embeds = model.get_input_embeddings()(ids)
    if prompt is not None:
        embeds = torch.cat([prompt[None], embeds], dim=1)
    log_probs = model(inputs_embeds=embeds).logits[0, 0 if prompt is None else len(prompt) :].log_softmax(-1)
    places = [p for start, end in row.scored for p in range(start, end)]
    return -row.coefficient * torch.stack([log_probs[p - 1, row.row.ids[p]] for p in places]).sum()


def step_loss(model: nn.Module, prompt: Tensor, step: Step) -> Tensor:
    return sum((row_loss(model, prompt if row.stream == "target" else None, row) for row in step.rows), torch.zeros(()))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_target_has_the_prompt_and_the_other_streams_have_none(name: str, tmp_path: Path) -> None:
    """In one micro-batch, and in several of which some hold no row of the target."""
    trained = behind(name, Everything())
    streams = plan(target(0.6), few_shot(0.6, 0.4))
    trained.model.eval()
    step = streams.plan(streams.start())
    assert {row.stream for row in step.rows} == {"target", "few-shot"}
    expected = step_loss(trained.model, trained.prompt, step)
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in trained.model.named_parameters() if p.grad is not None}
    for groups in ([step.rows], [[row] for row in step.rows]):
        trained.model.zero_grad()
        trainer = trainer_of(trained, streams, tmp_path)
        losses = [trainer.compute_loss(trained.model, collate(rows, trainer.stream_names)) for rows in groups]
        total = torch.stack(losses).sum()
        total.backward()
        assert total.item() == pytest.approx(expected.item(), rel=1e-5)
        for name_, parameter in trained.model.named_parameters():
            torch.testing.assert_close(parameter.grad, gradients[name_], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("trainable", [Everything(), Roles(roles=("value",)), Lora(r=2)])
def test_the_frozen_prompt_stays_and_the_loss_falls(trainable: Trainable, tmp_path: Path) -> None:
    trained = behind("llama", trainable)
    before = trained.prompt.clone()
    trainer_of(trained, plan(), tmp_path, {"max_steps": 12}).train()
    rows = log_rows(tmp_path)
    assert rows[-1]["nll/target"] < rows[0]["nll/target"] - 0.3
    assert torch.equal(trained.prompt, before)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_prompt_is_trained_and_every_weight_stays(name: str, tmp_path: Path) -> None:
    model = ARCHITECTURES[name]()
    before = fingerprint(model, {})
    first = initial_prompt(model, range(50, 90), TOKENS, 0)
    trained = prompt_set(model, first)
    trainer_of(trained, plan(), tmp_path, {"max_steps": 12, "learning_rate": 0.3}).train()
    rows = log_rows(tmp_path)
    assert rows[-1]["nll/target"] < rows[0]["nll/target"] - 0.1
    prompt = without_prompt(trained)
    assert not bool((prompt == first).all(dim=1).any()), "every vector has moved"
    verify_frozen(before, fingerprint(model, {}))


def test_the_loss_of_the_validation_part_is_taken_behind_the_prompt(tmp_path: Path) -> None:
    trained = behind("llama", Everything())
    encoded = encode([PLAIN.render([example]) for example in EXAMPLES[:3]], byte_tokenizer())
    rows = [PlannedRow("target", "a row", row, row.answers[-1:], 1.0) for row in encoded]
    found = trainer_of(trained, plan(), tmp_path, validation=rows).evaluate()
    trained.model.eval()
    expected = [row_loss(trained.model, trained.prompt, row).item() / row.num_scored for row in rows]
    assert found["eval_loss"] == pytest.approx(sum(expected) / 3, rel=1e-5)


def test_the_log_counts_on_from_the_stage_before(tmp_path: Path) -> None:
    fields = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": None}
    (tmp_path / "metrics.jsonl").write_text('{"step": 5, "loss": 1.0}\n')
    first = trainer_of(behind("llama", Roles()), plan(), tmp_path, fields, earlier=Earlier(5, 900))
    first.train()
    rows = log_rows(tmp_path)
    assert [row["step"] for row in rows] == [5, 6, 7, 8]
    lengths = [sum(len(row.row.ids) for row in step.rows) for step in steps(3)]
    assert [row["tokens"] - 900 for row in rows[1:]] == [
        sum(lengths[: n + 1]) + 8 * TOKENS * (n + 1) for n in range(3)
    ], "each of the 8 rows has the prompt"
    again = trainer_of(behind("llama", Roles()), plan(), tmp_path, fields, earlier=Earlier(5, 900))
    again.train(resume_from_checkpoint=str(checkpoints(tmp_path / "checkpoints")[1]))
    assert [row["step"] for row in log_rows(tmp_path)] == [5, 6, 7, 8]
    for name, parameter in first.model.named_parameters():
        assert torch.equal(parameter, again.model.get_parameter(name)), name


def steps(count: int) -> list[Step]:
    every = plan().steps(plan().start())
    return [next(every) for _ in range(count)]


def log_rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
