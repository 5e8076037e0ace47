"""`keepshot rescue`: what reaches the public call, and what is said."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from keepshot.cli.main import run
from keepshot.config import DataConfig
from keepshot.runs.rescue import Rescued, RescueSettings

RATE = {"value": 0.9, "low": 0.8, "high": 1.0}
POINT = {"accuracy": 0.9, "low": 0.8, "high": 1.0}
RESULT = {
    "chosen": {"coefficients": {"query+key": 0.25, "mlp": 1.0}},
    "target": {"shots": 0, **{name: {"0": POINT} for name in ("base", "tuned", "rescued")}},
    "retention": {"tuned": {**RATE, "value": 0.5, "low": 0.4, "high": 0.6}, "rescued": RATE},
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the public call was asked; it answers at once."""
    given: dict[str, Any] = {}

    def rescue(base: str, tuned: str, **settings: Any) -> Rescued:
        given.update(settings, base=base, tuned=tuned)
        return Rescued(settings["output"], settings["output"] / "model", RESULT)

    monkeypatch.setattr(import_module("keepshot.runs.rescue"), "rescue", rescue)
    return given


def test_help_has_an_example(capsys: pytest.CaptureFixture) -> None:
    assert run(["rescue", "--help"]) == 0
    assert "Example: keepshot rescue mini runs/broken" in " ".join(capsys.readouterr().out.split())


def test_a_run_folder_needs_no_options(asked: dict[str, Any], capsys: pytest.CaptureFixture) -> None:
    assert run(["rescue", "mini", "runs/broken"]) == 0
    assert (asked["base"], asked["tuned"], asked["data"]) == ("mini", "runs/broken", None)
    assert asked["settings"] == RescueSettings()
    assert asked["output"] == Path("runs/rescue")
    said = capsys.readouterr().out
    assert "tuned    target 90.0% [80.0, 100.0], few-shot ability kept 50.0% [40.0, 60.0]" in said
    assert "query+key     0.25" in said
    assert "written: runs/rescue/model" in said


def test_every_option_arrives(asked: dict[str, Any]) -> None:
    options = (
        "--output out --data d.jsonl --validation v.jsonl --test t.jsonl --format alpaca --template chat "
        "--column input=question --on-bad-row skip --suite s --validation-suite v --max-loss 0.02 --steps 5 "
        "--no-groups --shots 8,0 --sets 3 --queries 7 --search-sets 2 --search-queries 6 --seed 9"
    )
    assert run(["rescue", "org/base", "org/tuned", *options.split()]) == 0
    assert asked["data"] == DataConfig(
        train="d.jsonl", validation="v.jsonl", test="t.jsonl", format="alpaca", template="chat", on_bad_row="skip",
        columns={"input": "question"},
    )  # fmt: skip
    assert asked["settings"] == RescueSettings(
        suite="s", validation_suite="v", max_loss=0.02, steps=5, by_group=False, shots=(0, 8), sets=3, queries=7,
        search_sets=2, search_queries=6, seed=9,
    )  # fmt: skip


@pytest.mark.parametrize(
    "option",
    [["--test", "t"], ["--validation", "v"], ["--template", "chat"], ["--format", "x"], ["--column", "input=q"]],
)
def test_options_of_the_data_need_data(option: list[str], asked: dict[str, Any], capsys: pytest.CaptureFixture) -> None:
    assert run(["rescue", "mini", "runs/broken", *option]) == 1
    assert "--data" in capsys.readouterr().err
    assert not asked
