"""The experiment on implicit patterns: what is asked, what is chosen, what is reported; a run from config to page."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from tests.training import SMALL_SUITE

from keepshot.cli.main import run
from keepshot.errors import ConfigError, DivergedError, RunError
from keepshot.files import write_json
from keepshot.prompts import ChatTemplate, Row
from keepshot.report.patterns import read_patterns
from keepshot.report.patterns_page import pattern_table, patterns_figure, patterns_page
from keepshot.runs import pattern_cells
from keepshot.runs import patterns as experiment
from keepshot.runs.pattern_cells import base_answers, material
from keepshot.runs.pattern_questions import Questions, Rate, best_constant, rates
from keepshot.runs.pattern_record import best_shots, chosen_cells, patterns_record, patterns_rows
from keepshot.runs.patterns import patterns
from keepshot.runs.patterns_config import PatternCell, load_patterns
from keepshot.runs.subjects import load_subject
from keepshot.tasks.patterns import items
from keepshot.tasks.read import read_examples

SMALL: dict[str, Any] = {
    "model": "mini",
    "suite": SMALL_SUITE,
    "tasks": ["parity"],
    "size": "small",
    "methods": ["full"],
    "learning_rates": [1e-4],
    "steps": [1],
    "seeds": [0],
    "examples": [4],
    "shots": [0, 1, 2],
    "validation": 3,
    "test": 4,
    "train": {"per_device_train_batch_size": 4, "save_strategy": "no"},
    "evaluate": {"shots": [0, 1], "sets": 2, "queries": 1},
}


def test_oracles_have_the_rates_of_what_they_do() -> None:
    asked = (*items("boolean", "test", 40, size="small"), *items("boolean", "test", 40, broken=True, size="small"))
    rule = rates("boolean", asked, [item.formal_answer for item in asked])
    assert (rule.holds.value, rule.broken.value, rule.pattern_use.value) == (1, 1, 0)
    shortcut = rates("boolean", asked, [item.shortcut_answer for item in asked])
    differ = [item for item in asked if not item.pattern_holds and item.shortcut_answer != item.formal_answer]
    assert (shortcut.holds.value, shortcut.pattern_use.value, shortcut.pattern_use.n) == (1, 1, len(differ))
    assert shortcut.broken.value == 1 - len(differ) / 40
    nothing = rates("boolean", asked, ["perhaps"] * 80)
    assert (nothing.holds.value, nothing.broken.value, nothing.pattern_use.value) == (0, 0, 0)
    assert 0.5 <= best_constant(asked).holds.value <= 0.75
    assert best_constant(asked[:40]).broken is None


def test_wilson_intervals() -> None:
    """Against the closed form: (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)."""
    z, p, n = 1.959964, 0.3, 20
    middle, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    found = Rate.of([True] * 6 + [False] * 14)
    assert (found.low, found.high) == pytest.approx(
        ((middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)), abs=1e-5
    )


def test_demonstrations_hold_their_pattern_and_stay_as_more_come() -> None:
    shown = tuple(items("parity", "train", 9, size="small"))
    asked = (*items("parity", "test", 5, size="small"), *items("parity", "test", 5, broken=True, size="small"))
    questions = Questions("parity", asked, shown, 3)
    two, eight = questions.prompts(2), questions.prompts(8)
    assert [prompt[-1].input for prompt in two] == [item.question for item in asked]
    assert all(more[:2] == few[:2] for few, more in zip(two, eight, strict=True))
    assert all(len({one.input for one in prompt}) == 9 for prompt in eight)
    assert {one.input for prompt in eight for one in prompt[:-1]} <= {item.question for item in shown}
    assert len({prompt[:2] for prompt in two}) > 5  # each query has its own
    assert Questions("parity", asked, shown, 4).prompts(2) != two


def cell(**changes: Any) -> PatternCell:
    given = {"task": "parity", "method": "full", "examples": 4, "learning_rate": 1e-4, "steps": 1, "seed": 0}
    return PatternCell(**(given | changes))


def came_to(validation: float, test: float = 0.5, retention: float | None = 0.9, failed: str = "") -> dict[str, Any]:
    def share(value: float) -> dict[str, float]:
        return {"value": value, "low": value, "high": value, "n": 10}

    shares = {"holds": share(test), "broken": share(1 - test), "pattern_use": share(test)}
    return {
        "failed": failed,
        "shots": 2,
        "retention": retention,
        "validation": None if failed else {"holds": share(validation), "broken": None, "pattern_use": None},
        "test": None if failed else {"0": shares, "2": shares},
        "written": {"0": ["even"] * 4, "2": ["odd"] * 4},
    }


def test_settings_are_chosen_on_validation_over_all_seeds() -> None:
    found = {
        cell(learning_rate=rate, seed=seed): came_to(validation, test)
        for rate, seed, validation, test in (
            (1e-4, 0, 0.9, 0.1), (1e-4, 1, 0.5, 0.3), (3e-4, 0, 0.8, 0.2), (3e-4, 1, 0.8, 0.4), (9e-4, 0, 1.0, 1.0),
        )
    } | {cell(learning_rate=9e-4, seed=1): came_to(0, failed="training diverged")}  # fmt: skip
    assert {(one.learning_rate, one.seed) for one in chosen_cells(found)} == {(3e-4, 0), (3e-4, 1)}
    config = load_patterns(SMALL)
    asked = items("parity", "test", 4, size="small")
    written = {"test": {"0": [""] * 4, "2": ["odd"] * 4, "4": None}}
    told = found[cell()]
    chose = {"0": None, "2": told["validation"]}
    base = {"parity": {"validation": chose, "test": {"0": told["test"]["0"]}, "written": written}}
    [tuned] = patterns_record(config, base, found, {"parity": asked})["tasks"]["parity"]["methods"]
    assert (tuned["learning_rate"], tuned["seeds"]) == (3e-4, 2)
    holds = tuned["test"]["0"]["holds"]
    assert holds["value"] == pytest.approx(0.3)
    assert (holds["low"], holds["high"]) == (0, 1)  # t of one degree of freedom
    assert tuned["retention"]["high"] == 0.9
    [odd] = {sum(item.answer == "odd" for item in asked)}
    beyond = tuned["beyond_context"]  # 4 examples do not fit, so it is that of the best number
    assert (beyond["shots"], beyond["holds"]["value"], beyond["broken"]) == (2, (4 - 2 * odd) / 4, None)
    rows = list(csv.DictReader(patterns_rows(found).splitlines()))
    assert (len(rows), rows[-1]["failed"], rows[0]["zero_holds"], rows[0]["few_broken_low"]) == (
        6, "training diverged", "0.1000", "0.9000",
    )  # fmt: skip
    failed = patterns_record(config, base, {cell(): came_to(0, failed="x")}, {"parity": asked})
    assert failed["tasks"]["parity"]["methods"][0]["failed"] == "every setting failed with some seed"


def test_every_seed_draws_its_own_examples() -> None:
    made = material(load_patterns(SMALL, ["examples=[8, 64]"]), "parity")
    few = [made.sample(8, seed) for seed in range(3)]
    assert len({frozenset(item.question for item in drawn) for drawn in few}) == 3
    assert [made.sample(64, seed)[:8] for seed in range(3)] == few
    assert len({frozenset(item.question for item in made.sample(64, seed)) for seed in range(3)}) == 3
    assert len({item.question for item in made.train}) == 128


def test_a_training_reads_what_its_seed_draws(tmp_path: Path) -> None:
    config = load_patterns(SMALL, ["seeds=[0, 1]", f"output={tmp_path}"])
    made = {"parity": material(config, "parity")}
    experiment._open(config, made, resume=False)
    for one in config.cells():
        read = read_examples(str(config.run(one).data.train)).examples
        assert [row.input for row in read] == [item.question for item in made["parity"].sample(4, one.seed)]
    (config.data_folder("parity") / "test.jsonl").write_text("")
    with pytest.raises(RunError, match=r"test\.jsonl holds other problems than are drawn now; choose another --output"):
        experiment._open(config, made, resume=True)


def test_a_method_with_a_soft_prompt_is_asked_behind_it(
    tiny_base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SMALL | {"model": tiny_base, "methods": ["promot"], "output": str(tmp_path / "run"), "test": 2}
    prompts = []

    def load(name: str, template: str, *, prompt: Path | None = None, **_: object) -> Any:
        prompts.append(prompt)
        return load_subject(name, template, prompt=prompt)

    monkeypatch.setattr(pattern_cells, "load_subject", load)
    folder = patterns(load_patterns(settings))
    [done] = folder.rglob("cells/**/patterns.json")
    assert prompts == [None, done.parent / "prompt"]
    plain = SMALL | {"output": str(tmp_path / "plain")}
    experiment._open(load_patterns(plain), {}, resume=False)
    more = load_patterns(plain | {"methods": ["full", "promot"]})
    with pytest.raises(RunError, match="leaves 0 tokens to a soft prompt, and a method needs"):
        experiment._open(more, {}, resume=True)


def test_a_chat_model_s_answer_ends_with_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the model's own settings do not name the token that ends a turn."""
    subject = load_subject("mini", "auto")
    subject.tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    subject.tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    )
    subject = replace(subject, template=ChatTemplate(subject.tokenizer))
    asked: list[tuple[str, ...]] = []

    def generate(self: object, rows: Sequence[Row], stop: Sequence[str], room: int) -> list[str]:
        asked.append(tuple(stop))
        return ["odd"] * len(rows)

    monkeypatch.setattr(type(subject.backend), "generate", generate)
    written = Questions("parity", tuple(items("parity", "test", 3)), tuple(items("parity", "train", 9)), 0).ask(
        subject, 2
    )
    assert (asked, written) == ([("<|im_end|>", "\n")], ["odd"] * 3)


