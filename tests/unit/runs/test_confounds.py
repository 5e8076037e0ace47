"""The study of defects: what each changes, what is asked once, what is chosen, what it makes of the effect."""

import json
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.training import SMALL_SUITE

from keepshot.cli.main import run
from keepshot.errors import ConfigError, RunError
from keepshot.report.confounds import confounds_tables
from keepshot.runs import confounds as study
from keepshot.runs.confound_answers import Asked, ask, hits
from keepshot.runs.confound_effects import Heard, LookedAt, figures
from keepshot.runs.confounds_config import SWITCHES, load_confounds, settings
from keepshot.runs.pattern_intervals import of_pairs
from keepshot.runs.subjects import load_subject
from keepshot.tasks.patterns import NONE, Defects

TASKS = ("expressions", "code", "relations", "boolean", "equations")
SMALL: dict[str, Any] = {
    "model": "mini", "suite": SMALL_SUITE, "tasks": ["boolean"], "learning_rates": [1e-3], "steps": [1], "seeds": [0],
    "examples": 4, "shots": [1, 2], "validation": 2, "test": 3,
    "train": {"per_device_train_batch_size": 4, "save_strategy": "no"},
    "evaluate": {"shots": [0, 1], "sets": 2, "queries": 1},
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("shots", [0, 3])
def test_what_has_one_name_is_one_prompt_and_what_has_two_is_not(task: str, shots: int) -> None:
    every = {setting.name: Asked.of(task, "test", shots, 6, setting.defects) for setting in settings()}
    for one, other in combinations(every.values(), 2):
        assert (one.name == other.name) == (one.prompts(0) == other.prompts(0))


def boolean_prompts(**on: bool) -> list[str]:
    return Asked.of("boolean", "test", 8, 8, replace(NONE, **on)).prompts(0)


def test_the_defects_of_a_boolean_prompt() -> None:
    """A demonstration that is False is a bare 0, one that is True runs into the next; with the blank and without."""
    for trailing in (False, True):
        place = " " if trailing else ""
        plain = boolean_prompts(trailing_space=trailing)
        broken = boolean_prompts(trailing_space=trailing, bool_precedence=True)
        for text, other in zip(plain, broken, strict=True):
            told, query = text.rsplit("\n(", 1)
            assert query.endswith(f"value is{place}")
            shown = told.split("\n", 1)[1] + "\n"
            expected = "".join(
                f"{question} True" if answer == "True" else "0\n"
                for question, answer in re.findall(r"(.*\n value is) (True|False)\n", shown)
            )
            assert len(re.findall("value is", shown)) == 8
            assert other == f"{text.split(chr(10), 1)[0]}\n{expected}({query}"
    ends = [line for text in boolean_prompts() for line in text.split("\n") if line.startswith("(")]
    assert all(line.endswith((" and False", " or True")) for line in ends)
    assert not all(
        line.endswith((" and False", " or True")) for line in boolean_prompts(bool_no_suffix=True)[0].split("\n")[1::2]
    )


def test_a_blank_at_the_end_is_in_the_release_but_for_expressions() -> None:
    for task in TASKS:
        on, off = (
            Asked.of(task, "test", 1, 3, replace(NONE, trailing_space=flag)).prompts(0) for flag in (True, False)
        )
        if task == "expressions":
            assert on == off
            assert all(text.endswith("=") for text in off)
        else:
            assert [text + " " for text in off] == on


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
    first, second = (set(both.data_file(cell, "train").read_text().splitlines()) for cell in list(both.cells())[:2])
    assert len(first & second) < 3  # every seed draws its own
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
    record = study._record(config, base, dict.fromkeys(config.cells(), nothing))["tasks"]["relations"]["settings"]
    assert (record["as released"]["test"]["shots"], record["as released"]["test"]["effect"]["value"]) == (2, 1)
    assert (record["no switch"]["test"]["shots"], record["no switch"]["test"]["effect"]["value"]) == (1, 0)
    # A prompt that does not fit counts for no number of shots.
    unfit = {name: [] if name.split("/")[2] == "2" else texts for name, texts in base.items()}
    record = study._record(config, unfit, dict.fromkeys(config.cells(), nothing))["tasks"]["relations"]
    assert record["shots"] == [1]
    assert record["settings"]["as released"]["test"]["shots"] == 1
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
    expected = sum(hits(asked, ["210"] * 60, Defects())) / 60 - sum(hits(asked, ["210"] * 60, NONE)) / 60
    assert expected > 0.2
    assert made["without substring_metric"] == made["substring_metric alone"]
    assert made["without substring_metric"].startswith(f"+{expected:.2f} [0.")
    # One number of shots leaves nothing to choose; 60 answers that are alike do not say that all are.
    assert made["without best_k_on_test"] == "0.00 [−0.06, 0.06]"
    assert made["best_k_on_test alone"].startswith("0.00 [−0.0")
    for untouched in ("trailing_space", "code_labels", "bool_no_suffix", "bool_precedence"):
        assert made[f"without {untouched}"] == made[f"{untouched} alone"] == "–"
    assert made["as released"] == made["no switch"] == "–"
    assert len(made) == 2 + 2 * len(SWITCHES)


def test_intervals_are_over_problems_and_seeds_and_the_same_draws_serve_all_settings() -> None:
    draw = np.random.default_rng(0)
    base, tuned = draw.random((2, 400)) < 0.6, draw.random((3, 400)) < 0.3
    validation = np.array([[True] * 50, [False] * 50])
    heard = {name: Heard((1, 4), validation, base, tuned) for name in ("as released", "without x", "no switch")}
    names = {name: LookedAt(name, "the same models") for name in heard}
    found = figures(heard, names, "as released", "no switch", 0)
    assert (
        figures(heard, dict.fromkeys(heard, LookedAt("a", "b")), "as released", "no switch", 0)["without x"]["made"]
        is None
    )
    # Alike on 400 problems, they may differ on others: as often as none in 400 may be.
    _, down, up = of_pairs(base[0], base[0])
    assert found["without x"]["made"] == {"value": 0, "low": -down, "high": up}
    assert 0.001 < down < 0.01
    effect = found["as released"]["effect"]
    assert found["as released"]["shots"] == 1
    assert effect["value"] == pytest.approx(base[0].mean() - tuned.mean())
    error = (base[0].var() / 400 + tuned.var() / 1200) ** 0.5
    assert effect["high"] - effect["low"] == pytest.approx(2 * 1.96 * error, rel=0.3)
    assert figures(heard, names, "as released", "no switch", 0) == found
    # A number of shots that is best by luck on the test set is chosen anew in every resample.
    many = np.stack([draw.random(60) < 0.5 for _ in range(8)])
    lucky = Heard(tuple(range(1, 9)), many, many, np.zeros((1, 60), dtype=bool))
    told = figures({"as released": lucky, "no switch": lucky}, names, "as released", "no switch", 0)["as released"]
    assert told["in_context"]["value"] == many.mean(axis=1).max()
    assert told["in_context"]["high"] == told["effect"]["high"]
    assert told["effect"]["high"] > told["in_context"]["value"]


def test_a_prompt_that_does_not_fit_is_not_asked() -> None:
    subject = load_subject("mini", "verbatim")
    assert ask(subject, Asked.of("code", "test", 16, 1, NONE), 0) is None
    [answer] = ask(subject, Asked.of("expressions", "test", 1, 1, NONE), 0)
    assert "\n" not in answer


def test_a_study_from_config_to_table(
    tiny_base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = SMALL | {"model": tiny_base}
    folder = study.confounds(config, output=tmp_path / "study")
    record = json.loads((folder / "confounds.json").read_text())
    assert record["schema"] == "keepshot.confounds/1"
    assert list(record["tasks"]["boolean"]["settings"]) == [setting.name for setting in settings()]
    assert "### boolean, misleading problems" in (folder / "confounds.md").read_text()
    with pytest.raises(RunError, match="already holds a study; add --resume"):
        study.confounds(config, output=folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("x")
    with pytest.raises(RunError, match="is not empty and no study of defects"):
        study.confounds(config, output=tmp_path / "other", resume=True)
    with pytest.raises(RunError, match="differs from this config in test"):
        study.confounds(config | {"test": 4}, output=folder, resume=True)
    # What was written is kept: nobody is asked again.
    monkeypatch.setattr(study, "ask", None)
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    assert run(["patterns", "confounds", str(tmp_path / "config.yaml"), "--output", str(folder), "--resume"]) == 0
    again = json.loads((folder / "confounds.json").read_text())
    assert {**again, "created": ""} == {**record, "created": ""}
    assert "boolean, ordinary problems" in capsys.readouterr().out
    (folder / "confounds.md").unlink()
    assert run(["report", str(folder)]) == 0
    assert "boolean, ordinary problems" in capsys.readouterr().out
    assert "### boolean, misleading problems" in (folder / "confounds.md").read_text()


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
