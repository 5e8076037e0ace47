"""Circuits of an experiment on patterns: which problems are compared, what is recorded, what is shown."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training import SMALL_SUITE

from keepshot.cli.main import run
from keepshot.config import save_config
from keepshot.errors import DataError, RunError
from keepshot.models.load import load_tokenizer
from keepshot.probes.patching import Component, Patched
from keepshot.prompts import PLAIN
from keepshot.report.circuits import (
    PartFigures,
    StateFigures,
    circuit_figure,
    circuit_table,
    matched_sentence,
    read_circuits,
)
from keepshot.runs import circuits as module
from keepshot.runs.circuit_pairs import Partners, as_pair, partners, relabelled
from keepshot.runs.circuit_record import State, circuits_record
from keepshot.runs.circuits import circuits
from keepshot.runs.pattern_questions import Rate, Rates
from keepshot.runs.patterns import patterns
from keepshot.runs.patterns_config import PatternCell, load_patterns
from keepshot.tasks.example import Example
from keepshot.tasks.patterns import REPAIRED, as_examples, items

TOKENIZER = load_tokenizer("mini")


@pytest.mark.parametrize("task", REPAIRED)
def test_partners_have_one_length_another_answer_and_no_nearer_one(task: str) -> None:
    pool = list(as_examples(task, items(task, "train", 120, size="small")))
    found = partners(pool[:20], pool, PLAIN, TOKENIZER)
    assert len(found) >= (10 if task != "code" else 1)
    assert len({both.corrupt.input for both in found}) == len(found)
    assert found[0].clean == pool[0]
    for both in found[:1]:  # the first may choose among all
        assert both.clean.output != both.corrupt.output
        assert len(both.clean.input) == len(both.corrupt.input)
        other = [one for one in pool if one.output != both.clean.output and len(one.input) == len(both.clean.input)]
        assert distance(both.clean, both.corrupt) == min(distance(both.clean, one) for one in other)


def distance(one: Example, other: Example) -> int:
    return sum(a != b for a, b in zip(one.input, other.input, strict=True))


def text(ids: tuple[int, ...]) -> str:
    return TOKENIZER.decode(ids, skip_special_tokens=True)


def test_a_pair_ends_where_the_answers_part() -> None:
    both = Partners(Example("7+5", "12"), Example("7+8", "15"))
    pair = as_pair(both, (), PLAIN, TOKENIZER)
    assert (text(pair.clean), text(pair.corrupt)) == ("Q: 7+5\nA: 1", "Q: 7+8\nA: 1")
    assert (text((pair.right,)), text((pair.wrong,)), pair.query) == ("2", "5", 0)
    shown = (Example("1+1", "2"), Example("2+2", "4"))
    behind = as_pair(both, shown, PLAIN, TOKENIZER)
    assert text(behind.clean) == "Q: 1+1\nA: 2\nQ: 2+2\nA: 4\nQ: 7+5\nA: 1"
    assert text(behind.clean[behind.query :]) == "Q: 7+5\nA: 1"
    # The answer that ends earlier parts from the other at its end.
    longer = as_pair(Partners(Example("a", "1"), Example("b", "12")), (), PLAIN, TOKENIZER)
    assert (text((longer.right,)), text((longer.wrong,))) == ("\n", "2")
    assert as_pair(Partners(Example("a", "1"), Example("bc", "2")), (), PLAIN, TOKENIZER) is None


def test_the_lens_is_asked_behind_the_context_of_its_state(config: dict[str, Any], folder: Path) -> None:
    loaded = load_patterns(config | {"output": str(folder)})
    made = module.material(loaded, "parity")
    bare, few, random = module._asked(loaded, made, 2, 6, "answer")
    assert len(bare.problems) == len(few.problems) == len(random.problems) == 6
    for one, behind, guessed in zip(bare.problems, few.problems, random.problems, strict=True):
        question = text(one.clean).split("Q: ")[1].split("\n")[0]
        assert not next(item for item in made.test if item.question == question).pattern_holds
        assert text(one.clean).count("Q:") == 1
        for shown in (behind, guessed):
            assert text(shown.clean).count("Q:") == 3
            assert text(shown.clean[shown.query :]).endswith(question + "\nA: ")
            assert (shown.right, shown.wrong) == (one.right, one.wrong)
    assert [one.clean for one in few.problems] != [one.clean for one in random.problems]


def test_random_labels_are_keyed_and_leave_the_inputs() -> None:
    shown = [Example(str(n), "even", "Which?", aliases=("no",)) for n in range(40)]
    found = relabelled(shown, ["even", "odd"], 0, "a")
    assert [one.input for one in found] == [one.input for one in shown]
    assert 8 < sum(one.output == "odd" for one in found) < 32
    assert all(one.answers == (one.output,) and one.instruction == "Which?" for one in found)
    assert found == relabelled(shown, ["even", "odd"], 0, "a")
    assert found != relabelled(shown, ["even", "odd"], 0, "b")


SMALL: dict[str, Any] = {
    "suite": SMALL_SUITE, "tasks": ["parity"], "size": "small", "methods": ["full", "lora"],
    "steps": [2], "seeds": [0, 1],
    "learning_rates": {"full": [1e-2], "lora": [1e-1]}, "examples": [8], "shots": [0, 4], "validation": 4, "test": 6,
    "train": {"per_device_train_batch_size": 4, "save_strategy": "no"},
    "evaluate": {"shots": [0, 1], "sets": 2, "queries": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def config(tiny_base: str) -> dict[str, Any]:
    return SMALL | {"model": tiny_base}


@pytest.fixture(scope="module")
def folder(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return patterns(config, output=tmp_path_factory.mktemp("patterns") / "run")


def test_an_experiment_shows_its_circuits(
    config: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    found = json.loads(circuits(folder, pairs=6, batch=4, say=said.append).read_text())
    assert said[0] == "parity: 6 pairs, 4 examples in context"
    assert len([line for line in said if "patching" in line]) == 3 + 4
    states = {state["name"]: state for state in found["tasks"]["parity"]["states"]}
    assert list(states) == ["base", "in context", "random labels", "full, 8 examples", "lora, 8 examples"]
    assert [state["seeds"] for state in states.values()] == [None, None, None, 2, 2]
    assert [state["shots"] for state in states.values()] == [0, 4, 4, 0, 0]
    for name, state in states.items():
        assert state["whole"] == pytest.approx(1, abs=1e-3)
        for part, width in (("heads", 4), ("MLPs", 1)):
            scores = torch.tensor(state["parts"][part]["scores"])
            assert scores.shape == (2, width)
            assert float(scores.sum()) == pytest.approx(1)
            moved = state["parts"][part]["shift"]["l1"]["value"]
            assert moved == pytest.approx(0, abs=1e-6) if name == "base" else moved > 0.01
    assert states["full, 8 examples"]["parts"]["heads"]["shift"]["l1"]["low"] is not None
    assert all(state["lens"].keys() == {"shortcut", "rule"} for state in states.values())
    answered = json.loads((folder / "base" / "parity.json").read_text())["test"]
    for name, shots in (("base", "0"), ("in context", "4")):
        assert states[name]["pattern_use"]["value"] == answered[shots]["pattern_use"]["value"]
    for part in ("heads", "MLPs"):
        for name in ("in context", "random labels"):
            moved = states[name]["parts"][part]["shift"]["l1"]
            assert moved["low"] < moved["high"]  # over pairs
        assert found["tasks"]["parity"]["context"][part]["shift"]["l1"]["value"] > 0.001
    wanted = states["in context"]["accuracy"]["value"]
    for one in found["tasks"]["parity"]["matched"]:
        assert one["difference"] == pytest.approx(states[one["state"]]["accuracy"]["value"] - wanted)
    assert [one["state"] for one in found["tasks"]["parity"]["matched"]] == ["full, 8 examples", "lora, 8 examples"]
    page = (folder / "patterns.html").read_text()
    assert "which heads and MLPs carry the answer" in page
    assert (folder / "circuits-parity.png").stat().st_size > 10_000

    # What was patched is kept: nothing is patched again, and the record is the same.
    monkeypatch.setattr(module, "patch", None)
    grown = load_patterns(config | {"tasks": ["parity", "boolean"], "output": str(folder)})
    save_config(grown, folder / "config.yaml")  # as a cell of another task does; its task is not reported yet
    assert run(["patterns", "circuits", str(folder), "--pairs", "6"]) == 0
    again = json.loads((folder / "circuits.json").read_text())
    assert {**again, "created": ""} == {**found, "created": ""}
    shown = capsys.readouterr().out
    assert "in context, from random labels, 4 shots" in shown
    assert "Nearest to the base in context in accuracy" in " ".join(shown.split())
    assert "lora, 8 examples, 0 shots" in shown


def test_a_folder_without_an_experiment_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no finished experiment"):
        circuits(tmp_path)
    (folder / "circuits.json").write_text('{"schema": "keepshot.run/1"}')
    with pytest.raises(RunError, match=r"reads keepshot.circuits/1"):
        read_circuits(folder)
    (folder / "circuits.json").unlink()
    assert read_circuits(folder) == {}


def test_circuits_of_other_trainings_go_when_the_experiment_grows(config: dict[str, Any], folder: Path) -> None:
    circuits(folder, pairs=2)
    said: list[str] = []
    patterns(config, output=folder, resume=True, say=said.append)
    assert (folder / "circuits.json").exists()
    record = json.loads((folder / "circuits.json").read_text())
    record["tasks"]["parity"]["states"][3]["trainings"] = ["parity/full/8/0.5-2-0"]
    (folder / "circuits.json").write_text(json.dumps(record))
    patterns(config, output=folder, resume=True, say=said.append)
    assert not (folder / "circuits.json").exists()
    assert any("was of others and is gone" in line for line in said)
    assert "carry the answer" not in (folder / "patterns.html").read_text()


def test_the_corrupt_problem_may_have_a_broken_pattern(
    config: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_patterns(config | {"output": str(folder)})
    made = module.material(loaded, "parity")
    broken = {item.question for item in items("parity", "test", 30, broken=True, size="small")}
    for kind in ("answer", "pattern"):
        for pair in module._asked(loaded, made, 2, 6, kind)[0].pairs:
            question = text(pair.corrupt).split("Q: ")[1].split("\n")[0]
            assert (question in broken) is (kind == "pattern")
    said: list[str] = []
    monkeypatch.setattr(module, "partners", lambda *given: partners(*given)[:2])
    found = json.loads(circuits(folder, pairs=3, corrupt="pattern", say=said.append).read_text())
    assert found["corrupt"] == "pattern"
    assert "  note: 1 of 3 problems have no partner left; more --pairs give more" in said
    assert "another answer and a broken pattern" in (folder / "patterns.html").read_text()


def test_too_few_pairs_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "partners", lambda *given: [])
    with pytest.raises(DataError, match="parity gives 0 pairs"):
        circuits(folder, pairs=2)


def concentrated(head: int, noise: float = 0.0) -> Patched:
    every = (*(Component(0, one) for one in range(4)), Component(0))
    draw = torch.Generator().manual_seed(head)
    effects = torch.tensor([[float(one.head == head)] * 10 for one in every]) + noise * torch.rand(
        5, 10, generator=draw
    )
    return Patched(every, effects, torch.ones(10), torch.zeros(10), torch.ones(10))


def test_a_shift_within_the_floor_stands_in_parentheses(tmp_path: Path) -> None:
    cell = PatternCell("parity", "full", 8, 1e-4, 2, 0)
    config = load_patterns(SMALL | {"model": "mini"})
    rate = Rate(0.5, 0.4, 0.6, 10)
    rates = Rates(rate, rate, None)
    states = [
        State("base", 0, rates, concentrated(0, 0.5)),
        State("same", 0, rates, concentrated(0, 0.5), cell=cell),
        State("other", 0, Rates(None, None, rate), concentrated(3, 0.5), cell=cell),
    ]
    record = circuits_record(config, {"parity": states}, "answer")
    (tmp_path / "circuits.json").write_text(json.dumps(record))
    found = read_circuits(tmp_path)["parity"]
    table = circuit_table(found, "heads")
    same, other, between = table.rows
    assert same[4].startswith("(0.00")
    assert not other[4].startswith("(")
    assert (same[3], other[2]) == ("–", "–")
    assert other[3].startswith("50%")
    assert between[0] == "same, from random labels"
    assert matched_sentence(found).startswith("Nearest") is bool(found.matched)
    assert matched_sentence(replace(found, matched=())) == ""
    assert between[4].split()[0] == other[4].split()[0]  # same is the base
    assert [len(row) for row in table.rows] == [len(table.header)] * 3
    assert record["tasks"]["parity"]["states"][2]["parts"]["heads"]["shift"]["l1"]["value"] == pytest.approx(
        0.5 * sum(abs(a - b) for a, b in zip(scores(record, 0), scores(record, 2), strict=True))
    )


def test_a_map_shows_the_whole_name_of_its_state() -> None:
    part = PartFigures(((0.5, 0.5),), {}, {})
    name = "full+self-anchor+ewc, 512 examples"
    figure = circuit_figure([StateFigures(name, 0, None, None, {"heads": part, "MLPs": part}, None)])
    lines = figure.axes[0].get_title(loc="left").split("\n")
    assert " ".join(lines) == name
    assert max(map(len, lines)) <= 27


def scores(record: dict[str, Any], state: int) -> list[float]:
    return list(record["tasks"]["parity"]["states"][state]["parts"]["heads"]["scores"][0])