def test_the_model_of_a_setting_that_becomes_the_best_is_made_again(tiny_base: str, tmp_path: Path) -> None:
    """The choice is made over all seeds, so that a grid which grows may choose a setting whose model was dropped."""
    settings = SMALL | {"model": tiny_base, "learning_rates": [1e-4, 3e-4], "output": str(tmp_path / "run")}
    said: list[str] = []
    folder = patterns(load_patterns(settings), say=said.append)
    told = [
        line for line in said if "what is kept of few-shot ability will not be measurable: at 1 shots the base" in line
    ]
    assert len(told) == 2, "this base learns nothing in context"
    models = {path.parent.name for path in folder.glob("cells/**/model")}
    assert len(models) == 1
    assert not list(folder.glob("cells/**/checkpoints"))
    [other] = {"0.0001-1-0", "0.0003-1-0"} - models
    done = folder / "cells" / "parity" / "full" / "4" / other / "patterns.json"
    better = json.loads(done.read_text())
    better["validation"]["holds"]["value"] = 2.0
    done.write_text(json.dumps(better))
    said.clear()
    patterns(load_patterns(settings), resume=True, say=said.append)
    assert any(line.startswith("training anew, since it is the best") for line in said)
    assert (done.parent / "model").exists()
    assert json.loads(done.read_text())["validation"]["holds"]["value"] <= 1


