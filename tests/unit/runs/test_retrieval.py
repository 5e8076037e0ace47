"""The index stands beside the run and is read again; contexts of a run are what its training says they were."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from keepshot.config import load_config
from keepshot.episodes import Bm25, Contexts
from keepshot.episodes.paraphrases import Edits, read_paraphrases
from keepshot.errors import ConfigError, DataError
from keepshot.runs import retrieval, tune
from keepshot.runs.retrieval import keep_similarity, similarity_over
from keepshot.tasks.example import Example

TEXTS = ["book a table for two", "book a flight to rome", "play some music now", "play me a song"]


def test_an_index_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "index"
    built = similarity_over(TEXTS, "auto", folder)
    assert not folder.exists()  # a folder that is no run yet is left alone
    keep_similarity(built, TEXTS, "auto", folder)
    monkeypatch.setattr(retrieval, "Bm25", _Loaded)
    again = similarity_over(TEXTS, "auto", folder)
    assert np.array_equal(again.to("book a song"), built.to("book a song"))
    for texts, name in ((TEXTS[1:], "auto"), (TEXTS, "characters")):
        with pytest.raises(AssertionError, match="built anew"):
            similarity_over(texts, name, folder)
    (folder / "index.json").write_text("{")
    with pytest.raises(AssertionError, match="built anew"):
        similarity_over(TEXTS, "auto", folder)


class _Loaded:
    def __init__(self, *_: object) -> None:
        raise AssertionError("built anew")

    load = staticmethod(Bm25.load)


def test_a_model_of_embeddings_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigError, match=r"needs the extra dense: pip install 'keepshot\[dense\]'"):
        similarity_over(TEXTS, "org/sentences")


def test_a_run_with_contexts(tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text("".join(f'{{"input": "{number}", "output": "{number % 3}"}}\n' for number in range(20, 40)))
    config = load_config(
        {
            "model": "mini",
            "data": {"train": "mini:misspelt"},
            "method": ["value", {"ic-contrastive": {"shots": [2, 3]}}],
            "output": str(tmp_path / "run"),
            "train": {"max_steps": 2, "per_device_train_batch_size": 4, "save_strategy": "no"},
            "evaluate": {"shots": [0, 1], "sets": 2, "queries": 1},
            "suite": str(other),
        }
    )
    said: list[str] = []
    folder = tune(config, say=said.append)
    drawn = json.loads(folder.training.read_text())["streams"]["target"]["contexts"]
    assert drawn["visits"] == 8
    assert sum(drawn["grades"].values()) == pytest.approx(1)
    assert {file.name for file in folder.index.iterdir()} == {"bm25.safetensors", "index.json"}
    tune(config, resume=True, say=said.append)


def test_edits_change_input_and_copied_answer_alike() -> None:
    pool = [Example(f"play songs by {name}", f"artist = {name}") for name in ("Nina", "Cher", "Prince")]
    for row, [edited] in enumerate(Edits(pool, seed=3)[row] for row in range(3)):
        name = edited.input.removeprefix("play songs by ")
        assert edited.output == f"artist = {name}"
        assert edited.input != pool[row].input
        assert name in ("Nina", "Cher", "Prince")
    [edited] = Edits([Example("turn it off", "off-intent")], seed=0)[0]
    assert sorted(edited.input.split()) == ["it", "off", "turn"]
    assert (edited.input != "turn it off", edited.output) == (True, "off-intent")
    assert Edits([Example("a", "x"), Example("zz", "y")], seed=0)[0] == ()
    assert Edits([Example("a", "x"), Example("zz", "y")], seed=0)[1] == ()  # both characters are the same
    assert (len(Edits(pool, 0)), list(Edits(pool, 0))) == (3, [0, 1, 2])


def test_an_edit_leaves_a_label_as_it_is() -> None:
    pool = [Example(f"please book {what} number {n}", f"book {what}") for what in ("hotel", "flight") for n in range(9)]
    labels = ("book flight", "book hotel")
    edited = [said for row in range(18) for said in Edits(pool, 0, labels)[row]]
    assert {one.output for one in edited} == set(labels)
    assert all(sorted(one.input.split()) == sorted(of.input.split()) for one, of in zip(edited, pool, strict=True))
    assert any(one.output not in labels for row in range(18) for one in Edits(pool, 0)[row])
    config = load_config(
        {"model": "mini", "data": {"train": "mini:misspelt"}, "method": ["full", {"ic-contrastive": {"shots": [2, 2]}}]}
    )
    sampler = retrieval.context_sampler(config.strategy()[1].streams[0], pool, 0, None)
    assert {said.output for row in range(18) for said in sampler.paraphrases[row]} == set(labels)


def test_paraphrases_from_a_file(tmp_path: Path) -> None:
    pool = [Example("turn it off", "off"), Example("turn it on", "on"), Example("turn it off", "off")]
    path = tmp_path / "said.jsonl"
    path.write_text('{"of": "turn it off", "input": "switch it off", "output": "off"}\n\n')
    found = read_paraphrases(path, pool)
    assert sorted(found) == [0, 2]
    assert found[0][0].input == "switch it off"
    for line, message in (
        ("[]", "a paraphrase has the texts of, input and output"),
        ('{"of": "turn it off", "input": "x"}', "a paraphrase has the texts"),
        ("{", "line 1: no JSON"),
        ('{"of": "sing", "input": "x", "output": "y"}', "'sing' is no input of the training data"),
        ('{"of": "turn it off", "input": "Turn it  off", "output": "off"}', "is the same text"),
        ('{"of": "turn it off", "input": "off it", "output": " "}', "has an empty output"),
    ):
        path.write_text(line)
        with pytest.raises(DataError, match=message):
            read_paraphrases(path, pool)
    with pytest.raises(DataError, match="cannot be read"):
        read_paraphrases(tmp_path / "absent", pool)


def test_the_config_reaches_the_sampler(tmp_path: Path) -> None:
    said = tmp_path / "said.jsonl"
    said.write_text('{"of": "book a table for two", "input": "a table for two", "output": "x"}')
    law = {"kind": "within", "nearest": 2, "duplicate": 0.5, "similarity": "characters", "paraphrases": str(said)}
    config = load_config(
        {
            "model": "mini",
            "data": {"train": "mini:misspelt"},
            "method": ["full", {"ic-random": {"shots": [2, 2], "scored": "all", "context": law}}],
        }
    )
    spec = config.strategy()[1].streams[0]
    sampler = retrieval.context_sampler(spec, [Example(text, "x") for text in TEXTS], 7, None)
    assert isinstance(sampler, Contexts)
    assert (sampler.kind, sampler.nearest, sampler.scored, sampler.seed) == ("within", 2, "all", 7)
    assert list(sampler.paraphrases) == [0]
    assert sampler.neighbours.similarity.unit == "characters"
