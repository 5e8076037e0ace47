import json
from pathlib import Path
from typing import Any

import pytest

from keepshot.errors import RunError
from keepshot.files import read_json
from keepshot.runs import cells
from keepshot.runs.cells import cell_run, choosing, run_cell, tried
from keepshot.runs.comparison_config import CompareConfig, load_comparison
from keepshot.runs.ground import Ground, load_ground
from keepshot.runs.progress import silent
from keepshot.tasks.split import input_key


def rows(first: int, count: int) -> list[dict[str, str]]:
    """Different pronounceable words, and whether their number is even."""
    syllables = ["ba", "ke", "li", "mo", "nu", "pa", "re", "si", "to", "vu"]
    words = ["".join(syllables[int(digit)] for digit in f"{number:03}") for number in range(first, first + count)]
    return [{"input": word, "output": "even" if number % 2 == 0 else "odd"} for number, word in enumerate(words)]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> CompareConfig:
    root = tmp_path_factory.mktemp("data")
    (root / "suite").mkdir()
    files = {
        "train.jsonl": rows(0, 60),
        "validation.jsonl": rows(100, 45),
        "test.jsonl": rows(200, 45),
        "suite/upper.jsonl": [row | {"output": row["input"].upper()} for row in rows(300, 30)],
        "suite/reversed.jsonl": [row | {"output": row["input"][::-1]} for row in rows(300, 30)],
    }
    for name, content in files.items():
        (root / name).write_text("".join(json.dumps(row) + "\n" for row in content))
    data = {part: str(root / f"{part}.jsonl") for part in ("train", "validation", "test")}
    return load_comparison(
        {
            "model": "mini",
            "targets": [{"name": "rule", "data": data}],
            "suite": str(root / "suite"),
            "methods": ["full", ["value", "icl-mix"]],
            "learning_rates": [1e-3],
            "steps": [1],
            "seeds": [0, 5],
            "seed": 2,
            "output": str(tmp_path_factory.mktemp("comparison")),
            "train": {"use_cpu": True, "bf16": False},
            "evaluate": {"shots": [0, 4], "sets": 3, "queries": 5},
            "validation": {"shots": [2], "sets": 2, "queries": 4},
        }
    )


@pytest.fixture(scope="module")
def ground(config: CompareConfig) -> Ground:
    return load_ground(config, "rule")


def asked(run: Any) -> set[tuple[str, int]]:
    return {(task.name, input_key(example)) for task in run.questions.tasks for example in task.examples}


def test_what_chooses_is_neither_trained_on_nor_reported(config: CompareConfig, ground: Ground) -> None:
    run = cell_run(config, list(config.cells())[2], ground)
    choosers = choosing(config, run, ground)
    assert {task.group for task in choosers["validation"].suite.tasks} == {"suite", "own-input"}
    assert not asked(run) & (asked(choosers["validation"]) | asked(choosers["target"]))
    trained = {input_key(example) for example in ground.target.train}
    for one in (run, *choosers.values()):
        assert not trained & {input_key(example) for example in one.target.task.examples}
    [mix] = [stream.sampler for stream in run.prepared.planner.streams[1:]]
    held_out = {*run.suite.tasks, *choosers["validation"].suite.tasks}
    assert {task.name for task in held_out} <= {task.name for task in mix.apart_from}


def test_every_validation_row_is_asked_once_without_examples(config: CompareConfig, ground: Ground) -> None:
    run = cell_run(config, next(config.cells()), ground)
    target = choosing(config, run, ground)["target"]
    assert target.plan.shots == (0,)
    assert target.plan.sets * target.plan.queries == 44  # of 45, in two sets of the same size
    assert [task.name for task in target.questions.tasks] == ["rule"]


def test_seeds_and_methods_share_data_and_questions(config: CompareConfig, ground: Ground) -> None:
    runs = [cell_run(config, cell, ground) for cell in config.cells()]
    assert [run.config.seed for run in runs] == [0, 5, 0, 5]
    assert len({run.asked for run in runs}) == 1
    assert len({choosing(config, run, ground)["validation"].asked for run in runs}) == 1
    assert {run.plan.seed for run in runs} == {2}


def test_all_methods_leave_the_longest_prompt_its_room(config: CompareConfig, ground: Ground) -> None:
    methods = ["full", ["value", {"promot": {"tokens": 7, "steps": 3}}], {"promot": {"tokens": 5}}]
    with_prompts = config.model_copy(update={"methods": (*methods[:2], {"name": "short", "method": methods[2]})})
    runs = [cell_run(with_prompts, cell, ground) for cell in with_prompts.cells() if cell.seed == 0]
    assert [run.prepared.context_length for run in runs] == [1024 - 7] * 3
    assert len({run.asked for run in runs}) == 1
    stages = [run.prepared.first for run in runs]
    assert [stage and (stage.strategy.prompt.tokens, stage.arguments.max_steps) for stage in stages] == [
        None, (7, 3), (5, 1),
    ]  # fmt: skip
    for run, stage in zip(runs[1:], stages[1:], strict=True):
        assert stage.arguments.learning_rate == 0.03
        assert run.prepared.arguments.learning_rate == 1e-3
        assert Path(stage.arguments.output_dir) == run.folder.checkpoints / "prompt"


def test_a_cell_with_a_prompt_is_asked_with_it(config: CompareConfig, ground: Ground, tmp_path: Path) -> None:
    methods = ("full", ["value", {"promot": {"tokens": 4}}])
    config = config.model_copy(update={"methods": methods, "output": str(tmp_path)})
    cell = next(cell for cell in config.cells() if cell.method != "full")
    done = run_cell(config, cell, ground, silent, None)
    folder = tmp_path / "cells" / cell.folder
    assert done.accuracy is not None
    assert done.cost["steps"] == 2
    assert (folder / "prompt" / "adapter_model.safetensors").is_file()
    assert not (folder / "checkpoints").exists()
    found = read_json(folder / "eval_validation.json")
    assert next(iter(found["tasks"])) == "rule"
    assert len(found["tasks"]) > 1


def test_a_training_that_breaks_off_is_a_result(
    config: CompareConfig, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(run: Any, say: Any) -> None:
        (run.folder.checkpoints / "checkpoint-1").mkdir(parents=True)
        raise RunError("the loss is not finite")

    monkeypatch.setattr(cells, "train_stage", diverge)
    cell = next(config.cells())
    assert tried(config, cell) is None
    found = run_cell(config, cell, ground, silent, None)
    assert (found.accuracy, found.failed, dict(found.cost)) == (None, "the loss is not finite", {})
    assert tried(config, cell) == found
    folder = Path(config.output) / "cells" / cell.folder
    assert read_json(folder / "cell.json")["cell"]["method"] == "full"
    assert not (folder / "checkpoints").exists()
