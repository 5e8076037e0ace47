"""A model that is tuned on answers of several lines writes them and stops; what it would write is what was scored."""

import json
from pathlib import Path

from tests.training import SMALL_SUITE, byte_tokenizer

from keepshot.evaluation.generation import generate
from keepshot.keys import generator
from keepshot.models.load import load_model
from keepshot.prompts import PLAIN, encode
from keepshot.runs import tune
from keepshot.tasks.example import Example


def rows(count: int) -> list[dict[str, str]]:
    """Made-up words, whose answers are the word on each of two lines."""
    draw = generator(0, "words")
    words = {
        "".join(draw.choice("bcdfghjklmnprst") + draw.choice("aeiou") for _ in range(3)): None for _ in range(count)
    }
    return [{"input": word, "output": f"{word}\n{word}"} for word in words]


def test_answers_of_several_lines_are_learned_with_their_end(tmp_path: Path) -> None:
    made = rows(400)
    for name, part in (("train", made[:300]), ("test", made[300:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    config = {
        "model": "mini",
        "data": {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "test")},
        "suite": SMALL_SUITE,
        "method": "full",
        "output": str(tmp_path / "run"),
        "train": {
            "max_steps": 30,
            "per_device_train_batch_size": 8,
            "learning_rate": 1e-3,
            "use_cpu": True,
            "bf16": False,
        },
        "evaluate": {"shots": [0, 1], "sets": 2, "queries": 20},
    }
    tune(config)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    scored = report["target"]["after"]["0"]["accuracy"]
    assert report["target"]["before"]["0"]["accuracy"] < 0.1
    assert scored > 0.9
    assert report["prompt"]["stop"] == ["\nQ:"]
    asked = [Example(row["input"], row["output"]) for row in made[300:320]]
    prompts = encode([PLAIN.render([example]) for example in asked], byte_tokenizer())
    model = load_model(str(tmp_path / "run" / "model"), device="cpu")
    written = generate(model, byte_tokenizer(), prompts, report["prompt"]["stop"], 40)
    assert sum(text == example.output for text, example in zip(written, asked, strict=True)) > 0.9 * len(asked)
