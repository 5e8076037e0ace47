"""A run that is killed, wherever, and resumed ends with the bits of one that was not."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests import processes

from keepshot.config import load_config
from keepshot.errors import RunError
from keepshot.evaluation import Item, evaluate_tasks, read_items
from keepshot.models.load import load_model, load_tokenizer
from keepshot.runs.data import evaluation_suite, load_target
from keepshot.runs.subjects import as_subject
from keepshot.runs.tuning import tune
from keepshot.strategies.soft_prompt import load_prompt
from keepshot.tasks.example import Suite
from keepshot.train import checkpoints

WHILE_KEEPING_THE_REFERENCE = ("keepshot.runs.references", "save_bank", 1)
WHILE_WRITING = ("keepshot.train.trainer", "save_plan", 2)
JUST_AFTER_A_CHECKPOINT = ("keepshot.train.trainer", "rotate", 1)
IN_A_STEP = ("keepshot.train.trainer", "micro_batches", 4)
WHILE_SAVING_THE_PROMPT = ("keepshot.runs.prompting", "save_prompt", 1)
AFTER_TRAINING = ("keepshot.runs.tuning", "save_trained", 1)
WHILE_SAVING_THE_MODEL = ("keepshot.runs.tuning", "verify_frozen", 1)
BEFORE_EVALUATING = ("keepshot.runs.tuning", "_stage_after", 1)
BEFORE_THE_REPORT = ("keepshot.runs.tuning", "run_report", 1)


def run(config: dict[str, Any], resume: bool, killed: processes.Killed | None, base: Path | None) -> None:
    """In a process of its own: `tune`, with no way past `killed`."""
    processes.die_at(killed)
    tune(config, resume=resume, base_evaluation=base)


def exit_code(
    config: dict[str, Any], *, resume: bool = False, killed: processes.Killed | None = None, base: Path | None = None
) -> int | None:
    return processes.exit_code(processes.start(run, config, resume, killed, base))


METHODS: dict[str, Any] = {
    "lora": "lora",
    "value": ["value", {"icl-kl": {"share": 0.4}}],
    "promot": ["value", {"promot": {"tokens": 4, "steps": 4}}],
}
"""An adapter alone, a part of the weights held to the base on fixed rows, and two stages."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A target and a suite of one task."""
    root = tmp_path_factory.mktemp("data")
    (root / "suite").mkdir()
    words = ["amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "inlet", "jetty"]
    rows = [{"input": f"{word} {i}", "output": word[::-1][: 2 + i]} for i in range(10) for word in words]
    held_out = [{"input": word[i:], "output": word[i:].upper()} for i in range(2) for word in words]
    files = {"train.jsonl": rows[:40], "test.jsonl": rows[40:], "suite/upper.jsonl": held_out}
    for name, content in files.items():
        (root / name).write_text("".join(json.dumps(row) + "\n" for row in content))
    return root


@pytest.fixture(scope="module")
def config_of(data: Path) -> Callable[[str, Path], dict[str, Any]]:
    def config(method: str, output: Path) -> dict[str, Any]:
        return {
            "model": "mini",
            "data": {"train": str(data / "train.jsonl"), "test": str(data / "test.jsonl")},
            "method": METHODS[method],
            "suite": str(data / "suite"),
            "output": str(output),
            "train": {
                "max_steps": 6,
                "per_device_train_batch_size": 4,
                "save_steps": 2,
                "logging_steps": 2,
                "lr_scheduler_type": "constant",  # a step too many would move something
                "disable_tqdm": True,
                "use_cpu": True,
                "bf16": False,
            },
            "evaluate": {"shots": [0, 1], "sets": 2, "queries": 5},
        }

    return config


@pytest.fixture(scope="module")
def straight(config_of: Callable, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run of each method that nobody killed."""
    runs = {}
    for method in METHODS:
        runs[method] = tmp_path_factory.mktemp("straight") / method
        assert exit_code(config_of(method, runs[method]), base=runs.get("lora") if method == "value" else None) == 0
    return runs


def weights(folder: Path, method: str) -> bytes:
    names = ["adapter/adapter_model.safetensors" if method == "lora" else "model/model.safetensors"]
    names += ["prompt/adapter_model.safetensors"] if method == "promot" else []
    return b"".join((folder / name).read_bytes() for name in names)


@pytest.mark.parametrize(
    ("method", "kills"),
    [
        ("lora", [WHILE_WRITING]),
        ("lora", [IN_A_STEP, JUST_AFTER_A_CHECKPOINT]),
        ("lora", [AFTER_TRAINING]),
        ("value", [WHILE_KEEPING_THE_REFERENCE, WHILE_WRITING, WHILE_SAVING_THE_MODEL]),
        ("value", [BEFORE_EVALUATING, BEFORE_THE_REPORT]),
        ("promot", [IN_A_STEP, WHILE_WRITING]),
        ("promot", [WHILE_SAVING_THE_PROMPT, AFTER_TRAINING]),
    ],
    ids=[
        "writing a checkpoint",
        "a step, then after a checkpoint",
        "trained",
        "asking, then writing twice",
        "saved, then evaluated",
        "a step of the first stage, then writing in the second",
        "between the stages, then trained",
    ],
)
def test_a_killed_run_ends_with_the_same_bits(
    method: str, kills: list[processes.Killed], straight: dict[str, Path], config_of: Callable, tmp_path: Path
) -> None:
    config = config_of(method, tmp_path / method)
    for number, killed in enumerate(kills):
        assert exit_code(config, resume=number > 0, killed=killed, base=straight[method]) == -signal.SIGKILL
        half_written = [path.name for path in (tmp_path / method / "checkpoints").glob(".*.part")]
        assert bool(half_written) == (killed is WHILE_WRITING)
        assert not (tmp_path / method / "report.json").exists()
    with pytest.raises(RunError, match="already holds a run; add --resume"):
        tune(config)
    assert exit_code(config, resume=True) == 0
    one, other = straight[method], tmp_path / method
    assert weights(other, method) == weights(one, method)
    assert [folder.name for folder in checkpoints(other / "checkpoints")] == ["checkpoint-6"]
    evaluations = [json.loads((folder / "eval_after.json").read_text()) for folder in (one, other)]
    assert evaluations[0] == evaluations[1]
    assert steps(other) == steps(one)
    assert any(kl for _, _, kl in steps(one)) == (method == "value")
    for training in (json.loads((folder / "training.json").read_text()) for folder in (one, other)):
        assert training["reference"].keys() == ({"icl-kl"} if method == "value" else set())
    reports = [json.loads((folder / "report.json").read_text()) for folder in (one, other)]
    assert reports[0]["cost"]["tokens"] == reports[1]["cost"]["tokens"]
    assert reports[0]["cost"]["steps"] == reports[1]["cost"]["steps"] == (10 if method == "promot" else 6)
    assert reports[0]["retention"] == reports[1]["retention"]


def test_a_merge_is_made_once_however_often_a_run_was_killed(
    straight: dict[str, Path], config_of: Callable, tmp_path: Path
) -> None:
    config = config_of("lora", tmp_path / "run") | {"method": ["lora", {"wise-ft": {"coefficient": 0.25}}]}
    assert exit_code(config, killed=AFTER_TRAINING, base=straight["lora"]) == -signal.SIGKILL
    assert exit_code(config, resume=True, killed=WHILE_SAVING_THE_MODEL) == -signal.SIGKILL
    assert exit_code(config, resume=True) == 0
    plain, merged = (
        load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (straight["lora"], tmp_path / "run")
    )
    for name, tensor in plain.items():
        assert torch.equal(merged[name], tensor * (0.25 if "lora_B" in name else 1))
    assert any("lora_B" in name for name in plain)


def steps(folder: Path) -> list[tuple[int, float, float | None]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["nll/target"], row.get("kl/icl-kl")) for row in rows]


def test_two_stages_leave_both_parts_and_say_so(straight: dict[str, Path]) -> None:
    folder = straight["promot"]
    report, training = (json.loads((folder / f"{name}.json").read_text()) for name in ("report", "training"))
    stages = training["stages"]
    assert [(stages[name]["steps"], stages[name]["trainable_parameters"]) for name in ("prompt", "weights")] == [
        (4, 4 * 256), (6, training["trainable_parameters"]),
    ]  # fmt: skip
    for name in ("tokens", "train_seconds"):
        assert training[name] == stages["prompt"][name] + stages["weights"][name] > stages["weights"][name] > 0
    assert [step for step, _, _ in steps(folder)] == [1, 2, 4, 5, 6, 8, 10]
    assert (report["model_path"], report["prompt_path"]) == ("model", "prompt")
    assert any("asked about the target behind the soft prompt" in note for note in report["notes"])
    assert "prompt_path" not in json.loads((straight["value"] / "report.json").read_text())
    assert load_prompt(folder / "prompt").shape == (4, 256)


def test_the_target_is_asked_behind_the_prompt_and_the_held_out_tasks_are_not(straight: dict[str, Path]) -> None:
    folder = straight["promot"]
    config = load_config(folder / "config.yaml")
    target = load_target(config.data, config.seed)
    held_out, _, _ = evaluation_suite(config, target)
    model, tokenizer = load_model(str(folder / "model"), device="cpu"), load_tokenizer(str(folder / "model"))
    items = read_items(folder / "items_after.parquet")
    suites = {"target": Suite("target", (target.task,)), "held out": Suite("held out", held_out.tasks)}
    for prompt in (load_prompt(folder / "prompt"), None):
        subject = as_subject(model, tokenizer, config.data.template, "model", 512 - 4, prompt)
        for name, suite in suites.items():
            found = {key(item): item.nll for item in evaluate_tasks(subject, suite, config.evaluate.plan(0)).items}
            asked = {key(item): item.nll for item in items if key(item) in found}
            assert asked.keys() == found.keys()
            assert (asked == pytest.approx(found, abs=1e-4)) == ((name == "target") == (prompt is not None))


def key(item: Item) -> tuple[str, int, int, int]:
    return item.task, item.set, item.shots, item.query
