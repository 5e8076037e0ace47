"""A rescue end to end on the bundled model with noise on its values: nothing of the report takes part in the choice."""

import json
import sqlite3
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tests.architectures import save_tiny
from transformers import AutoModelForCausalLM

import keepshot
from keepshot.config import DataConfig, load_config, save_config
from keepshot.errors import ConfigError, KeepshotError, ModelError, RunError
from keepshot.evaluation import Evaluation, EvaluationPlan
from keepshot.files import write_json
from keepshot.models.interpolate import Interpolation
from keepshot.models.load import load_model, load_tokenizer, peft_warnings
from keepshot.models.source import model_source
from keepshot.runs import rescue_search
from keepshot.runs.data import load_target
from keepshot.runs.digests import training_digest
from keepshot.runs.evaluation import evaluate
from keepshot.runs.rescue import Rescued, RescueSettings, rescue
from keepshot.runs.rescue_setup import set_up
from keepshot.runs.subjects import default_cache
from keepshot.tasks.builtin import builtin_suite
from keepshot.tasks.suite_files import read_suite

module = import_module("keepshot.runs.rescue")  # its function of the same name may hide it

MINI = {task.name: task for task in builtin_suite().tasks}
SETTINGS = RescueSettings(
    max_loss=0.9, steps=2, by_group=False, shots=(0, 4), sets=2, queries=4, search_sets=2, search_queries=4
)


