from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.unit.report.compared import written

from keepshot.cli.main import run
from keepshot.files import write_json
from keepshot.runs import comparison

CONFIG: dict[str, Any] = {
    "model": "mini",
    "data": {"train": "mini:word-rule"},
    "methods": ["full", "value"],
    "learning_rates": [1e-4],
    "steps": [5],
    "seeds": [0, 1],
}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    with Path("compare.yaml").open("w") as file:
        YAML(pure=True).dump(CONFIG, file)
    return "compare.yaml"


def test_help_has_an_example(capsys: pytest.CaptureFixture) -> None:
    assert run(["compare", "--help"]) == 0
    assert "Example: keepshot compare compare.yaml" in " ".join(capsys.readouterr().out.split())


def test_list_says_which_cells_are_there(config: str, capsys: pytest.CaptureFixture) -> None:
    for method, failed in (("full", ""), ("value", "not finite")):
        done = {"cell": {}, "accuracy": None if failed else 0.5, "cost": {}, "failed": failed}
        write_json(Path(f"a: b/cells/word-rule/{method}/0.0001-5-1/cell.json"), done)
    assert run(["compare", config, "--output", "a: b", "--list"]) == 0
    assert [line.split(maxsplit=2)[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["1", "open"],
        ["2", "done"],
        ["3", "open"],
        ["4", "failed"],
    ]
    assert run(["compare", config, "--set", "seeds=[7]", "--list"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("word-rule, value, learning rate 0.0001, 5 steps, seed 7")
    assert sorted(path.name for path in Path().iterdir()) == ["a: b", "compare.yaml"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cell", "5"], "cell 5 is none of this comparison's, which are numbered from 1 to 4"),
        (["--cell", "0"], "cell 0 is none"),
        (["--cell", "1", "--list"], "--list and --cell contradict each other"),
        (["--set", "method=full"], "config key method is unknown; did you mean methods?"),
        (["--set", "methods=[value]"], "methods lacks full"),
        (["--set", "data.train=./missing.jsonl"], "missing"),
        (["--on-bad-row", "ignore"], "config key data.on_bad_row: input should be 'raise' or 'skip'"),
        (["--set", "methods=[full, [value, general]]", "--set", "model=./no", "--set", "suite=mini"], "./no"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    arguments: list[str], words: str, config: str, capsys: pytest.CaptureFixture
) -> None:
    assert run(["compare", config, "--output", "out", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert words in error
    assert not Path("out").exists()


def test_the_result_is_printed(config: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def compare(loaded: Any, **options: Any) -> Path:
        calls.append((loaded.output, options["resume"], options["cell"]))
        return written(Path(loaded.output))

    monkeypatch.setattr(comparison, "compare", compare)
    assert run(["compare", config, "--output", "out", "--resume"]) == 0
    out = capsys.readouterr().out
    assert "Target: reverse words" in out
    assert "Insufficient evidence: they <overlap>." in out
    assert out.splitlines()[-1] == "report: out/compare.html"
    assert run(["compare", config, "--output", "out", "--cell", "2"]) == 0
    assert capsys.readouterr().out == ""
    assert calls == [("out", True, None), ("out", False, 2)]