def test_numbers_of_shots_may_grow(tiny_base: str, tmp_path: Path) -> None:
    """What the base said stays, and a kept model is asked behind the number that is best now."""
    settings = SMALL | {"model": tiny_base, "output": str(tmp_path / "run")}
    folder = patterns(load_patterns(settings))
    [done] = folder.glob("cells/**/patterns.json")
    path = folder / "base" / "parity.json"
    base = json.loads(path.read_text())
    base["written"]["test"]["1"] = base["written"]["test"]["2"] = ["as it was"] * 8
    for shots in "12":
        base["validation"][shots]["holds"]["value"] = -1.0
    path.write_text(json.dumps(base))
    patterns(load_patterns(settings | {"shots": [0, 1, 2, 3]}), resume=True)
    grown = json.loads(path.read_text())
    assert list(grown["test"]) == list(grown["written"]["test"]) == ["0", "1", "2", "3"]
    assert grown["written"]["test"]["2"] == ["as it was"] * 8
    assert grown["written"]["test"]["3"] != ["as it was"] * 8
    after = json.loads(done.read_text())
    assert (after["shots"], list(after["test"]), list(after["written"])) == (3, ["0", "3"], ["0", "3"])
    assert len(after["written"]["3"]) == 8
    record = json.loads((folder / "patterns.json").read_text())
    assert record["shots"] == {"parity": 3}
    assert list(record["tasks"]["parity"]["methods"][0]["test"]) == ["0", "3"]
    with pytest.raises(RunError, match=r"asks the base behind 3 examples; shots may grow, not shrink"):
        patterns(load_patterns(settings), resume=True)


def test_of_equally_good_numbers_of_shots_the_fewest_count() -> None:
    curve = {shots: {"holds": {"value": value}} for shots, value in (("0", 1.0), ("16", 0.7), ("2", 0.7), ("8", 0.6))}
    assert best_shots({"validation": curve}) == 2


def test_shots_that_do_not_fit_the_context_are_left_out_and_named(tmp_path: Path) -> None:
    settings = SMALL | {"examples": [2, 64], "test": 2, "output": str(tmp_path)}
    config = load_patterns(settings, ["shots=[0, 1, 64]"])  # 64 examples take over 1,400 bytes
    made = material(config, "parity")
    base = base_answers(config, made)
    assert [(shots, found is None) for shots, found in base["test"].items()] == [
        ("0", False),
        ("1", False),
        ("64", True),
    ]
    assert best_shots(base) == 1
    write_json(tmp_path / "patterns.json", patterns_record(config, {"parity": base}, {}, {"parity": made.test}))
    [task] = read_patterns(tmp_path).tasks
    assert [row[3] for row in pattern_table(task).rows if row[1] == "64"] == ["does not fit"]
    assert "64" in patterns_page(tmp_path).read_text()
    with pytest.raises(
        ConfigError, match=r"no number of shots of parity fits the context of mini \(1024 tokens\); leave the task out"
    ):
        base_answers(load_patterns(settings, ["shots=[0, 64]", f"output={tmp_path / 'other'}"]), made)


