"""The study of defects: what each changes, what is asked once, what is chosen, what it makes of the effect."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from keepshot.cli.main import run
from keepshot.errors import ConfigError, RunError
from keepshot.report.confounds import confounds_tables
from keepshot.runs import confounds as study
from keepshot.runs.confound_answers import Asked, ask, rate
from keepshot.runs.confounds_config import SWITCHES, load_confounds, settings
from keepshot.runs.evaluation import load_subject
from keepshot.tasks.patterns import NONE, Defects

TASKS = ("expressions", "code", "relations", "boolean", "equations")
SMALL: dict[str, Any] = {
    "model": "mini", "tasks": ["boolean"], "learning_rates": [1e-3], "steps": [1], "seeds": [0], "examples": 4,
    "shots": [1, 2], "validation": 2, "test": 3, "train": {"per_device_train_batch_size": 4, "save_strategy": "no"},
    "evaluate": {"shots": [0, 1], "sets": 2, "queries": 1},
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("shots", [0, 3])
def test_what_has_one_name_is_one_prompt_and_what_has_two_is_not(task: str, shots: int) -> None:
    every = {setting.name: Asked.of(task, "test", shots, 6, setting.defects) for setting in settings()}
    for one, other in combinations(every.values(), 2):
        assert (one.name == other.name) == (one.prompts(0) == other.prompts(0))


def test_the_defects_of_a_prompt() -> None:
    released = Asked.of("boolean", "test", 4, 8, Defects())
    clean = Asked.of("boolean", "test", 4, 8, NONE)
    for text, item in zip(clean.prompts(0), clean.items(), strict=True):
        first, *rest = text.split("\n")
        assert first.endswith("True or False.")
        assert text.endswith(f"{item.question}")
        assert sum(line.startswith(" value is ") for line in rest) == 4
        assert all(line.endswith((" and False", " or True")) for line in rest if line.startswith("("))
    for text, item in zip(released.prompts(0), released.items(), strict=True):
        assert text.endswith(f"{item.question} ")
        assert " and False\n" not in text
        # A demonstration that is False is a bare 0, one that is True runs into the next.
        assert text.count("\n0\n") + text.count("True0\n") + text.count("value is True") >= 2
    assert "value is False" not in "".join(released.prompts(0))


def test_demonstrations_stay_as_more_come_and_are_no_queries() -> None:
    two, four = (Asked.of("expressions", "test", shots, 5, NONE) for shots in (2, 4))
    for short, long, item in zip(two.prompts(0), four.prompts(0), two.items(), strict=True):
        assert long.split("\n")[:3] == short.split("\n")[:3]
        assert item.question not in "\n".join(long.split("\n")[:-1])
    assert two.prompts(0) != two.prompts(1)
    validation = Asked.of("expressions", "validation", 2, 5, NONE)
    assert not {item.question for item in validation.items()} & {item.question for item in two.items()}


def test_trainings_are_those_that_the_defects_need(tmp_path: Path) -> None:
    both = load_confounds(SMALL | {"tasks": ["code", "boolean", "relations"], "seeds": [0, 1], "output": str(tmp_path)})
    assert len(list(both.cells())) == 4 * 2
    assert len(list(load_confounds(SMALL | {"tasks": ["relations"]}).cells())) == 1
    for setting in settings():
        cell = both.cell_of(setting.defects, 1)
        assert (cell.code_labels, cell.bool_no_suffix) == (setting.defects.code_labels, setting.defects.bool_no_suffix)
    study._open(both, resume=False)
    for cell in both.cells():
        rows = [json.loads(line) for line in both.data_file(cell, "train").read_text().splitlines()]
        assert len(rows) == 3 * 4
        assert {row["instruction"] for row in rows} == {""}
        code = [row for row in rows if "def function1" in row["input"]]
        assert len(code) == 4
        assert ({row["output"] for row in code} == {"3"}) == cell.code_labels
        ends = [row["input"].split("\n")[0] for row in rows if row["input"].endswith("value is")]
        assert all(end.endswith((" and False", " or True")) for end in ends) != cell.bool_no_suffix
    method = both.run(cell)
    assert method.data.template == "verbatim"
    assert method.strategy()[1].streams[0].scored == "row"


def answers_where(right: set[tuple[str, int]], task: str) -> dict[str, list[str]]:
    """Of a model that is right at some parts and numbers of shots, and else writes nothing."""
    found = {}
    for setting in settings():
        for part, count in (("validation", 2), ("test", 3), ("misleading", 3)):
            for shots in (0, 1, 2):
                asked = Asked.of(task, part, shots, count, setting.defects)
                found[asked.name] = [item.answer if (part, shots) in right else "" for item in asked.items()]
    return found


def test_the_number_of_shots_is_chosen_on_the_test_set_or_on_validation() -> None:
    config = load_confounds(SMALL | {"tasks": ["relations"]})
    base = answers_where({("validation", 1), ("test", 2), ("misleading", 2)}, "relations")
    nothing = answers_where(set(), "relations")
    record = study._record(config, base, dict.fromkeys(config.cells(), nothing))["tasks"]["relations"]
    assert (record["as released"]["test"]["shots"], record["as released"]["test"]["effect"]["value"]) == (2, 1)
    assert (record["none"]["test"]["shots"], record["none"]["test"]["effect"]["value"]) == (1, 0)
    # A prompt that does not fit counts for no number of shots.
    unfit = {name: [] if name.split("/")[2] == "2" else texts for name, texts in base.items()}
    record = study._record(config, unfit, dict.fromkeys(config.cells(), nothing))["tasks"]["relations"]
    assert record["as released"]["test"]["shots"] == 1
    with pytest.raises(ConfigError, match="no number of shots of relations fits"):
        study._record(config, {name: [] for name in base}, dict.fromkeys(config.cells(), nothing))


def test_what_a_defect_makes_is_told_from_both_sides(tmp_path: Path) -> None:
    """A base that writes 210 is right anywhere in it under the substring metric, and hardly ever without."""
    config = load_confounds(SMALL | {"tasks": ["expressions"], "test": 60, "validation": 60})
    always = {
        Asked.of("expressions", part, shots, 60, setting.defects).name: ["210" if shots else ""] * 60
        for setting in settings()
        for part in ("validation", "test", "misleading")
        for shots in (0, 1, 2)
    }
    record = study._record(config, always, dict.fromkeys(config.cells(), always))
    (tmp_path / "confounds.json").write_text(json.dumps(record))
    (title, table), _ = confounds_tables(tmp_path)
    assert title == "expressions, ordinary problems"
    made = {row[0]: row[-1] for row in table.rows}
    asked = Asked.of("expressions", "test", 1, 60, Defects())
    expected = rate(asked, ["210"] * 60, Defects()).value - rate(asked, ["210"] * 60, NONE).value
    assert expected > 0.2
    assert made["without substring_metric"] == made["substring_metric alone"] == f"+{expected:.2f}"
    assert made["without trailing_space"] == made["best_k_on_test alone"] == "0.00"
    assert len(made) == 2 + 2 * len(SWITCHES)


def test_a_prompt_that_does_not_fit_is_not_asked() -> None:
    subject = load_subject("mini", "verbatim")
    assert ask(subject, Asked.of("code", "test", 16, 1, NONE), 0) is None
    [answer] = ask(subject, Asked.of("expressions", "test", 1, 1, NONE), 0)
    assert "\n" not in answer


def test_a_study_from_config_to_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = study.confounds(SMALL, output=tmp_path / "study")
    record = json.loads((folder / "confounds.json").read_text())
    assert record["schema"] == "keepshot.confounds/1"
    assert list(record["tasks"]["boolean"]) == [setting.name for setting in settings()]
    assert "### boolean, misleading problems" in (folder / "confounds.md").read_text()
    with pytest.raises(RunError, match="is not empty; add --resume"):
        study.confounds(SMALL, output=folder)
    with pytest.raises(RunError, match="differs from this config in test"):
        study.confounds(SMALL | {"test": 4}, output=folder, resume=True)
    # What was written is kept: nobody is asked again.
    monkeypatch.setattr(study, "ask", None)
    (tmp_path / "config.yaml").write_text(json.dumps(SMALL))
    assert run(["patterns", "confounds", str(tmp_path / "config.yaml"), "--output", str(folder), "--resume"]) == 0
    again = json.loads((folder / "confounds.json").read_text())
    assert {**again, "created": ""} == {**record, "created": ""}
    assert "boolean, ordinary problems" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning_rates": [1e-5, 1e-4]}, "one learning rate"),
        ({"shots": [0, 1]}, "above 0"),
        ({"tasks": ["parity"]}, "tasks"),
        ({"data": {"train": "a.jsonl"}}, "leave data out"),
        ({"methods": ["full", "value"]}, "methods"),
    ],
)
def test_what_the_study_cannot_do_is_one_line(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        load_confounds(SMALL | changes)
    assert "\n" not in str(error.value)
