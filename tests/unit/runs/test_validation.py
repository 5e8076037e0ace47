"""What is chosen by and what is reported on have nothing in common."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from keepshot.config import RunConfig, load_config
from keepshot.episodes import demonstration_set
from keepshot.errors import ConfigError
from keepshot.runs.data import answers_of, load_target
from keepshot.runs.validation import Questions, validation_questions, zero_shot_plan
from keepshot.tasks.builtin import builtin_suite, builtin_target
from keepshot.tasks.example import Example, Task
from keepshot.tasks.split import input_key, shared_inputs


def write(path: Path, examples: tuple[Example, ...]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"input": e.input, "output": e.output}) + "\n" for e in examples))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Data of a target, and a suite of five tasks."""
    write(tmp_path / "data.jsonl", builtin_target("word-kind").train[:900])
    for task in builtin_suite().tasks[:5]:
        write(tmp_path / "suite" / f"{task.name}.jsonl", task.examples[:40])
    return tmp_path


def asked(values: Mapping[str, Any], validation_suite: str | None = None) -> tuple[Questions, RunConfig]:
    config = load_config({"model": "mini", **values})
    return validation_questions(config, load_target(config.data, config.seed), validation_suite), config


def assert_apart(found: Questions) -> None:
    assert not shared_inputs(found.target.examples, found.report_target.examples)
    reported = answers_of(e for task in found.report_suite.tasks for e in task.examples)
    for task in found.suite.tasks:
        assert sum(bool(answers_of([e]) & reported) for e in task.examples) <= len(task.examples) / 2
    names = [task.name for task in (*found.suite.tasks, *found.report_suite.tasks)]
    assert len(names) == len(set(names))
    assert {task.group for task in found.suite.tasks} == {"suite", "own-input"}
    assert {"suite", "own-input"} <= {task.group for task in found.report_suite.tasks}


def test_the_bundled_suite_is_reported_whole_and_chosen_by_its_universe() -> None:
    found, _ = asked({"data": {"train": "mini:word-rule"}})
    assert_apart(found)
    assert found.report_suite.tasks[:20] == builtin_suite().tasks
    assert found.suite.name == "mini-validation"
    assert not found.notes


def test_another_suite_is_halved_and_says_so(folder: Path) -> None:
    values = {"data": {"train": str(folder / "data.jsonl")}, "suite": str(folder / "suite")}
    found, _ = asked(values)
    assert_apart(found)
    of_suite = [[t.name for t in s.tasks if t.group == "suite"] for s in (found.suite, found.report_suite)]
    assert [len(names) for names in of_suite] == [2, 3]
    [note] = found.notes
    assert all(name in note for names in of_suite for name in names)
    assert any(asked({**values, "seed": seed})[0].suite != found.suite for seed in (1, 2, 3))


def test_a_named_suite_is_chosen_by_and_the_other_is_whole(folder: Path) -> None:
    for task in builtin_suite().tasks[5:7]:
        write(folder / "others" / f"{task.name}.jsonl", task.examples[:40])
    values = {"data": {"train": str(folder / "data.jsonl")}, "suite": str(folder / "suite")}
    found, _ = asked(values, str(folder / "others"))
    assert_apart(found)
    assert len([task for task in found.report_suite.tasks if task.group == "suite"]) == 5
    assert len([task for task in found.suite.tasks if task.group == "suite"]) == 2


@pytest.mark.parametrize("name", ["reverse-shift", "another"])
def test_a_reported_task_cannot_be_chosen_by(name: str, folder: Path) -> None:
    task = next(task for task in builtin_suite().tasks if task.name == "reverse-shift")
    others = task.examples[200:240] if name == task.name else task.examples[10:40]
    write(folder / "others" / f"{name}.jsonl", others)
    values = {"data": {"train": str(folder / "data.jsonl")}, "suite": str(folder / "suite")}
    with pytest.raises(ConfigError, match=f"holds the task '{name}', which is reported on as '{task.name}'"):
        asked(values, str(folder / "others"))


def test_the_target_cannot_be_chosen_by(folder: Path) -> None:
    write(folder / "others" / "mine.jsonl", builtin_target("word-kind").train[:900])
    values = {"data": {"train": str(folder / "data.jsonl")}, "suite": str(folder / "suite")}
    config = load_config({"model": "mini", **values})
    tested = load_target(config.data, config.seed).task.examples
    write(folder / "others" / "mine.jsonl", tested[:40])
    with pytest.raises(ConfigError, match="reported on as 'data'"):
        asked(values, str(folder / "others"))


def test_few_validation_rows_are_noted(folder: Path) -> None:
    write(folder / "few.jsonl", builtin_target("word-kind").train[:400])
    found, _ = asked({"data": {"train": str(folder / "few.jsonl")}, "suite": str(folder / "suite")})
    assert any("too few validation inputs" in note for note in found.notes)


@pytest.mark.parametrize("rows", [1, 3, 4, 10, 50])
def test_every_validation_row_is_asked_once(rows: int) -> None:
    examples = [Example(str(i), "x") for i in range(rows)]
    task = Task("t", (*examples, Example(" 0", "x")), (Example("a", "b"),))
    plan = zero_shot_plan(task, 4, seed=3)
    assert plan.shots == (0,)
    queries = [
        input_key(query)
        for index in range(plan.sets)
        for query in demonstration_set(
            task, index, sets=plan.sets, shots=0, queries=plan.queries, seed=plan.seed
        ).queries
    ]
    assert len(queries) == len(set(queries)) > rows - plan.sets
