"""The card, the figure and the lines of a rescue, from its JSON alone."""

import copy
from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import to_hex
from ruamel.yaml import YAML

from keepshot.report.drawing import AFTER, INK
from keepshot.report.rescue import draw_rescue, render_rescue, rescue_card, rescue_lines


def rate(value: float, spread: float = 0.05) -> dict[str, float]:
    return {"value": value, "low": value - spread, "high": value + spread}


def point(stage: str, target: float, kept: float, **coefficients: float) -> dict[str, Any]:
    return {"stage": stage, "coefficients": coefficients, "target": rate(target), "retention": rate(kept)}


def accuracy(value: float) -> dict[str, Any]:
    return {"0": {"accuracy": value, "low": value - 0.02, "high": value + 0.02}, "16": None}


@pytest.fixture
def result() -> dict[str, Any]:
    points = [
        *(point("common", a, 1.2 - a, mlp=a, rest=a) for a in (0.0, 1.0, 0.5)),
        point("groups", 0.9, 0.97, mlp=1.0, rest=0.5),
    ]
    return {
        "base": "org/base",
        "model_path": "model",
        "chosen": points[-1] | {"reason": "It keeps most"},
        "target": {
            "task": "intents_*", "shots": 0,
            "base": accuracy(0.1), "tuned": accuracy(0.95), "rescued": accuracy(0.94),
        },
        "held_out": {"suite": "mine"},
        "retention": {"tuned": rate(0.6), "rescued": rate(0.97)},
        "validation": {"suite": "others", "tasks": ["a", "b"], "target_rows": 50, "points": points},
        "notes": ["One | note"],
    }  # fmt: skip


def test_the_figure_has_both_curves_in_order_of_the_coefficient(result: dict[str, Any]) -> None:
    [axis] = draw_rescue(result).axes
    curves = {to_hex(line.get_color()): line for line in axis.lines if line.get_linestyle() == "-"}
    assert list(curves[AFTER].get_xdata()) == list(curves[INK].get_xdata()) == [0.0, 0.5, 1.0]
    assert list(curves[INK].get_ydata()) == [0.0, 0.5, 1.0]
    assert list(curves[AFTER].get_ydata()) == pytest.approx([1.2, 0.7, 0.2])
    rings = [line for line in axis.lines if line.get_fillstyle() == "none"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in rings] == [(0.75, 0.97), (0.75, 0.9)]
    low, high = axis.get_ylim()
    assert low < 0 < 1.25 <= high


def test_a_card_says_what_was_lost_and_given_back(result: dict[str, Any]) -> None:
    card = rescue_card(result)
    front = YAML(typ="safe").load(card.split("---")[1])
    assert front["base_model"] == "org/base"
    assert front["library_name"] == "transformers"
    assert "| tuned | 95.0% [93.0, 97.0] | 60.0% [55.0, 65.0] |" in card
    assert "| rescued | 94.0% [92.0, 96.0] | 97.0% [92.0, 102.0] |" in card
    assert "| base | 10.0% [8.0, 12.0] | 100.0% |" in card
    assert "| rest | 0.5 |" in card
    assert "intents\\_\\*" in card
    assert "- One \\| note" in card


def test_an_adapter_is_loaded_by_peft_and_a_local_base_shows_no_path(result: dict[str, Any]) -> None:
    card = rescue_card(result | {"model_path": "adapter", "base": "/home/someone/models/base"})
    assert "library_name: peft" in card
    assert "PeftModel.from_pretrained(base, 'adapter')" in card
    assert "someone" not in card
    assert "base_model" not in card


def test_what_could_not_be_measured_says_so(result: dict[str, Any]) -> None:
    unknown = copy.deepcopy(result)
    unknown["retention"]["rescued"] = dict.fromkeys(("value", "low", "high"))
    unknown["target"]["base"]["0"] = None
    assert "| rescued | 94.0% [92.0, 96.0] | not measurable |" in rescue_card(unknown)
    lines = list(rescue_lines(unknown))
    assert lines[0].startswith("base     target –")
    assert lines[2] == "rescued  target 94.0% [92.0, 96.0], few-shot ability kept not measurable"
    assert lines[3:] == ["  mlp           1", "  rest          0.5"]


def test_rendering_writes_both_files(result: dict[str, Any], tmp_path: Path) -> None:
    render_rescue(result, tmp_path)
    assert (tmp_path / "README.md").read_text() == rescue_card(result)
    assert (tmp_path / "figures" / "curve.png").read_bytes().startswith(b"\x89PNG")
