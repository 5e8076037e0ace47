"""Penalties and masked tokens in a run: held to the base, once a step, through a kill, and as a config spells them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.anchored import anchored_plan, objective_of
from tests.architectures import ARCHITECTURES
from tests.training import EXAMPLES, UPPER, plan, prepared, trainer_of
from transformers import TrainingArguments

from keepshot.config import load_config
from keepshot.episodes import SelfAnchors
from keepshot.errors import ConfigError
from keepshot.runs import penalties as module
from keepshot.runs.data import load_target
from keepshot.runs.folder import RunFolder
from keepshot.runs.penalties import held_numbers, in_few_bits, prompt_rows
from keepshot.runs.preparation import prepare
from keepshot.runs.references import reference_notes, references
from keepshot.runs.training import Stage, stream_lines, train
from keepshot.strategies import Everything, Lora, Penalty, Roles, Strategy, Term, Trainable
from keepshot.tasks.example import Suite
from keepshot.train import Objective, PlannedRow, collate, training_arguments

VALUE = Roles(roles=("value",))


def arguments(folder: Path, **fields: Any) -> TrainingArguments:
    own = {"use_cpu": True, "bf16": False, "save_strategy": "no", "disable_tqdm": True, "max_steps": 4} | fields
    steps = own["max_steps"]
    return training_arguments(own, folder=folder, seed=0, learning_rate=0.01, max_steps=steps, steps_per_epoch=2)


def prompts_of(strategy: Strategy) -> dict[str, Any]:
    return prompt_rows(plan(), strategy, {"ewc": SelfAnchors("ewc", EXAMPLES, 0, pairs=(4, 6), scored="later")})


def strategy_of(*penalties: Penalty, trainable: Trainable = VALUE) -> Strategy:
    return Strategy(trainable=trainable, penalties=penalties)


L2SP, EWC = Penalty(kind="l2sp", strength=2.0), Penalty(kind="ewc", strength=5.0, rows=2, passes=1)


def tuned(folder: Path, strategy: Strategy, *, budget: int = 1000, **fields: Any) -> tuple[Any, dict[str, float]]:
    """How far from its start a model of a few steps ends, and what was logged."""
    trained = prepared(ARCHITECTURES["llama"](), strategy.trainable)
    args = arguments(folder)
    held = held_numbers(trained, strategy, prompts_of(strategy), args, RunFolder(folder))
    start = {name: p.detach().clone() for name, p in trained.model.named_parameters()}
    fields = {"optim": "sgd", "max_grad_norm": 0} | fields
    trainer = trainer_of(
        trained, plan(), folder, fields, micro_batch_tokens=budget, objective=Objective(penalties=held)
    )
    trainer.train()
    away = {name: p.detach() - start[name] for name, p in trained.model.named_parameters() if p.requires_grad}
    return away, json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])


def size(away: dict[str, torch.Tensor]) -> float:
    return sum(float(tensor.square().sum()) for tensor in away.values()) ** 0.5


def test_a_penalty_counts_once_a_step_however_the_step_is_cut(tmp_path: Path) -> None:
    strategy = strategy_of(L2SP, EWC)
    whole, logged = tuned(tmp_path / "whole", strategy, budget=10_000, learning_rate=0.05)
    cut, logged_cut = tuned(tmp_path / "cut", strategy, budget=1, learning_rate=0.05)
    for name in whole:
        torch.testing.assert_close(whole[name], cut[name], rtol=1e-3, atol=1e-7)
    for name in ("penalty/l2sp", "penalty/ewc"):
        assert logged[name] > 0
        assert logged[name] == pytest.approx(logged_cut[name], rel=1e-3)


def test_what_is_logged_is_what_the_penalty_adds_to_the_loss(tmp_path: Path) -> None:
    _, logged = tuned(tmp_path, strategy_of(L2SP))
    assert logged["loss"] == pytest.approx(logged["nll/target"] + logged["penalty/l2sp"], rel=1e-3)


@pytest.mark.parametrize("trainable", [VALUE, Everything(), Lora()], ids=lambda value: value.kind)
def test_a_strong_pull_leaves_the_model_at_the_base(trainable: Trainable, tmp_path: Path) -> None:
    free, _ = tuned(tmp_path / "free", strategy_of(trainable=trainable), max_steps=12)
    strong = strategy_of(Penalty(kind="l2sp", strength=90.0), trainable=trainable)
    held, _ = tuned(tmp_path / "held", strong, max_steps=12)
    assert size(free) > 0
    assert size(held) < 0.2 * size(free)


def test_only_the_roles_that_are_named_are_held(tmp_path: Path) -> None:
    both = Roles(roles=("query", "value"))
    strong = Penalty(kind="l2sp", strength=90.0, roles=("query",))
    free, _ = tuned(tmp_path / "free", strategy_of(trainable=both), max_steps=12)
    held, _ = tuned(tmp_path / "held", strategy_of(strong, trainable=both), max_steps=12)
    parts = {role: [name for name in free if f"{role}_proj" in name] for role in ("q", "v")}
    assert size({n: held[n] for n in parts["q"]}) < 0.2 * size({n: free[n] for n in parts["q"]})
    assert size({n: held[n] for n in parts["v"]}) > 0.9 * size({n: free[n] for n in parts["v"]})


def test_roles_in_a_fused_tensor_are_its_rows(tmp_path: Path) -> None:
    trained = prepared(ARCHITECTURES["gpt2"](), Everything())
    strategy = strategy_of(Penalty(kind="l2sp", strength=1.0, roles=("query",)), trainable=Everything())
    [held] = held_numbers(trained, strategy, {}, arguments(tmp_path), RunFolder(tmp_path))
    assert held.start
    assert all("c_attn" in name for name in held.start)
    assert all(float(held.importance[name].float().mean()) == pytest.approx(1 / 3) for name in held.start)


def test_what_is_held_needs_16_bits_a_number_where_the_start_has_no_more(tmp_path: Path) -> None:
    short = prepared(ARCHITECTURES["llama"]().to(torch.bfloat16).float(), VALUE)
    strategy = strategy_of(EWC)
    [held] = held_numbers(short, strategy, prompts_of(strategy), arguments(tmp_path), RunFolder(tmp_path))
    parameters = dict(short.model.named_parameters())
    assert {t.dtype for t in (*held.start.values(), *held.importance.values())} == {torch.bfloat16}
    assert held.pull(short.model).item() == 0
    with torch.no_grad():
        for name in held.start:
            parameters[name] += 1e-3  # less than 16 bits could tell
    value = held.pull(short.model)
    assert value.dtype == torch.float32
    total = sum(float(t.float().sum()) for t in held.importance.values())
    assert value.item() == pytest.approx(EWC.strength / 2 * 1e-6 * total, rel=1e-3)


@pytest.mark.parametrize(
    ("numbers", "dtype", "kept"),
    [
        ([1.0, -0.375], torch.float32, torch.bfloat16),
        ([1.0, 1.0009765625], torch.float32, torch.float16),
        ([1e-30, 1.0009765625], torch.float32, torch.float32),
        ([1.0, 1.0009765625], torch.float16, torch.float16),
        ([1.0, -0.375], torch.bfloat16, torch.bfloat16),
        ([float("nan")], torch.float32, torch.float32),
    ],
)
def test_a_copy_takes_the_fewest_bits_that_lose_nothing(
    numbers: list[float], dtype: torch.dtype, kept: torch.dtype
) -> None:
    tensor = torch.tensor(numbers, dtype=dtype)
    copy = in_few_bits(tensor)
    assert copy.dtype == kept
    assert copy.data_ptr() != tensor.data_ptr()
    assert torch.equal(copy.to(dtype).nan_to_num(), tensor.nan_to_num())


def test_roles_that_do_not_move_are_refused(tmp_path: Path) -> None:
    trained = prepared(ARCHITECTURES["llama"](), VALUE)
    strategy = strategy_of(Penalty(kind="l2sp", strength=1.0, roles=("mlp",)))
    with pytest.raises(ConfigError, match="penalty l2sp is to hold the roles mlp, and the method moves none of them"):
        held_numbers(trained, strategy, {}, arguments(tmp_path), RunFolder(tmp_path))


@pytest.mark.parametrize("trainable", [VALUE, Lora()], ids=lambda value: value.kind)
def test_the_information_is_computed_once_and_for_one_seed(
    trainable: Trainable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = strategy_of(EWC, trainable=trainable)
    calls: list[int] = []
    whole = module.fisher
    monkeypatch.setattr(module, "fisher", lambda *a, **k: calls.append(1) or whole(*a, **k))
    exact: dict[str, torch.Tensor] = {}
    weighed = module.normalised
    monkeypatch.setattr(module, "normalised", lambda *a: exact.update(weighed(*a)) or exact)

    def ask(**fields: Any) -> Any:
        trained = prepared(ARCHITECTURES["llama"](), trainable)
        args = arguments(tmp_path, **fields)
        [held] = held_numbers(trained, strategy, prompts_of(strategy), args, RunFolder(tmp_path))
        return held

    first, again = ask(), ask()
    assert len(calls) == 1
    assert all(torch.equal(first.importance[name], again.importance[name]) for name in first.start)
    assert [path.name for path in (tmp_path / "reference").iterdir()] == ["ewc.safetensors"]
    mean = sum(float(t.sum()) for t in exact.values()) / sum(t.numel() for t in first.start.values())
    assert mean == pytest.approx(1, rel=1e-4)
    assert all(torch.equal(tensor, exact[name].to(torch.bfloat16)) for name, tensor in first.importance.items())


def after(folder: Path, stop_at: int | None = None) -> dict[str, torch.Tensor]:
    """Four steps under both penalties through `train`, or as many as there are before a kill."""
    strategy = strategy_of(L2SP, EWC)
    trained = prepared(ARCHITECTURES["llama"](), VALUE)
    args = arguments(folder / "checkpoints", save_strategy="steps", save_steps=1, logging_steps=1)
    stage = Stage(strategy, plan(), args)
    inputs = {"validation": (), "folder": RunFolder(folder), "prompts": prompts_of(strategy)}
    if stop_at is None:
        train(trained, stage, **inputs)
    else:
        calls: list[int] = []

        def stopping(*_: Any) -> None:
            calls.append(1)
            if len(calls) == stop_at:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("keepshot.train.trainer.rotate", stopping)
            with pytest.raises(KeyboardInterrupt):
                train(trained, stage, **inputs)
    return {name: p.detach().clone() for name, p in trained.model.named_parameters()}


def test_a_resumed_run_is_held_to_the_base_and_not_to_its_checkpoint(tmp_path: Path) -> None:
    straight = after(tmp_path / "straight")
    after(tmp_path / "stopped", stop_at=2)
    resumed = after(tmp_path / "stopped")
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    rows = [json.loads(line) for line in (tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4]
    assert rows[0]["penalty/l2sp"] == 0
    assert rows[3]["penalty/l2sp"] > 0


# -- tokens without loss ----------------------------------------------------------------------------------------


def masked(least: float) -> Strategy:
    return Strategy(trainable=Everything(), terms=(Term(weight=0.5, least=least), Term(kind="masked-kl", weight=0.5)))


def test_tokens_that_the_base_held_improbable_have_no_loss_and_rows_keep_their_weight() -> None:
    base = ARCHITECTURES["llama"]()
    strategy = masked(1 / 256)
    planner = anchored_plan(strategy)
    objective = objective_of(base, strategy, planner)
    step = planner.plan(planner.start())
    batch = collate(step.rows, ("target",))
    logits = base(input_ids=batch.input_ids, use_cache=False, logits_to_keep=batch.keep).logits.detach()
    found = objective.weighted(objective.losses(logits, batch), batch, 0.0)
    values = -logits.log_softmax(-1).gather(-1, batch.targets[:, None])[:, 0]
    expected, left_out = 0.0, 0
    for part in values.split([row.num_scored for row in step.rows]):
        stays = part <= 5.5451774  # ln 256
        left_out += int((~stays).sum()) if stays.any() else 0
        expected += 0.5 / len(step.rows) * float(part[stays].mean() if stays.any() else part.mean())
    assert left_out > 0
    assert float(found) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("least", "dropped", "whole"), [(0.999, 0.0, 1.0), (1e-9, 0.0, 0.0)])
def test_the_report_says_what_was_left_out_and_which_rows_kept_all(
    least: float, dropped: float, whole: float, tmp_path: Path
) -> None:
    strategy = masked(least)
    model = ARCHITECTURES["llama"]()
    args = arguments(tmp_path)
    kept = references(model, strategy, anchored_plan(strategy), args, RunFolder(tmp_path), 400)
    found = kept.report(model, args, 400)
    assert found.keys() == {"target nll", "target masked-kl"}
    assert found["target nll"] == {"rows": len(EXAMPLES), "left_out_tokens": dropped, "rows_kept_whole": whole}
    [note] = reference_notes(found)
    assert note.startswith("Stream target: 0% of the answer tokens had no loss")
    assert reference_notes({"target": {"rows": 3, "mean_tail": 0.1}}) == []
    [few] = reference_notes({"mix nll": {"rows": 3, "left_out_tokens": 0.2, "rows_kept_whole": 0.5}})
    [many] = reference_notes({"mix nll": {"rows": 3, "left_out_tokens": 0.8, "rows_kept_whole": 0.0}})
    assert "hardly be learned" not in few
    assert many.startswith("Stream mix: 80% of the answer tokens")
    assert many.endswith("may hardly be learned: lower `least` of the term.")


# -- as a config spells it --------------------------------------------------------------------------------------


def test_a_config_prepares_the_prompts_and_says_what_it_does(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    rows = [{"input": f"{word} {i}", "output": word[::-1]} for i in range(12) for word in ("amber", "birch", "cedar")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def prepared_with(*additions: Any) -> Any:
        config = load_config(
            {
                "model": "mini",
                "data": {"train": str(path)},
                "method": ["value", *additions],
                "output": str(tmp_path / "run"),
                "train": {"max_steps": 20, "use_cpu": True, "bf16": False},
            }
        )
        return prepare(config, load_target(config.data, config.seed), Suite("upper", (UPPER,)), RunFolder(tmp_path))

    found = prepared_with({"ewc": {"rows": 5}}, {"l2sp": {"roles": ["value"]}}, "token-masking")
    assert stream_lines(found.planner, found.strategy) == [
        "stream target: 100% of the tokens, 100% of the loss (nll of tokens that the base holds at 0.4 or more)",
        f"penalty ewc: strength {found.strategy.penalties[0].strength:g} on all that moves",
        f"penalty l2sp: strength {found.strategy.penalties[1].strength:g} on value",
    ]
    assert found.prompts.keys() == {"ewc"}
    assert len(found.prompts["ewc"]) == 5
    assert all(isinstance(row, PlannedRow) and row.num_scored > 1 for row in found.prompts["ewc"])
    assert len({row.row.ids for row in found.prompts["ewc"]}) == 5
    others = prepared_with({"ewc": {"rows": 5, "sampler": "k-shot", "source": "anchors", "shots": [1, 4]}})
    assert others.prompts["ewc"][0].row.ids != found.prompts["ewc"][0].row.ids
    assert others.digests["penalties"] != found.digests["penalties"]
