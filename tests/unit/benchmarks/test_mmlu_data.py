import doctest
import json
from pathlib import Path

import pytest
from benchmarks import mmlu_data
from benchmarks.mmlu_data import CATEGORIES, HUB, Parts, Row, categories, question, write_mmlu
from tests.architectures import ARCHITECTURES

from keepshot.errors import DataError
from keepshot.runs.comparison_config import load_comparison
from keepshot.strategies import apply_trainable, resolve_method
from keepshot.tasks.read import read_examples
from keepshot.tasks.suite_files import read_suite

RECIPE = Path(__file__).parents[3] / "recipes" / "mmlu.yaml"


def rows(each: int = 20) -> list[Row]:
    return [
        {
            "question": f"What is {n} of {subject}?",
            "subject": subject,
            "choices": [f"{subject} {n} {place}" for place in range(4)],
            "answer": n % 4,
        }
        for subject in CATEGORIES
        for n in range(each)
    ]


def inputs(parts: Parts) -> list[set[str]]:
    return [{str(row["input"]) for row in part} for part in (parts.train, parts.validation, parts.test)]


def test_example_runs() -> None:
    assert doctest.testmod(mmlu_data).failed == 0
    assert len(CATEGORIES) == 57


def test_a_question_is_scored_by_its_letters() -> None:
    found = question(rows()[1])
    assert found["output"] == "B"
    assert found["options"] == ["A", "B", "C", "D"]
    assert str(found["input"]).splitlines()[:2] == ["Subject: formal logic", "Question: What is 1 of formal_logic?"]


def test_the_division_is_by_key_apart_and_free_of_doubles() -> None:
    given = rows()
    double = {**given[0], "question": "Asked otherwise?"}
    found, again = categories([*given, double]), categories([double, *reversed(given)])
    assert {name: inputs(parts) for name, parts in found.items()} == {n: inputs(parts) for n, parts in again.items()}
    for category, parts in found.items():
        train, validation, test = inputs(parts)
        num_questions = 20 * sum(one == category for one in CATEGORIES.values())
        assert len(train | validation | test) == len(train) + len(validation) + len(test) == num_questions
        assert len(test) == 2 * len(validation) == 2 * (num_questions // 10)
    assert inputs(categories(given, seed=1)["stem"]) != inputs(found["stem"])


def test_files_read_as_target_and_tasks(tmp_path: Path) -> None:
    asked: list[str] = []
    write_mmlu(tmp_path / "mmlu", lambda source: asked.append(source) or rows(110), say=lambda _: None)
    assert asked == [HUB]
    folder = tmp_path / "mmlu"
    train = read_examples(folder / "humanities.train.jsonl").examples
    assert len(train) == mmlu_data.TRAIN_ROWS
    assert not {example.input for example in train} & {
        example.input
        for part in ("validation", "test")
        for example in read_examples(folder / f"humanities.{part}.jsonl").examples
    }
    suite, validation = (read_suite(folder / part).suite for part in ("suite", "validation"))
    assert [task.name for task in suite.tasks] == ["other", "social-sciences", "stem"]
    assert [task.name for task in validation.tasks] == ["other-others", "social-sciences-others", "stem-others"]
    assert {task.scoring for task in suite.tasks} == {"options"}
    assert all(task.pool and task.labels == ("A", "B", "C", "D") for task in suite.tasks)
    with pytest.raises(DataError, match="exists; remove it"):
        write_mmlu(folder, lambda _: rows())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"choices": ["a", "b"]}, r"choices is \['a', 'b'\]; expected a list of 4"),
        ({"answer": "A"}, "answer is 'A'; expected a number from 0 to 3"),
        ({"subject": "magic"}, "the subject 'magic' is in no category"),
    ],
)
def test_other_data_are_refused(change: Row, message: str) -> None:
    with pytest.raises(DataError, match=message):
        question({**rows()[0], **change})
    with pytest.raises(DataError, match="has the columns question; expected question, subject, choices, answer"):
        question({"question": "a"})
    with pytest.raises(DataError, match="has 130 questions of humanities; 200 or more are needed"):
        categories(rows(10))


def test_the_recipe_is_the_papers_grid() -> None:
    config = load_comparison(RECIPE)
    found = {contender.name: resolve_method(contender.method)[1] for contender in config.contenders()}
    assert len(found) == 10
    moving = {}
    for name, strategy in found.items():
        assert (strategy.trainable.r, strategy.trainable.alpha, strategy.trainable.dropout) == (128, 256, 0)
        trained = apply_trainable(ARCHITECTURES["qwen2"](), strategy.trainable, seed=0)
        moving[name] = {parameter.split(".")[-4] for parameter in trained.parts}
        annealed = [(term.stream, term.anneal) for term in strategy.terms if term.anneal == "linear"]
        assert annealed == ([("few-shot", "linear")] if "-fs-" in name else [])
        assert [stream.shots for stream in strategy.streams[1:]] == ([(5, 5)] if "-fs-" in name else [])
    assert moving["zs-qkv"] == moving["zs-fs-qkv"] == {"q_proj", "k_proj", "v_proj"}
    assert moving["zs-v"] == {"v_proj"}
    assert moving["zs-all"] == moving["zs-v"] | moving["zs-qkv"] | {"o_proj", "gate_proj", "up_proj", "down_proj"}
    assert len(config.seeds) >= 3
    assert config.train["per_device_train_batch_size"] * config.steps[0] == 5 * mmlu_data.TRAIN_ROWS
    assert json.dumps(config.evaluate.shots) == "[0, 1, 3, 5, 7]"
