"""`keepshot probe` and `keepshot eval --context retrieved`: what they ask, print and write."""

import json
from pathlib import Path

import pytest
import torch

from keepshot.cli.main import run
from keepshot.models.load import load_model, load_tokenizer

QUICK = ["--data", "mini:misspelt", "--queries", "6", "--shots", "3"]


def test_help_has_an_example(capsys: pytest.CaptureFixture) -> None:
    assert run(["probe", "--help"]) == 0
    assert "Example: keepshot probe runs/intents/model" in " ".join(capsys.readouterr().out.split())


def test_probe(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    output = tmp_path / "probe.json"
    assert run(["probe", "mini", *QUICK, "--output", str(output)]) == 0
    said = capsys.readouterr().out
    record = json.loads(output.read_text())
    assert {"iwl", "icl", "copy", "leak"} <= set(record["scores"])
    assert record["data"] == "mini:misspelt"
    assert f"  icl        {record['scores']['icl']['value']:5.2f}" in said
    assert all(step["name"] in said for step in record["sweep"]["grades"])
    assert "mini on mini:misspelt, 6 queries behind 3 examples" in said


def test_a_file_whose_columns_are_called_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "sums.jsonl"
    file.write_text("".join(f'{{"q": "{n}", "a": "{n % 3}"}}\n' for n in range(60)) + '{"q": "60"}\n')
    asked = ["probe", "mini", "--data", str(file), "--queries", "2", "--shots", "3", "--column", "input=q"]
    assert run([*asked, "--column", "output=a"]) == 1
    assert f"{file}:61: output is missing" in " ".join(capsys.readouterr().err.split())
    assert run([*asked, "--column", "output=a", "--on-bad-row", "skip"]) == 0
    assert run([*asked, "--column", "answer=a"]) == 1
    assert "columns says where 'answer' stands" in capsys.readouterr().err


def test_what_was_moved(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model = load_model("mini", device="cpu")
    with torch.no_grad():
        model.model.layers[7].self_attn.v_proj.weight.mul_(1.5)
    model.save_pretrained(tmp_path / "tuned")
    load_tokenizer("mini").save_pretrained(tmp_path / "tuned")
    output = tmp_path / "probe.json"
    assert run(["probe", str(tmp_path / "tuned"), *QUICK, "--against", "mini", "--output", str(output)]) == 0
    drift = json.loads(output.read_text())["drift"]
    assert (drift["base"], drift["prompts"]) == ("mini", 6)
    assert drift["values"] == pytest.approx([0] * 7 + [0.5], abs=1e-4)
    assert drift["weights"]["value"] == pytest.approx([0] * 7 + [0.5], abs=1e-5)
    assert max(map(max, drift["attention"])) < 1e-6
    said = capsys.readouterr().out.splitlines()
    place = next(number for number, line in enumerate(said) if "moved from mini, on 6 prompts" in line)
    assert said[place + 9].split()[:4] == ["7", "0.000", "0.000", "0.500"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["probe", "mini", "--data", "mini:absent"], "absent"),
        (["probe", "mini", *QUICK, "--metric", "best"], "there is no metric 'best' for texts"),
        (["probe", "mini", *QUICK, "--output", "."], "is a folder; name a .json file"),
        (["eval", "mini", "--context", "retrieved"], "--context retrieved needs --data and --store"),
        (["eval", "mini", "--store", "store.jsonl"], "--data and --store belong to --context retrieved"),
    ],
)
def test_what_cannot_be_asked(arguments: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert run(arguments) == 1
    said = capsys.readouterr()
    assert message in said.err + said.out
    assert "Traceback" not in said.err


def test_a_store(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    store, output = tmp_path / "store.jsonl", tmp_path / "adapted.json"
    store.write_text('{"new": "qqjjxx", "output": "vb"}\n{"new": "qqjjxx"}\n')
    named = ["--column", "input=new", "--on-bad-row", "skip"]
    asked = ["--data", "mini:misspelt", "--store", str(store), "--sets", "1", "--queries", "5", "--shots", "2"]
    assert run(["eval", "mini", "--context", "retrieved", *asked, *named, "--output", str(output)]) == 0
    said = capsys.readouterr().out
    record = json.loads(output.read_text())
    assert (record["schema"], record["stored"], record["shots"]) == ("keepshot.adaptation/1", 1, 2)
    assert record["near"] is None
    assert record["all"]["without"]["n"] == 5
    assert "nearest to the store: none" in said
    assert "nearest to training data (5)" in said