def write_task(path: Path, name: str, rows: int = 60) -> None:
    examples = MINI[name].examples[:rows]
    path.write_text("".join(json.dumps({"input": e.input, "output": e.output}) + "\n" for e in examples))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A broken model and adapter, data of a target, a suite of four tasks, and two tasks of another."""
    root = tmp_path_factory.mktemp("rescue")
    broken = load_model("mini")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for name, parameter in broken.named_parameters():
            if "v_proj" in name or "up_proj" in name:
                parameter.add_(0.06 * torch.randn_like(parameter))
    save_tiny(broken, root / "tuned")
    with torch.random.fork_rng(devices=[]), peft_warnings():
        torch.manual_seed(1)
        adapted = get_peft_model(load_model("mini"), LoraConfig(target_modules=["q_proj", "v_proj"], r=2))
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(root / "adapter", save_embedding_layers=False)
    (root / "suite").mkdir()
    for name in ("reverse-shift", "drop-middle", "last-digit", "subtract-17"):
        write_task(root / "suite" / f"{name}.jsonl", name)
    (root / "others").mkdir()
    for name in ("sort-upper-append", "reverse-drop-append"):
        write_task(root / "others" / f"{name}.jsonl", name)
    rows = [{"input": str(number), "output": str(number)[::-1]} for number in range(10, 100)]  # the base can do a half
    (root / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def settings(folder: Path, **changes: Any) -> RescueSettings:
    return replace(SETTINGS, **({"suite": str(folder / "suite")} | changes))


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return []


@pytest.fixture(scope="module")
def done(folder: Path, lines: list[str]) -> Rescued:
    data = str(folder / "data.jsonl")
    return rescue(
        "mini", str(folder / "tuned"), output=folder / "out", data=data, settings=settings(folder), say=lines.append
    )


def test_it_leaves_a_model_a_record_a_card_and_a_figure(done: Rescued) -> None:
    assert {path.name for path in done.path.iterdir()} == {
        "model", "rescue.json", "README.md", "figures",
        *(f"eval_{name}.json" for name in ("base", "tuned", "rescued")),
        *(f"items_{name}.parquet" for name in ("base", "tuned", "rescued")),
    }  # fmt: skip
    assert json.loads((done.path / "rescue.json").read_text()) == done.result
    assert done.result["schema"] == "keepshot.rescue/1"
    assert (done.path / "figures" / "curve.png").stat().st_size > 5_000
    assert not list(done.path.parent.glob(".out*"))


def test_the_model_is_the_chosen_point_and_loads_without_keepshot(done: Rescued, folder: Path) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(done.model)
    assert loaded.dtype == torch.float32  # the tuned model's, which is wider than the base's
    assert load_tokenizer(str(done.model)).get_vocab() == load_tokenizer("mini").get_vocab()
    with Interpolation("mini", str(folder / "tuned")).at(done.result["chosen"]["coefficients"]) as expected:
        for name, parameter in loaded.named_parameters():
            assert torch.equal(parameter, expected.get_parameter(name))


def test_the_choice_is_the_best_of_the_curve(done: Rescued) -> None:
    points, chosen = done.result["validation"]["points"], done.result["chosen"]
    assert [set(point["coefficients"].values()) for point in points] == [{0.0}, {0.5}, {1.0}]
    assert points[0]["retention"]["value"] == 1.0  # at 0 stands the base
    assert points[2]["retention"]["value"] < 0.8
    allowed = [point for point in points if point["loss"] <= 0.9]
    assert chosen["retention"]["value"] == max(point["retention"]["value"] for point in allowed)
    assert chosen["reason"]


def test_nothing_that_is_reported_was_chosen_by(done: Rescued, folder: Path) -> None:
    by, reported = done.result["validation"]["tasks"], done.result["held_out"]["tasks"]
    assert not set(by) & set(reported)
    of_suite = {task.name for task in read_suite(folder / "suite").suite.tasks}
    assert len(of_suite & set(by)) == len(of_suite & set(reported)) == 2
    assert done.result["validation"]["target_rows"] == 8  # a tenth of what the test part left of 90 rows
    assert done.result["target"]["rescued"]["0"]["n"] == 8  # 2 sets of 4 queries of the test part


def test_the_report_is_of_the_three_models(done: Rescued, folder: Path) -> None:
    result = done.result
    for name, model in (("base", "mini"), ("tuned", str(folder / "tuned")), ("rescued", str(done.model))):
        saved = json.loads((done.path / f"eval_{name}.json").read_text())
        suite = read_suite(folder / "suite").suite
        kept = tuple(task for task in suite.tasks if task.name in result["held_out"]["tasks"])
        plan = EvaluationPlan(shots=(0, 4), sets=2, queries=4)
        found = evaluate(model, suite=replace(suite, tasks=kept), plan=plan)
        for task in kept:
            mine = saved["tasks"][task.name]["shots"]["4"]
            assert mine["accuracy"] == pytest.approx(sum(found.accuracy(task.name, 4) or ()) / 2)
    assert result["retention"]["tuned"]["shots"] == 4
    assert result["retention"]["rescued"]["value"] > result["retention"]["tuned"]["value"]


def test_it_says_every_point_and_what_it_chose(done: Rescued, lines: list[str]) -> None:
    shown = [line.strip() for line in lines]
    assert [line.partition(":")[0] for line in shown if "kept" in line and line[0].isdigit()] == ["0", "0.5", "1"]
    assert f"chosen: {done.result['chosen']['reason']}" in shown
    assert any("divided by a key" in line for line in shown)


def test_the_card_has_the_coefficients_and_the_figures(done: Rescued) -> None:
    card = (done.path / "README.md").read_text()
    assert card.startswith('---\nbase_model: "mini"\n')
    for group, coefficient in done.result["chosen"]["coefficients"].items():
        assert f"| {group} | {coefficient:.3g} |" in card
    assert str(done.path.parent) not in card


@pytest.fixture(scope="module")
def again(done: Rescued, folder: Path) -> tuple[Rescued, list[Evaluation], int]:
    """The same rescue once more, every evaluation of it, and how many answers it had to compute."""
    cache = default_cache()
    assert cache is not None
    asked: list[Evaluation] = []
    ask, counts = module.evaluate_tasks, [_answers(cache)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "evaluate_tasks", lambda *given: asked.append(ask(*given)) or asked[-1])
        data, output = str(folder / "data.jsonl"), folder / "again"
        found = rescue("mini", str(folder / "tuned"), output=output, data=data, settings=settings(folder))
    return found, asked, _answers(cache) - counts[0]


def _answers(cache: Path) -> int:
    with sqlite3.connect(cache) as connection:
        return int(connection.execute("SELECT count(*) FROM scores").fetchone()[0])


def test_a_known_model_is_not_asked_again(again: tuple[Rescued, list[Evaluation], int], done: Rescued) -> None:
    found, asked, computed = again
    assert asked
    assert computed == 0
    assert {**found.result, "created": ""} == {**done.result, "created": ""}


def test_a_loss_is_against_the_tuned_model_and_has_its_standard_error(
    again: tuple[Rescued, list[Evaluation], int],
) -> None:
    found, asked, _ = again
    target = found.result["target"]["task"]
    tuned, *others = [np.array([item.score for item in e.items]) for e in asked[:-3] if set(e.tasks) == {target}]
    points = found.result["validation"]["points"]
    assert len(others) == len(points) == 3
    assert tuned.size == 8
    assert any((scores != tuned).any() for scores in others)
    for scores, point in zip(others, points, strict=True):
        lost = tuned - scores
        assert point["loss"] == pytest.approx(lost.mean() + lost.std(ddof=1) / 8**0.5)


def test_the_report_asks_only_what_the_search_did_not(again: tuple[Rescued, list[Evaluation], int]) -> None:
    found, asked, _ = again
    search, report = asked[:-3], asked[-3:]
    assert [evaluation.model for evaluation in report] == ["base", "tuned", "rescued"]
    tasks = [{task for evaluation in part for task in evaluation.tasks} for part in (search, report)]
    assert tasks[0] & tasks[1] == {found.result["target"]["task"]}
    prompts = [{item.prompt for evaluation in part for item in evaluation.items} for part in (search, report)]
    assert not prompts[0] & prompts[1]


def test_an_adapter_is_scaled_and_peft_loads_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescue_search, "GRID", (0.0, 1.0))
    done = rescue(
        "mini",
        str(folder / "adapter"),
        output=folder / "scaled",
        data=str(folder / "data.jsonl"),
        settings=settings(folder, steps=1, by_group=True, validation_suite=str(folder / "others")),
    )
    assert done.model.name == "adapter"
    assert not (done.model / "README.md").exists()
    points = done.result["validation"]["points"]
    assert {tuple(point["coefficients"]) for point in points} == {("query+key", "value+output")}
    assert {point["stage"] for point in points} == {"common", "groups"}
    assert set(done.result["validation"]["tasks"]) == {"sort-upper-append", "reverse-drop-append"}
    assert len(done.result["held_out"]["tasks"]) == 4
    with peft_warnings():
        loaded = PeftModel.from_pretrained(load_model("mini"), done.model).eval()
    ids = torch.arange(2, 40)[None]
    with Interpolation("mini", str(folder / "adapter")).at(done.result["chosen"]["coefficients"]) as expected:
        assert torch.equal(loaded(input_ids=ids).logits, expected(input_ids=ids).logits)


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Path:
    """A run folder as `tune` leaves it, as far as a rescue looks."""
    config = {
        "model": "mini",
        "data": {"train": str(folder / "data.jsonl"), "template": "plain"},
        "suite": str(folder / "suite"),
        "evaluate": {"shots": [0, 4], "sets": 2, "queries": 4},
        "seed": 7,
    }
    save_config(load_config(config), tmp_path / "run" / "config.yaml")
    (tmp_path / "run" / "model").symlink_to(folder / "tuned")
    return tmp_path / "run"


def test_a_run_folder_knows_data_suite_plan_and_seed(run: Path, tmp_path: Path) -> None:
    done = keepshot.rescue("mini", str(run), output=tmp_path / "out", settings=replace(SETTINGS, shots=None, steps=1))
    assert done.result["seed"] == 7
    assert done.result["tuned"] == str(run)
    assert done.result["retention"]["rescued"]["shots"] == 4
    assert done.result["target"]["task"] == "data"


def test_what_a_run_was_trained_on_is_asked_by_no_other_split(run: Path, tmp_path: Path) -> None:
    config = load_config(run / "config.yaml")
    begun = training_digest(load_target(config.data, 0))  # of a comparison whose own seed is 0
    write_json(run / "inputs.json", {"training data": begun})
    with pytest.raises(RunError, match="run was trained on other rows than its data give now"):
        rescue("mini", str(run), output=tmp_path / "out", settings=SETTINGS)
    save_config(
        config.model_copy(update={"data": config.data.model_copy(update={"split_seed": 0})}), run / "config.yaml"
    )
    assert set_up("mini", str(run), None, SETTINGS).config.seed == 7
    (run / "config.yaml").unlink()
    save_config(config, run / "config.yaml")
    assert set_up("mini", str(run), str(config.data.train), SETTINGS).config.seed == 7  # the user's own responsibility


def refused(match: str, error: type[KeepshotError], *given: Any, **changes: Any) -> None:
    with pytest.raises(error, match=match):
        rescue(*given, **changes)


def test_mistakes_are_found_before_anything_is_computed(folder: Path, run: Path, tmp_path: Path) -> None:
    tuned, out, data = str(folder / "tuned"), tmp_path / "out", str(folder / "data.jsonl")
    refused("give --data", ConfigError, "mini", tuned, output=out)
    refused("already holds something", RunError, "mini", tuned, output=folder, data=data)
    refused("was tuned from mini, not from", ModelError, tuned, str(run), output=out)
    (run / "prompt").mkdir()
    refused("tuned behind a soft prompt", RunError, "mini", str(run), output=out)
    (run / "prompt").rmdir()
    (run / "model").unlink()
    refused("holds neither model nor adapter", RunError, "mini", str(run), output=out)
    only_zero = replace(SETTINGS, suite=str(folder / "suite"), shots=(0,))
    refused("ask for shots above 0", ConfigError, "mini", tuned, output=out, data=data, settings=only_zero)
    same = settings(folder, validation_suite=str(folder / "suite"))
    refused("which is reported on", ConfigError, "mini", tuned, output=out, data=data, settings=same)
    assert not out.exists()


def test_models_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    data, given = str(folder / "data.jsonl"), settings(folder)
    refused(
        "number for number", ModelError, "mini", model_source("mini"), output=tmp_path / "o", data=data, settings=given
    )
    refused(
        "is an adapter on mini", ModelError, str(folder / "tuned"), str(folder / "adapter"), output=tmp_path / "o",
        data=data, settings=given,
    )  # fmt: skip
    tokenizer = load_tokenizer("mini")
    tokenizer.add_tokens(["fused"])
    save_tiny(load_model("mini"), tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    refused(
        "the tokenizers of mini and .* differ", ModelError, "mini", str(tmp_path / "other"), output=tmp_path / "o",
        data=data, settings=given,
    )  # fmt: skip
    assert not (tmp_path / "o").exists()


def test_a_suite_that_the_base_cannot_do_chooses_nothing(folder: Path, tmp_path: Path) -> None:
    examples = MINI["reverse-shift"].examples
    (tmp_path / "hard").mkdir()
    rows = [{"input": e.input, "output": f"{i * 7919 % 1000}"} for i, e in enumerate(examples)]
    (tmp_path / "hard" / "noise.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = settings(folder, validation_suite=str(tmp_path / "hard"))
    few = DataConfig(train=str(folder / "data.jsonl"), validation=str(tmp_path / "rows.jsonl"))
    (tmp_path / "rows.jsonl").write_text('{"input": "zag", "output": "Mil"}\n')
    refused("nothing can be chosen by the validation suite", RunError, "mini", str(folder / "tuned"),
            output=tmp_path / "o", data=few, settings=given)  # fmt: skip
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("wrong", [{"max_loss": 1.0}, {"max_loss": -0.1}, {"steps": 0}, {"search_sets": 1}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        RescueSettings(**wrong)
