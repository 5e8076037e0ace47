"""Exit statuses and messages: one line, nothing half-written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from keepshot.cli.main import app, run
from keepshot.files import write_json
from keepshot.strategies import resolve_method

COMMANDS = [
    *([name] for name in ("tune", "eval", "compare", "rescue", "gate", "report", "methods", "demo")),
    ["data", "check"],
    ["mini", "pretrain"],
    ["mini", "card"],
]


def report(folder: Path, retention: dict) -> Path:
    write_json(folder / "report.json", {"retention": retention, "gate": {"max_drop": 0.05}})
    return folder


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_an_example(command: list[str], capsys: pytest.CaptureFixture) -> None:
    assert run([*command, "--help"]) == 0
    assert f"Example: keepshot {' '.join(command)}" in " ".join(capsys.readouterr().out.split())


def test_methods_json_lists_trainables_and_additions(capsys: pytest.CaptureFixture) -> None:
    assert run(["methods", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"full", "lora", "value", "value-output", "query-key", "attention", "lora-value"} <= set(rows)
    assert {"dora", "corda"} <= set(rows)
    assert rows["auto"]["trains"].endswith(resolve_method("auto")[0])
    assert {"+general", "+icl-mix"} <= set(rows)
    assert all(row["trains"] and row["costs"] and row["cites"] for row in rows.values())


@pytest.mark.parametrize(
    ("low", "high", "status", "word"),
    [(0.97, 1.0, 0, "pass"), (0.5, 0.7, 2, "fail"), (0.9, 1.0, 3, "insufficient")],
)
def test_gate_status_says_the_verdict(
    low: float, high: float, status: int, word: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = report(tmp_path, {"value": (low + high) / 2, "low": low, "high": high})
    assert run(["gate", str(folder)]) == status
    assert capsys.readouterr().out.startswith(word)


def test_gate_without_retention_is_insufficient_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = report(tmp_path, {"value": None, "low": None, "high": None, "reason": "the base cannot do it"})
    assert run(["gate", str(folder), "--max-drop", "0.5"]) == 3
    assert "the base cannot do it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "nonsense"),
        (["tune"], "config"),
        (["tune", "missing.yaml"], "missing.yaml does not exist"),
        (["gate", "missing"], "report.json does not exist"),
        (["gate", "missing", "--max-drop", "2"], "max-drop"),
        (["report", "missing"], "missing"),
        (["eval", "./missing"], "missing"),
        (["eval", "mini", "--shots", "a"], "0,4,16"),
        (["eval", "mini", "--suite", "./missing", "--shots", "0"], "missing"),
        (["eval", "mini", "--template", "chat", "--shots", "0"], "chat template"),
        (["eval", "mini", "--output", "x.txt"], ".json"),
        (["data", "check", "./missing.jsonl"], "missing.jsonl"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_status_1(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert words.lower() in captured.err.lower()
    assert not list(tmp_path.iterdir())


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture) -> None:
    assert run(["gate", "missing"], debug=True) == 1
    assert "Traceback" in capsys.readouterr().err


def test_data_check_reports_bad_rows(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text('{"input": "a", "output": "b"}\n' * 3)
    bad.write_text('{"input": "a", "output": "b"}\n{"input": "a"}\n')
    assert run(["data", "check", str(good)]) == 0
    assert run(["data", "check", str(bad)]) == 1
    assert "bad.jsonl:2" in capsys.readouterr().out


def test_command_line_loads_no_torch_for_help() -> None:
    code = "import sys, keepshot.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert app.info.name == "keepshot"


def test_mini_card_shows_what_the_bundled_model_can_do(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(["mini", "card"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("loss 0.")
    assert "| held out | 0 | 1 | 2 | 4 | 8 | 16 | 32 |" in said
    assert run(["mini", "card", str(tmp_path)]) == 1
    assert "card.json does not exist" in capsys.readouterr().err
