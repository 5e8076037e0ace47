import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from keepshot.models.digest import model_digest
from keepshot.models.load import load_model
from keepshot.models.source import model_source
from keepshot.strategies import Lora, apply_trainable


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_source("mini"), tmp_path / "base"))


def test_a_copy_is_the_same_model_and_weights_settings_and_tokenizer_make_another(base: Path) -> None:
    first = model_digest(str(base))
    assert first == model_digest("mini")
    (base / "card.json").write_text("{}")  # says what it can do, and changes nothing
    assert model_digest(str(base)) == first
    weights = load_file(base / "model.safetensors")
    found = {first}
    for name in (min(weights), max(weights)):
        save_file(weights | {name: weights[name] * 1.01}, base / "model.safetensors", {"format": "pt"})
        found.add(model_digest(str(base)))
    fused = max(weights, key=lambda name: weights[name].numel())
    for place in (-1, len(weights[fused]) // 2):  # as the rows of one role in a tensor of several
        moved = weights[fused].clone()
        moved[place] += 1
        save_file(weights | {fused: moved}, base / "model.safetensors", {"format": "pt"})
        found.add(model_digest(str(base)))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"rope_theta": 1.0}))
    found.add(model_digest(str(base)))
    with (base / "tokenizer.json").open("a") as file:
        file.write("\n")
    found.add(model_digest(str(base)))
    assert len(found) == 7


def test_an_adapter_is_another_on_another_base(base: Path, tmp_path: Path) -> None:
    trained = apply_trainable(load_model(str(base), device="cpu"), Lora(r=2), seed=0)
    trained.model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    first = model_digest(str(tmp_path / "adapter"))
    assert first == model_digest(str(tmp_path / "adapter")) != model_digest(str(base))
    weights = load_file(base / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, base / "model.safetensors", {"format": "pt"})
    assert model_digest(str(tmp_path / "adapter")) != first
