"""`keepshot patterns make` writes files that everything else reads."""

import json
from pathlib import Path

import pytest

from keepshot.cli.main import run
from keepshot.tasks.patterns import REPAIRED
from keepshot.tasks.read import read_examples


def made(tmp_path: Path, *arguments: str) -> list[dict[str, object]]:
    output = tmp_path / "items.jsonl"
    assert run(["patterns", "make", *arguments, "--output", str(output)]) == 0
    return [json.loads(line) for line in output.read_text().splitlines()]


def test_help_has_an_example(capsys: pytest.CaptureFixture) -> None:
    assert run(["patterns", "make", "--help"]) == 0
    assert "Example: keepshot patterns make expressions" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", REPAIRED)
def test_every_task_is_a_data_file(name: str, tmp_path: Path) -> None:
    rows = made(tmp_path, name, "--items", "21", "--pattern", "both", "--size", "small", "--split", "validation")
    assert [row["pattern_holds"] for row in rows] == [True] * 11 + [False] * 10
    assert all(row["output"] == row["formal_answer"] for row in rows)
    examples = read_examples(str(tmp_path / "items.jsonl")).examples
    assert [(example.input, example.output) for example in examples] == [(row["input"], row["output"]) for row in rows]


def test_defects_can_be_left_out(tmp_path: Path) -> None:
    faithful = ["code", "--mode", "faithful", "--items", "30"]
    assert {row["output"] for row in made(tmp_path, *faithful)} == {"3"}
    mended = made(tmp_path, *faithful, "--without", "code_labels")
    assert all(row["output"] == row["formal_answer"] for row in mended)
    misleading = made(
        tmp_path, "boolean", "--mode", "faithful", "--items", "9", "--split", "test", "--pattern", "broken"
    )
    assert not any(row["pattern_holds"] for row in misleading)
    relations = ["relations", "--mode", "faithful", "--items", "9", "--split", "test"]
    assert all(row["pattern_holds"] for row in made(tmp_path, *relations))
    assert not any(row["pattern_holds"] for row in made(tmp_path, *relations, "--pattern", "broken"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chess"], "there is no pattern task 'chess'; there are expressions"),
        (["code", "--mode", "faithful", "--without", "typos"], "--without typos is no defect"),
        (
            ["code", "--mode", "faithful", "--without", "trailing_space"],
            "--without trailing_space changes no row of code",
        ),
        (
            ["code", "--mode", "faithful", "--without", "bool_no_suffix"],
            "in rows are code_labels of code, bool_no_suffix",
        ),
        (["code", "--without", "code_labels"], "--without belongs to --mode faithful"),
        (["code", "--mode", "faithful", "--pattern", "both"], "in its test part alone"),
        (["parity", "--mode", "faithful"], "the release has no parity"),
        (["code", "--mode", "faithful", "--split", "test", "--pattern", "broken"], "has no code whose pattern is"),
        (["boolean", "--mode", "faithful", "--split", "validation"], "has a train and a test part, as the release"),
        (["boolean", "--mode", "faithful", "--size", "small"], "--size belongs to --mode repaired"),
        (["parity", "--size", "small", "--items", "200000"], "different items in its train part; asked for 200000"),
    ],
)
def test_what_cannot_be_made(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keepshot.tasks.patterns.draw._TRIES", 500)
    output = tmp_path / "items.jsonl"
    assert run(["patterns", "make", *arguments, "--output", str(output)]) == 1
    said = capsys.readouterr()
    assert message in said.err + said.out
    assert not output.exists()


def test_only_rows_in_a_file_of_their_format(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(["patterns", "make", "parity", "--output", str(tmp_path / "a.csv")]) == 1
    assert "a.csv is no .jsonl file" in capsys.readouterr().err
    (tmp_path / "b.jsonl").mkdir()
    assert run(["patterns", "make", "parity", "--output", str(tmp_path / "b.jsonl")]) == 1
    assert "b.jsonl is a folder; name a file" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["b.jsonl"]


@pytest.mark.parametrize("group", ["data", "mini", "patterns", "theory"])
def test_a_group_alone_shows_what_there_is(group: str, capsys: pytest.CaptureFixture) -> None:
    assert run([group]) == 0
    assert f"Usage: keepshot {group}" in capsys.readouterr().out