def test_from_config_to_page(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SMALL | {"examples": [4, 6]}
    config = load_patterns(settings, [f"output={tmp_path / 'run'}"])
    said: list[str] = []
    folder = patterns(config, say=said.append)
    found = read_patterns(folder)
    [task] = found.tasks
    assert (task.name, sorted(task.base), [one.examples for one in task.methods]) == ("parity", [0, 1, 2], [4, 6])
    assert not any(one.failed for one in task.methods)
    assert all(one.retention is not None for one in task.methods)
    assert not any("will not be measurable" in line for line in said)
    page = (folder / "patterns.html").read_text()
    assert "<svg" in page
    assert "best constant answer" in page
    made = material(config, "parity")
    trained = read_examples(str(folder / "data" / "parity" / "train-4-0.jsonl")).examples
    assert [one.input for one in trained] == [item.question for item in made.sample(4, seed=0)]
    assert [item.pattern_holds for item in made.test] == [True] * 4 + [False] * 4
    with pytest.raises(RunError, match="already holds an experiment; add --resume"):
        patterns(config)
    with pytest.raises(RunError, match="differs from this config in test; resume with the same config"):
        patterns(load_patterns(settings, [f"output={tmp_path / 'run'}", "test=5"]), resume=True)
    with pytest.raises(RunError, match="has 6 examples at most, and all demonstrations come from these"):
        patterns(load_patterns(settings, [f"output={tmp_path / 'run'}", "examples=[4, 8]"]), resume=True)
    before = (folder / "patterns.csv").read_text()
    monkeypatch.setattr(pattern_cells, "tune", None)  # nothing is trained again
    patterns(config, resume=True, say=said.append)
    assert (folder / "patterns.csv").read_text() == before
    assert "cell 1 of 2: parity, full, 4 examples, learning rate 0.0001, 1 steps, seed 0 is there" in said
    patterns(load_patterns(settings, [f"output={tmp_path / 'run'}", "examples=[6]"]), resume=True)
    assert [one.examples for one in read_patterns(folder).tasks[0].methods] == [6]
    (folder / "patterns.html").unlink()
    assert run(["report", str(folder)]) == 0
    assert "<svg" in (folder / "patterns.html").read_text()
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(settings))
    assert run(["patterns", "run", str(path), "--output", str(folder), "--resume"]) == 0
    assert "parity: right where the pattern holds" in " ".join(capsys.readouterr().out.split())
    assert asdict(cell()) == json.loads((folder / "cells" / cell().folder / "patterns.json").read_text())["cell"]


def test_only_a_training_that_diverged_is_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_patterns(SMALL, [f"output={tmp_path / 'run'}"])
    done = Path(config.output) / "cells" / cell().folder / "patterns.json"

    def stop(error: RunError) -> None:
        def tune(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(pattern_cells, "tune", tune)

    stop(RunError("in use by another process"))
    with pytest.raises(RunError, match="in use by another process"):
        patterns(config)
    assert not done.exists()  # it can be taken up
    stop(DivergedError("the loss is not finite"))
    patterns(config, resume=True)
    assert json.loads(done.read_text())["failed"] == "the loss is not finite"
    [task] = read_patterns(config.output).tasks
    assert task.methods[0].failed == "every setting failed with some seed"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"train": "mini:word-rule"}}, "makes its data; leave data out"),
        ({"tasks": ["parity", "parity"]}, "tasks holds a value twice"),
        ({"examples": [4, 4]}, "examples holds a value twice"),
        ({"shots": [1, 2]}, "shots hold 0 and a number above it"),
        ({"shots": [0]}, "shots hold 0 and a number above it"),
        ({"shots": [0, 8]}, "8 shots need as many examples; the most is 4"),
        ({"steps": [1, 1]}, "steps holds a number twice"),
        ({"train": {"max_steps": 4}}, "train.max_steps cannot be set"),
        ({"tasks": ["chess"]}, "tasks.0"),
    ],
)
def test_what_is_no_experiment(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_patterns(SMALL | changes)


def test_a_cell_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cell 2 is none of this experiment's, which are numbered from 1 to 1"):
        patterns(load_patterns(SMALL, [f"output={tmp_path / 'run'}"]), cell=2)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty and no experiment on patterns"):
        patterns(load_patterns(SMALL, [f"output={tmp_path / 'other'}"]))


def test_methods_that_saw_as_many_examples_are_drawn_side_by_side() -> None:
    results = Path(__file__).parents[3] / "benchmarks" / "results" / "patterns-mini"
    figure = patterns_figure(read_patterns(results))
    for axis in figure.axes:
        first = [line.get_xdata()[0] for line in axis.lines if line.get_label() not in ("base, in context", "")]
        places = [float(x) for x in first if x > 1]
        assert len(set(places)) == len(places) == 4
        assert all(32 / 1.5 < place < 32 * 1.5 for place in places)
