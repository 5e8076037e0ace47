"""`keepshot eval`: what reaches the evaluation, and what is said about it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.backends import rigged

from keepshot import runs
from keepshot.cli import show
from keepshot.cli.main import run
from keepshot.evaluation import EvaluationPlan, evaluate_tasks, read_items


def half_right(text: str, shots: int) -> str:
    """Right about the smaller numbers, where there are demonstrations."""
    return ("even", "odd")[(int(text) + (int(text) > 30)) % 2] if shots else "no"


class Evaluations:
    """Stands for `runs.evaluate_against`: remembers what it was asked, and asks a backend without a model."""

    def __init__(self) -> None:
        self.models: list[str] = []
        self.settings: dict[str, Any] = {}
        self.shares = True

    def __call__(self, models: list[str], **settings: Any) -> list[Any]:
        self.models, self.settings = models, settings
        subjects = [replace(rigged(half_right, shares=self.shares), name=name) for name in models]
        return [evaluate_tasks(subject, settings["suite"], settings["plan"]) for subject in subjects]

    @property
    def plan(self) -> EvaluationPlan:
        return self.settings["plan"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Evaluations:
    found = Evaluations()
    monkeypatch.setattr(runs, "evaluate_against", found)
    return found


@pytest.fixture
def suite(tmp_path: Path) -> list[str]:
    """The option of a suite with labels, and one without."""
    folder = tmp_path / "suite"
    folder.mkdir()
    rows = [json.dumps({"input": str(i), "output": ("even", "odd")[i % 2]}) for i in range(60)]
    (folder / "parity.jsonl").write_text("\n".join(rows))
    rows = [json.dumps({"input": str(i), "output": str(i + 1)}) for i in range(60)]
    (folder / "next.jsonl").write_text("\n".join(rows))
    return ["--suite", str(folder)]


QUICK = ["--shots", "0,2", "--sets", "2", "--queries", "3"]


@pytest.mark.parametrize(
    ("arguments", "models"),
    [
        (["A"], ["A"]),
        (["A", "--against", "B"], ["A", "B"]),
        (["A", "--against", "B", "C"], ["A", "B", "C"]),
        (["A", "--against", "B", "--against", "C"], ["A", "B", "C"]),
        (["A", "--seed", "1", "--against", "B", "C", "D"], ["A", "B", "C", "D"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_the_base_comes_first_and_the_others_as_written(
    arguments: list[str], models: list[str], asked: Evaluations, suite: list[str]
) -> None:
    assert run(["eval", *arguments, *suite, *QUICK]) == 0
    assert asked.models == models


def test_a_second_model_without_against_is_no_base(asked: Evaluations, capsys: pytest.CaptureFixture) -> None:
    assert run(["eval", "A", "B"]) == 1
    error = capsys.readouterr().err
    assert error == "error: 'B' is one model too many; put --against before the models to compare with A\n"
    assert asked.models == []


def test_without_options_the_plan_is_the_default(asked: Evaluations, suite: list[str]) -> None:
    assert run(["eval", "A", *suite]) == 0
    assert asked.plan == EvaluationPlan()
    assert asked.settings["template"] == "auto"
    assert asked.settings["output"] is None


def test_every_option_reaches_the_plan(asked: Evaluations, suite: list[str]) -> None:
    arguments = ["--num_fewshot", "3,0,1", "--sets", "3", "--queries", "4", "--seed", "7", "--balanced"]
    arguments += ["--labels", "flipped", "--metric", "f1", "--until", "0.4", "--max-sets", "5"]
    assert run(["eval", "A", *suite, *arguments, "--template", "instruction"]) == 0
    assert asked.plan == EvaluationPlan(
        shots=(0, 1, 3),
        sets=3,
        queries=4,
        seed=7,
        balanced=True,
        until=0.4,
        most_sets=5,
        labels="flipped",
        metric="f1",
    )
    assert asked.settings["template"] == "instruction"


def test_a_prompt_reaches_the_evaluation(
    asked: Evaluations, suite: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate(model: str, *, prompt: Path, **settings: Any) -> Any:
        given.append(prompt)
        return asked([model], **settings)[0]

    given: list[Path] = []
    monkeypatch.setattr(runs, "evaluate", evaluate)
    output = tmp_path / "e.json"
    assert run(["eval", "A", "--prompt", "runs/a/prompt", *suite, *QUICK, "--output", str(output)]) == 0
    assert (asked.models, given) == (["A"], [Path("runs/a/prompt")])
    assert asked.settings["output"] == output
    assert asked.plan.queries == 3


def test_tasks_that_other_labels_leave_out_are_named(
    asked: Evaluations, suite: list[str], capsys: pytest.CaptureFixture
) -> None:
    assert run(["eval", "A", *suite, *QUICK, "--labels", "symbols"]) == 0
    output = capsys.readouterr().out
    assert "left out: next has no finite set of labels, which symbols labels need" in output
    assert "parity [symbols]" in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--labels", "wrong"], "'true', 'flipped', 'random', 'symbols'"),
        (["--on-bad-row", "ignore"], "'raise', 'skip'"),
        (["--metric", "per_bite"], "there is no metric 'per_bite'"),
        (["--metric", "pmi"], "no task of suite 'suite' has options"),
        (["--until", "2"], "between 0 and 1"),
        (["--until", "0.1", "--sets", "1"], "at least 2 sets"),
        (["--cache", "x", "--no-cache"], "contradict each other"),
        (["--prompt", "p", "--against", "B"], "evaluate A behind it by itself"),
        (["--shots", "1,x"], "such as 0,4,16"),
    ],
    ids=" ".join,
)
def test_a_mistaken_option_is_one_line_and_status_1(
    arguments: list[str], words: str, asked: Evaluations, suite: list[str], capsys: pytest.CaptureFixture
) -> None:
    assert run(["eval", "A", *suite, *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert words in error


def test_bad_rows_can_be_left_out_and_are_said(
    asked: Evaluations, suite: list[str], capsys: pytest.CaptureFixture
) -> None:
    with (Path(suite[1]) / "parity.jsonl").open("a") as file:
        file.write('\n{"input": "61"}')
    assert run(["eval", "A", *suite, *QUICK]) == 1
    assert run(["eval", "A", *suite, *QUICK, "--on-bad-row", "skip"]) == 0
    assert "parity.jsonl:61" in capsys.readouterr().out


def test_columns_of_the_suite_s_files_may_be_named(asked: Evaluations, suite: list[str]) -> None:
    for file in Path(suite[1]).iterdir():
        file.write_text(file.read_text().replace('"input"', '"question"'))
    assert run(["eval", "A", *suite, *QUICK]) == 1
    assert run(["eval", "A", *suite, *QUICK, "--column", "input=question"]) == 0
    assert [len(task.examples) for task in asked.settings["suite"].tasks] == [60, 60]


def test_answers_are_remembered_where_the_user_says(
    asked: Evaluations, suite: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEEPSHOT_CACHE", str(tmp_path / "c"))
    for arguments, cache in (
        ([], tmp_path / "c" / "answers.sqlite"),
        (["--cache", str(tmp_path / "x.sqlite")], tmp_path / "x.sqlite"),
        (["--no-cache"], None),
    ):
        assert run(["eval", "A", *suite, *QUICK, *arguments]) == 0
        assert asked.settings["cache"] == cache
    monkeypatch.setenv("KEEPSHOT_CACHE", "off")
    assert run(["eval", "A", *suite, *QUICK]) == 0
    assert asked.settings["cache"] is None


def test_every_model_has_a_table_and_what_became_of_the_base(
    asked: Evaluations, suite: list[str], capsys: pytest.CaptureFixture
) -> None:
    assert run(["eval", "A", "--against", "B", "C", *suite, *QUICK]) == 0
    output = capsys.readouterr().out
    assert [output.count(f"{name}: accuracy by number of shots") for name in "ABC"] == [1, 1, 1]
    for name in "BC":
        assert f"{name} against A, same prompts:\n  0 shots: accuracy +0.000 [" in output
    assert output.count("retention") == 2
    assert "note:" not in output


def test_contexts_that_could_not_be_shared_are_mentioned(
    asked: Evaluations, suite: list[str], capsys: pytest.CaptureFixture
) -> None:
    asked.shares = False
    assert run(["eval", "A", *suite, *QUICK]) == 0
    assert "cannot share contexts" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("until", "words"),
    [("0.4", "2 sets asked: half the interval is 0."), ("0.02", "6 sets asked: "), ("0.02", "a larger --max-sets")],
)
def test_until_says_how_far_it_came(
    until: str, words: str, asked: Evaluations, suite: list[str], capsys: pytest.CaptureFixture
) -> None:
    assert run(["eval", "A", *suite, "--shots", "2", "--sets", "2", "--until", until, "--max-sets", "6"]) == 0
    output = capsys.readouterr().out
    assert words in output
    assert ("a larger --max-sets" in output) == (until == "0.02")


def test_an_interval_that_is_just_as_narrow_as_asked_for_is_narrow_enough(
    asked: Evaluations, suite: list[str], capsys: pytest.CaptureFixture
) -> None:
    # At zero shots all sets are alike, and 3 / (2 x 3 x 5) = .1.
    assert run(["eval", "A", *suite, "--shots", "0", "--sets", "5", "--queries", "3", "--until", "0.1"]) == 0
    assert "5 sets asked: half the interval is 0.050 (asked for 0.1)\n" in capsys.readouterr().out


def test_lm_eval_results_are_written_for_every_model(
    asked: Evaluations, suite: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("keepshot.runs.lm_eval_results")
    arguments = ["A", "--against", "B", *suite, *QUICK, "--lm-eval", str(tmp_path / "results")]
    assert run(["eval", *arguments]) == 0
    output = capsys.readouterr().out
    written = sorted((tmp_path / "results").rglob("*.json"))
    assert len(written) == 2 * 2, "one file per model and shot count"
    assert all(f"written: {path}" in output for path in written)
    assert {json.loads(path.read_text())["model_name"] for path in written} == {"A", "B"}


def test_another_process_says_and_writes_nothing(
    asked: Evaluations, suite: list[str], tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(show.console, "quiet", True)
    assert run(["eval", "A", "--against", "B", *suite, *QUICK, "--lm-eval", str(tmp_path / "results")]) == 0
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("name", ["RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK"])
def test_the_first_of_several_processes_speaks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert show.is_first_process()
    monkeypatch.setenv(name, "1")
    assert not show.is_first_process()
    monkeypatch.setenv(name, "0")
    assert show.is_first_process()


def test_the_whole_way_with_a_model(suite: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    output = tmp_path / "out" / "eval.json"
    assert run(["eval", "mini", "--against", "mini", *suite, *QUICK, "--output", str(output)]) == 0
    written = json.loads(output.read_text())
    assert (written["model"], written["against"][0]["model"]) == ("mini", "mini")
    assert list(written["tasks"]) == ["next", "parity"]
    assert written["against"][0]["difference"]["2"]["value"] == 0.0
    assert len(read_items(tmp_path / "out" / "eval.items.1.parquet")) == 2 * 2 * 2 * 3
    assert f"written: {output}" in capsys.readouterr().out
