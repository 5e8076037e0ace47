"""`keepshot theory`: what reaches the public calls, and exit codes."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from keepshot.cli.main import run
from keepshot.theory.checks import Line
from keepshot.theory.figures import Sampling


@pytest.mark.parametrize("command", ["check", "explore", "figures", "contexts"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture) -> None:
    assert run(["theory", command, "--help"]) == 0
    assert f"Example: keepshot theory {command}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("holds", "status", "words"), [(True, 0, "2 of 2 hold"), (False, 1, "1 of 2 hold; 1 do not")])
def test_check(
    holds: bool, status: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    asked: dict[str, int] = {}

    def check(**given: int) -> list[Line]:
        asked.update(given)
        return [Line("gradient", "an optimum", "norm 0", True), Line("Monte Carlo", "an error", "off", holds)]

    monkeypatch.setattr(import_module("keepshot.theory.checks"), "check", check)
    assert run(["theory", "check", "--prompts", "5", "--seed", "2"]) == status
    said = capsys.readouterr().out
    assert asked == {"seed": 2, "prompts": 5}
    assert words in said
    assert ("FAIL" in said) is not holds


def test_explore(capsys: pytest.CaptureFixture) -> None:
    assert run(["theory", "explore", "--d", "5", "--method", "value", "--w", "0.66", "--angle", "180"]) == 0
    said = capsys.readouterr().out
    assert "value             0.6600    3.4333    0.4567" in said
    assert "full" not in said


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--d", "3", "--spectrum", "1,2"], "give it or --d, not both"),
        (["--spectrum", "1,two"], "a list of positive numbers"),
        (["--spectrum", "1,-2"], "must be positive definite"),
        (["--method", "values"], "--method is one of pretrained, full, value, value+few-shot, not 'values'"),
    ],
)
def test_explore_refuses(flags: list[str], words: str, capsys: pytest.CaptureFixture) -> None:
    assert run(["theory", "explore", *flags]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], Sampling()),
        (["--monte-carlo"], Sampling(prompts=200_000)),
        (["--train", "--seeds", "3", "--steps", "7"], Sampling(seeds=3, steps=7)),
    ],
)
def test_figures(flags: list[str], expected: Sampling, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(import_module("keepshot.theory.figures"), "figures", lambda *given: asked.extend(given))
    assert run(["theory", "figures", "--output", "somewhere", *flags]) == 0
    assert asked[:2] == [Path("somewhere"), expected]


def test_contexts_prints_a_table_and_writes_its_figure(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(["theory", "contexts", "--output", str(tmp_path / "contexts")]) == 0
    said = capsys.readouterr().out
    assert "| similar only | .910 | .616 | .19 | .701 | .462 | .24 |" in said
    assert {path.name for path in (tmp_path / "contexts").iterdir()} == {
        "contexts.png", "contexts.svg", "contexts.csv", "contexts.json",
    }  # fmt: skip
    rows = (tmp_path / "contexts" / "contexts.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 6 * 41
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("x")
    assert run(["theory", "contexts", "--output", str(tmp_path / "other")]) == 1
    assert "holds no contexts.json" in capsys.readouterr().err
