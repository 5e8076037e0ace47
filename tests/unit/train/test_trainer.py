import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.anchored import TWO_KINDS, anchored_plan, objective_of, plain_term
from tests.architectures import ARCHITECTURES
from tests.training import EXAMPLES, byte_tokenizer, few_shot, plan, prepared, target, trainer_of
from torch import Tensor, nn
from transformers import TrainerCallback
from transformers.trainer_utils import set_seed
from transformers.utils import logging

from keepshot.errors import ConfigError, RunError
from keepshot.prompts import PLAIN, encode
from keepshot.strategies import Everything, Lora, Roles
from keepshot.tasks.example import Example
from keepshot.train import KeepTrainer, PlannedRow, checkpoints, collate

VALUE = Roles(roles=("value",))


def numbers(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def log_rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def validation_rows(*examples: Example) -> list[PlannedRow]:
    rows = encode([PLAIN.render([example]) for example in examples], byte_tokenizer())
    return [PlannedRow("target", f"validation {i}", row, row.answers, 1.0) for i, row in enumerate(rows)]


def value_trainer(folder: Path, fields: dict[str, Any] | None = None, **more: Any) -> KeepTrainer:
    return trainer_of(prepared(ARCHITECTURES["llama"](), VALUE), plan(target(0.6), few_shot()), folder, fields, **more)


@pytest.mark.parametrize("name", ["llama", "gpt2", "phi3", "gpt_neox"])
def test_only_the_trainable_numbers_move_even_under_weight_decay(name: str, tmp_path: Path) -> None:
    trained = prepared(ARCHITECTURES[name](), VALUE)
    before = numbers(trained.model)
    trainer_of(trained, plan(), tmp_path, {"weight_decay": 0.1}).train()
    for parameter, after in numbers(trained.model).items():
        part = trained.parts.get(parameter, torch.zeros(()).bool())
        may_move = torch.ones_like(after).bool() if part is None else part.expand(after.shape)
        assert torch.equal(before[parameter][~may_move], after[~may_move]), parameter
        if may_move.any():
            assert (before[parameter] != after)[may_move].float().mean() > 0.9, parameter


def test_weight_decay_reaches_whole_tensors_only(tmp_path: Path) -> None:
    trained = prepared(ARCHITECTURES["gpt2"](), Roles(roles=("value", "output")))
    trainer = trainer_of(trained, plan(), tmp_path)
    decayed = trainer.get_decay_parameter_names(trained.model)
    assert "transformer.h.0.attn.c_proj.weight" in decayed
    assert "transformer.h.0.attn.c_attn.weight" not in decayed


def test_every_log_row_tells_the_loss_and_what_each_stream_has_of_it(tmp_path: Path) -> None:
    trainer = value_trainer(tmp_path, {"learning_rate": 1e-9})
    trainer.train()
    rows = log_rows(tmp_path)
    assert [row["step"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert 0.6 * row["nll/target"] + 0.4 * row["nll/few-shot"] == pytest.approx(row["loss"], rel=1e-5)
        assert 1 < row["nll/target"] < 50
    assert rows[-1]["tokens"] == sum(stream.tokens for stream in trainer.plan_state.streams.values())


def test_a_log_over_several_steps_holds_their_mean(tmp_path: Path) -> None:
    value_trainer(tmp_path / "each").train()
    value_trainer(tmp_path / "all", {"logging_steps": 3}).train()
    each, (first, last) = log_rows(tmp_path / "each"), log_rows(tmp_path / "all")
    for name in ("loss", "nll/target", "nll/few-shot"):
        assert first[name] == each[0][name]
        assert last[name] == pytest.approx((each[1][name] + each[2][name]) / 2, rel=1e-5)


def test_every_log_row_tells_each_term_and_the_nll_beside_it(tmp_path: Path) -> None:
    """By the definition, on the model as it was in that step: the learning rate is 0."""
    planner, base = anchored_plan(TWO_KINDS), ARCHITECTURES["llama"]()
    trained = prepared(ARCHITECTURES["llama"](), Everything())
    with torch.no_grad():
        trained.model.get_input_embeddings().weight.mul_(1.01)
    objective = objective_of(base, TWO_KINDS, planner)
    trainer_of(trained, planner, tmp_path, {"learning_rate": 0.0}, objective=objective).train()
    rows = log_rows(tmp_path)
    steps = planner.steps(planner.start())
    for done, row in enumerate(rows):
        planned = next(steps).rows
        loss = 0.0
        for term in TWO_KINDS.terms:
            mine = [r for r in planned if r.stream == term.stream]
            with torch.no_grad():
                mean = sum(float(plain_term(term, trained.model, base, r)) for r in mine) / len(mine)
            assert row[f"{term.kind}/{term.stream}"] == pytest.approx(mean, rel=1e-3, abs=1e-6)
            loss += term.at(done / 3) * mean
        assert row["loss"] == pytest.approx(loss, rel=1e-4)
        named = {name for name in row if "/" in name}
        assert named == {f"nll/{s.name}" for s in planner.streams} | {"kl/anchors", "reverse-kl/target"}
    assert len(rows) == 3


def test_a_term_that_falls_to_0_falls_over_the_whole_training(tmp_path: Path) -> None:
    """With a model that stands still the loss at each step shows the weight: 1, 3/4, 1/2, 1/4 of the first."""
    falling = TWO_KINDS.model_copy(
        update={"terms": tuple(term.model_copy(update={"anneal": "linear"}) for term in TWO_KINDS.terms)}
    )
    planner = anchored_plan(falling)
    objective = objective_of(ARCHITECTURES["llama"](), falling, planner)
    trained = prepared(ARCHITECTURES["llama"](), Everything())
    trainer = trainer_of(trained, planner, tmp_path, {"max_steps": 4, "learning_rate": 0.0}, objective=objective)
    trainer.train()
    for done, row in enumerate(log_rows(tmp_path)):
        whole = sum(term.weight * row[f"{term.kind}/{term.stream}"] for term in falling.terms)
        assert row["loss"] == pytest.approx((1 - done / 4) * whole, rel=1e-4)


@pytest.mark.parametrize("trainable", [Everything(), VALUE, Lora()])
def test_a_kl_is_0_in_the_first_step_and_holds_the_model_back_after_it(
    trainable: Everything | Roles | Lora, tmp_path: Path
) -> None:
    ends = []
    for weight in (0.5, 1e-9):
        terms = tuple(
            term.model_copy(update={"weight": weight if term.kind == "kl" else 1 - weight})
            for term in TWO_KINDS.terms
            if (term.kind, term.stream) in {("nll", "target"), ("kl", "anchors")}
        )
        strategy = TWO_KINDS.model_copy(update={"streams": TWO_KINDS.streams[:2], "terms": terms})
        planner = anchored_plan(strategy)
        objective = objective_of(ARCHITECTURES["llama"](), strategy, planner)
        trained = prepared(ARCHITECTURES["llama"](), trainable)
        fields = {"max_steps": 10, "learning_rate": 3e-3}
        trainer_of(trained, planner, tmp_path / str(weight), fields, objective=objective).train()
        kls = [row["kl/anchors"] for row in log_rows(tmp_path / str(weight))]
        assert abs(kls[0]) < 1e-6  # the B of an adapter is 0 at first: its dropout changes nothing
        ends.append(sum(kls[-3:]))
    assert ends[0] < 0.7 * ends[1]


def test_a_row_whose_kl_is_not_finite_is_named(tmp_path: Path) -> None:
    planner = anchored_plan(TWO_KINDS)
    trained = prepared(ARCHITECTURES["llama"](), VALUE)
    objective = objective_of(trained.model, TWO_KINDS, planner)
    bank = objective.banks["anchors", "kl"]
    name = next(row.name for row in planner.plan(planner.start()).rows if row.stream == "anchors")
    bank.reference.log_probs[slice(*bank.places[name])] = math.nan
    with pytest.raises(RunError, match="the loss is not finite at step 1, in anchors episode") as caught:
        trainer_of(trained, planner, tmp_path, objective=objective).train()
    assert name in str(caught.value)
    assert "target example" not in str(caught.value)


@pytest.mark.parametrize("trainable", [VALUE, Lora(dropout=0.0)])
def test_training_lowers_the_loss(trainable: Roles | Lora, tmp_path: Path) -> None:
    trainer_of(prepared(ARCHITECTURES["llama"](), trainable), plan(), tmp_path, {"max_steps": 12}).train()
    losses = [row["loss"] for row in log_rows(tmp_path)]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


def test_a_loss_that_is_not_finite_names_the_step_and_the_row(tmp_path: Path) -> None:
    examples = (*EXAMPLES[:7], Example("~", "no"))  # the only one with this byte
    planner = plan(target(examples=examples), rows=4)
    steps = [planner.plan(planner.start())]
    steps.append(planner.plan(steps[0].after))
    step, name = next((i, row.name) for i, s in enumerate(steps, 1) for row in s.rows if ord("~") in row.row.ids)
    trained = prepared(ARCHITECTURES["gpt_neox"](), VALUE)  # its head is not its embedding
    trained.model.get_input_embeddings().weight.data[ord("~")] = math.nan
    with pytest.raises(RunError, match=rf"not finite at step {step}, in {name}; lower train.learning_rate") as caught:
        trainer_of(trained, planner, tmp_path).train()
    assert "\n" not in str(caught.value)
    values = trained.model.get_parameter("gpt_neox.layers.0.attention.query_key_value.weight")
    assert values.isfinite().all()


@pytest.mark.parametrize("max_grad_norm", [1.0, 0.0, math.inf])
def test_a_gradient_that_is_not_finite_stops_the_run(max_grad_norm: float, tmp_path: Path) -> None:
    trained = prepared(ARCHITECTURES["llama"](), VALUE)
    weight = trained.model.get_parameter("model.layers.0.self_attn.v_proj.weight")
    weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(RunError, match="gradient is not finite at step 1"):
        trainer_of(trained, plan(), tmp_path, {"max_grad_norm": max_grad_norm}).train()


def test_a_number_that_is_not_finite_is_never_saved(tmp_path: Path) -> None:
    fields = {"optim": "sgd", "learning_rate": 1e38, "max_grad_norm": 0.0, "max_steps": 1, "save_strategy": "steps"}
    trainer = value_trainer(tmp_path, fields)
    trained = trainer.model.get_parameter("model.layers.0.self_attn.v_proj.weight")
    trained.register_hook(lambda gradient: torch.full_like(gradient, 1e10))  # finite, and so is its norm
    frozen = trainer.model.get_parameter("model.layers.0.self_attn.q_proj.weight")
    with pytest.raises(RunError, match=r"v_proj.weight is not finite after step 1; lower") as caught:
        trainer.train()
    assert "\n" not in str(caught.value)
    assert checkpoints(tmp_path / "checkpoints") == []
    trained.data.zero_()
    frozen.data.fill_(math.nan)  # not this run's doing
    assert trainer.check_finite() is None


def test_epochs_are_passes_over_the_target_in_log_and_strategy(tmp_path: Path) -> None:
    fields = {"eval_strategy": "epoch", "save_strategy": "epoch", "logging_strategy": "epoch", "max_steps": 4}
    fields |= {"save_total_limit": None, "logging_first_step": False}
    trainer = value_trainer(tmp_path, fields, validation=validation_rows(*EXAMPLES[:2]))  # 2 steps are an epoch
    trainer.train()
    rows = log_rows(tmp_path)
    assert [row["step"] for row in rows if "loss" in row] == [2, 4]
    assert [row["step"] for row in rows if "eval_loss" in row] == [2, 4]
    assert [folder.name for folder in checkpoints(tmp_path / "checkpoints")] == ["checkpoint-2", "checkpoint-4"]
    assert [row["epoch"] for row in rows] == pytest.approx([8 * row["step"] / len(EXAMPLES) for row in rows])
    assert trainer.state.log_history[-1]["epoch"] == pytest.approx(32 / len(EXAMPLES))


def test_what_the_trainer_refuses_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^train: .*eval_strategy") as caught:
        value_trainer(tmp_path, {"eval_strategy": "steps"})
    assert "\n" not in str(caught.value)


def test_eval_loss_is_the_mean_over_rows_of_the_answers_mean(tmp_path: Path) -> None:
    rows = validation_rows(*EXAMPLES[:5])
    fields = {"eval_strategy": "steps", "eval_steps": 2, "max_steps": 2, "learning_rate": 1e-12}
    trainer = value_trainer(tmp_path, fields, validation=rows, micro_batch_tokens=70)
    trainer.train()
    expected = []
    with torch.no_grad():
        for row in rows:
            batch = collate([row], ["target"])
            log_probs = trainer.model(batch.input_ids).logits[0].log_softmax(-1)
            ((start, end),) = row.scored
            expected.append(sum(-float(log_probs[p - 1, row.row.ids[p]]) for p in range(start, end)) / (end - start))
    (found,) = [row["eval_loss"] for row in log_rows(tmp_path) if "eval_loss" in row]
    assert found == pytest.approx(sum(expected) / len(expected), rel=1e-5)


def test_evaluation_changes_nothing_in_training(tmp_path: Path) -> None:
    ends = []
    for name, fields in (("with", {"eval_strategy": "steps", "eval_steps": 1}), ("without", {})):
        trained = prepared(ARCHITECTURES["llama"](), Lora(r=2, dropout=0.5))
        set_seed(0)
        trainer_of(trained, plan(), tmp_path / name, fields, validation=validation_rows(*EXAMPLES[:3])).train()
        ends.append(numbers(trained.model))
    assert same(*ends)


def test_dropout_is_on_in_every_step(tmp_path: Path) -> None:
    ends = []
    for name, dropout in (("none", 0.0), ("half", 0.5)):
        trained = prepared(ARCHITECTURES["llama"](), Lora(r=2, dropout=dropout))
        trainer_of(trained, plan(), tmp_path / name).train()
        ends.append(numbers(trained.model))
    assert not same(*ends)


def best_kept_trainer(folder: Path) -> KeepTrainer:
    """Of six steps; what is validated contradicts what is trained on, so that one of the first is the best."""
    fields = {
        "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1, "max_steps": 6,
        "load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "save_total_limit": 2,
        "learning_rate": 0.1,
    }  # fmt: skip
    rows = validation_rows(*(Example(example.input, "z" * 12) for example in EXAMPLES[:4]))
    return value_trainer(folder, fields, validation=rows)


def test_the_best_model_is_the_one_that_stays(tmp_path: Path) -> None:
    trainer = best_kept_trainer(tmp_path)
    trainer.train()
    losses = {row["step"]: row["eval_loss"] for row in log_rows(tmp_path) if "eval_loss" in row}
    best = min(losses, key=losses.__getitem__)
    assert best < 5
    assert trainer.evaluate()["eval_loss"] == pytest.approx(losses[best], rel=1e-5)
    assert [folder.name for folder in checkpoints(tmp_path / "checkpoints")] == [f"checkpoint-{best}", "checkpoint-6"]


def test_the_best_model_is_found_in_a_folder_that_was_moved(tmp_path: Path) -> None:
    straight = best_kept_trainer(tmp_path / "straight")
    straight.train()

    class Ends(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            control.should_training_stop = state.global_step == 5

    ended = best_kept_trainer(tmp_path / "before")
    ended.add_callback(Ends())
    ended.train()
    (tmp_path / "before").rename(tmp_path / "after")
    resumed = best_kept_trainer(tmp_path / "after")
    resumed.train(resume_from_checkpoint=str(tmp_path / "after" / "checkpoints" / "checkpoint-5"))
    assert [folder.name for folder in checkpoints(tmp_path / "after" / "checkpoints")] == [
        folder.name for folder in checkpoints(tmp_path / "straight" / "checkpoints")
    ]
    assert same(numbers(resumed.model), numbers(straight.model))


@pytest.mark.parametrize(("limit", "kept"), [(1, [3]), (2, [2, 3]), (None, [1, 2, 3])])
def test_old_checkpoints_go(limit: int | None, kept: list[int], tmp_path: Path) -> None:
    value_trainer(tmp_path, {"save_strategy": "steps", "save_steps": 1, "save_total_limit": limit}).train()
    found = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert found == [f"checkpoint-{step}" for step in kept]


def test_accumulation_is_another_way_to_write_the_batch_size(tmp_path: Path) -> None:
    ends = []
    for name, batch_size, accumulation in (("once", 8, 1), ("often", 2, 4)):
        trained = prepared(ARCHITECTURES["llama"](), Everything())
        fields = {
            "per_device_train_batch_size": batch_size,
            "gradient_accumulation_steps": accumulation,
            "max_steps": 2,
        }
        trainer_of(
            trained, plan(), tmp_path / name, fields | {"optim": "sgd"}, micro_batch_tokens=32 * batch_size
        ).train()
        ends.append(numbers(trained.model))
    for name, weight in ends[0].items():
        torch.testing.assert_close(weight, ends[1][name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("trainable", [VALUE, Lora(r=2, dropout=0.5)])
def test_resuming_ends_where_running_straight_on_does(trainable: Roles | Lora, tmp_path: Path) -> None:
    """From every checkpoint, the last included: there is nothing left to train then."""
    fields = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1, "save_total_limit": None, "weight_decay": 0.1}
    streams = (target(0.9), few_shot(0.1, 0.1))
    set_seed(0)
    straight = prepared(ARCHITECTURES["gpt2"](), trainable)  # with dropout of its own
    first = trainer_of(straight, plan(*streams), tmp_path, fields)
    first.train()
    logged = log_rows(tmp_path)
    for folder in checkpoints(tmp_path / "checkpoints"):
        set_seed(1)
        resumed = prepared(ARCHITECTURES["gpt2"](), trainable)
        trainer = trainer_of(resumed, plan(*streams), tmp_path, fields)
        trainer.train(resume_from_checkpoint=str(folder))
        assert same(numbers(straight.model), numbers(resumed.model)), folder.name
        assert trainer.plan_state == first.plan_state
        assert trainer.state.global_step == 4
        assert trainer.seconds_before > 0
        again = log_rows(tmp_path)
        for name in ("step", "loss", "nll/target", "tokens", "epoch"):
            assert [row[name] for row in again] == [row[name] for row in logged]


def test_transformers_has_nothing_to_warn_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logging.warning_once.cache_clear()
    value_trainer(tmp_path, {"eval_strategy": "steps"}, validation=validation_rows(*EXAMPLES[:3])).train()
    assert not caplog.records
