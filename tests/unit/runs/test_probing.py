"""The probes of a real model, while it is trained and after; and what a store of new examples changes."""

import json
from pathlib import Path

import pytest
from tests.unit.runs.test_callback import train

from keepshot.config import DataConfig
from keepshot.errors import ConfigError
from keepshot.keys import generator
from keepshot.models.load import load_tokenizer
from keepshot.runs.adaptation import Retrieved, adaptation
from keepshot.runs.probing import SCHEMA, ProbeCallback, Probes, build_probes, probe_model

DATA = DataConfig(train="mini:misspelt")


@pytest.fixture(scope="module")
def asked() -> Probes:
    return build_probes(DATA, count=12, shots=4, seed=1)


def test_the_base_learns_from_examples_and_knows_nothing(asked: Probes, tmp_path: Path) -> None:
    record = probe_model("mini", asked, output=tmp_path / "probe.json", about="mini:misspelt")
    assert json.loads((tmp_path / "probe.json").read_text()) == record
    assert (record["schema"], record["queries"], record["shots"]) == (SCHEMA, 12, 4)
    scores = {name: found["value"] for name, found in record["scores"].items()}
    assert scores["icl"] > 0.8
    assert scores["similar"] > 0.8
    assert scores["zero_shot"] < 0.2
    assert all(found["low"] <= found["value"] <= found["high"] for found in record["scores"].values())
    grades = {step["name"]: step["correct"]["value"] for step in record["sweep"]["grades"]}
    assert grades["nearest"] > grades["random"]
    assert probe_model("mini", asked)["scores"] == record["scores"]


def test_all_models_are_asked_the_same(asked: Probes) -> None:
    assert build_probes(DATA, count=12, shots=4, seed=1).questions == asked.questions
    assert build_probes(DATA, count=12, shots=4, seed=2).questions != asked.questions


def test_it_looks_while_a_model_is_trained(asked: Probes, tmp_path: Path) -> None:
    questions = tuple(question for question in asked.questions if question.query < 2)
    brief = Probes(asked.pool, asked.queries[:2], questions, "", asked.several_lines)
    watch = ProbeCallback(load_tokenizer("mini"), brief, every=3, template="plain")
    trainer, _ = train(tmp_path, [watch])
    assert [step for step, _ in watch.seen] == [3, 4]
    assert trainer.model.training
    assert len([entry for entry in trainer.state.log_history if "keepshot/icl" in entry]) == 2
    with pytest.raises(ConfigError, match="at least 1; got 0"):
        ProbeCallback(load_tokenizer("mini"), brief, every=0)


def test_contexts_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match=r"contexts of 150 examples need \d+ tokens, more than the model's 1024"):
        probe_model("mini", build_probes(DATA, count=1, shots=150))


def test_a_store_helps_near_it_and_nowhere_else(tmp_path: Path) -> None:
    """Words that training data does not have, and the labels that arrive for them."""
    random = generator("test", "store")
    new = ["zqxwvj", "jjxzqq"]
    rows = [json.dumps({"input": "".join([*word[:5], random.choice("zqxj")]), "output": "vb"}) for word in new * 4]
    data, store, test = (tmp_path / name for name in ("data.jsonl", "store.jsonl", "test.jsonl"))
    old = [json.dumps({"input": f"{head}{tail}", "output": label})
           for head, label in (("lemon", "kk"), ("table", "tt"), ("river", "rr")) for tail in "abcdefgh"]  # fmt: skip
    data.write_text("\n".join(old))
    store.write_text("\n".join(rows))
    questions = [{"input": f"{word}s", "output": "vb"} for word in new] + [{"input": "lemons", "output": "kk"}]
    test.write_text("\n".join(map(json.dumps, questions)))
    config = DataConfig(train=str(data), test=str(test))
    record = adaptation("mini", config, store, Retrieved(shots=3), output=tmp_path / "adapted.json")
    assert json.loads((tmp_path / "adapted.json").read_text()) == record
    near, away = record["near"], record["away"]
    assert (near["without"]["n"], away["without"]["n"], record["stored"]) == (2, 1, 8)
    assert (near["without"]["value"], near["with_store"]["value"], near["difference"]["value"]) == (0, 1, 1)
    assert (away["without"]["value"], away["with_store"]["value"]) == (1, 1)
