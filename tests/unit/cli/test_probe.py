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


def test_whose_heads_and_mlps_carry_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A head and an MLP that are silent after a training carry nothing then, and did before."""
    file = tmp_path / "thirds.jsonl"
    file.write_text("".join(f'{{"input": "{n:03d}", "output": "{n % 3}"}}\n' for n in range(60)))
    model = load_model("mini", device="cpu")
    width = model.config.hidden_size // model.config.num_attention_heads
    with torch.no_grad():
        model.model.layers[7].mlp.down_proj.weight.zero_()
        model.model.layers[5].self_attn.o_proj.weight[:, width : 2 * width] = 0
    model.save_pretrained(tmp_path / "tuned")
    load_tokenizer("mini").save_pretrained(tmp_path / "tuned")
    output = tmp_path / "probe.json"
    asked = ["--data", str(file), "--queries", "4", "--shots", "2", "--circuits", "--output", str(output)]
    assert run(["probe", str(tmp_path / "tuned"), *asked]) == 1
    assert "--circuits compares two models; name the base with --against" in capsys.readouterr().err
    assert run(["probe", str(tmp_path / "tuned"), *asked, "--against", "mini"]) == 0
    found = json.loads(output.read_text())["circuits"]
    assert 2 <= found["pairs"] <= 4
    assert (found["base"], found["shots"]) == ("mini", 2)
    base, *tuned = (found["changes"][name] for name in ("examples", "tuning", "tuning behind examples"))
    assert base["MLPs"]["scores"][7][0] > 0.001
    assert base["heads"]["scores"][5][1] > 0.0001
    for change in tuned:
        assert change["MLPs"]["scores"][7][0] == pytest.approx(0, abs=1e-6)
        assert change["heads"]["scores"][5][1] == pytest.approx(0, abs=1e-6)
        assert change["MLPs"]["shift"]["l1"]["value"] > 0.001
    said = capsys.readouterr().out
    assert f"circuits from mini, on {found['pairs']} pairs of queries" in said
    assert f"shift {tuned[0]['MLPs']['shift']['l1']['value']:.2f}" in said.replace("(", "")


def test_without_pairs_there_are_no_circuits(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "alike.jsonl"
    file.write_text("".join(f'{{"input": "{n:03d}", "output": "same"}}\n' for n in range(60)))
    asked = ["--data", str(file), "--queries", "3", "--shots", "2", "--circuits", "--against", "mini"]
    assert run(["probe", "mini", *asked]) == 1
    assert "there are 0 among 3 queries; ask for more --queries" in capsys.readouterr().err


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
