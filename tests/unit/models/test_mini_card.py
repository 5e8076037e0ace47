import hashlib
from pathlib import Path
from random import Random

import pytest
import torch
from transformers.modeling_outputs import CausalLMOutputWithPast

from keepshot.files import read_json
from keepshot.models import mini_card
from keepshot.models.load import load_model
from keepshot.models.mini_card import CARD, card_tables, curves, row_loss
from keepshot.models.source import model_source
from keepshot.tasks.universe import FAMILIES, HELD_OUT_FAMILIES, INSTRUCTED_FAMILIES, SyntheticTask, episode

BUNDLED = Path(model_source("mini"))


@pytest.fixture(scope="module")
def card() -> dict:
    return read_json(BUNDLED / CARD)


def test_weights_and_card_belong_together(card: dict) -> None:
    weights = (BUNDLED / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == card["sha256"]
    assert len(weights) == card["bytes"] <= 20 * 2**20
    assert card["parameters"] <= 9_000_000


def test_weights_and_recipe_belong_together(card: dict) -> None:
    """The loss on rows that are drawn now, by other keys than the card's, is the card's within its interval."""
    found = row_loss(load_model("mini", device="cpu"), 32, "test")
    assert found["low"] < card["loss"]["nats"] < found["high"]
    assert card["loss"]["low"] < found["nats"] < card["loss"]["high"]
    assert found["high"] - found["low"] < 0.7 * card["loss"]["nats"]


def test_the_page_shows_the_card(card: dict) -> None:
    page = (BUNDLED / "README.md").read_text()
    for table in card_tables(card).split("\n\n"):
        assert table in page
    assert card["sha256"] in page
    assert f"{card['loss']['nats']:.4f}" in page
    held_out = [curve["16"]["accuracy"] for curve in card["curves"]["held out"].values()]
    assert f"{sum(held_out) / len(held_out):.3f}".removeprefix("0") in page


def test_the_card_reaches_what_it_is_said_to(card: dict) -> None:
    found = card["curves"]
    assert found["training"]["all"]["16"]["accuracy"] >= 0.97
    assert found["held out"]["compositions"]["16"]["accuracy"] >= 0.90
    for family in ("relation", "category"):
        assert found["instructed"][family]["0"]["accuracy"] >= 0.95


def test_curves_are_of_all_families_and_count_what_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mini_card, "SHOTS", (0, 4))
    model = load_model("mini", device="cpu")
    found = curves(model, episodes=3)
    assert found["training"].keys() == {"all", *FAMILIES}
    assert found["held out"].keys() == set(HELD_OUT_FAMILIES)
    assert found["instructed"].keys() == {*INSTRUCTED_FAMILIES, "strings held out"}
    assert found["instructed"]["relation"]["0"]["accuracy"] == 1
    point = found["training"]["strings"]["0"]
    assert point["n"] == 3
    assert point["low"] <= point["accuracy"] <= point["high"]


def test_an_answer_is_right_if_all_its_bytes_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that always writes what `upper` asks for is right on its examples, and wrong where one letter differs."""
    task = SyntheticTask("strings", "upper", lambda random: random.choice(("ab", "cd")), str.upper)
    rows = [episode(Random(0), 60, task=task), episode(Random(1), 40, task=task)]

    def knowing(input_ids: torch.Tensor, use_cache: bool) -> CausalLMOutputWithPast:
        logits = torch.nn.functional.one_hot(input_ids.roll(-1, 1), 256).float()
        # The second letter of the first row's second answer is wrong.
        answers = [i for i, answer in enumerate(rows[0][1]) if answer]
        logits[0, answers[4 + 2] - 1] = 0
        return CausalLMOutputWithPast(logits=logits)

    model = load_model("mini", device="cpu")
    monkeypatch.setattr(model, "forward", knowing)
    first, second = mini_card._right(model, rows)
    assert first == [True, False, *[True] * (len(first) - 2)]
    assert all(second)
    assert len(first) == bytes(rows[0][0]).count(b"Q: ") > len(second)
