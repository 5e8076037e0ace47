import io
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from keepshot.errors import RunError
from keepshot.report.compare import compare_page, compare_table
from keepshot.report.render import render
from keepshot.strategies.named import RECOMMENDED


@pytest.fixture
def runs(numbers: dict[str, Any], make_run) -> list[Path]:
    kept, lost, unknown = numbers, deepcopy(numbers), deepcopy(numbers)
    lost |= {"method": "full [red]<b>|", "gate": {"verdict": "fail", "max_drop": 0.2, "reason": ""}}
    lost["retention"] |= {"value": 0.2, "low": 0.1, "high": 0.3, "shots": 8}
    kept["settings"]["learning_rate"] = 2.7e-4  # of the method, where the config says none
    lost["settings"] |= {"learning_rate": 1e-5, "train": {"max_steps": 20}}
    unknown |= {"method": "lora", "gain": -0.1, "settings": {}}
    unknown["retention"] |= {"value": None, "low": None, "high": None}
    unknown["gate"] |= {"verdict": "insufficient"}
    return [make_run(kept, "kept"), make_run(lost, "lost runs/a b"), make_run(unknown, "unknown")]


def printed(folders: list[Path]) -> str:
    console = Console(width=160, file=io.StringIO())
    console.print(compare_table(folders))
    return console.file.getvalue()


def test_table_has_a_row_for_each_run_with_its_interval(runs: list[Path]) -> None:
    lines = [line for line in printed(runs).splitlines() if line.startswith("│")]
    assert len(lines) == 3
    for words in ("value+icl-mix", "2.7e-4", "6.0% → 94.0%", "91% [85, 98] at 16", "pass", "393 k", "1 min 14 s"):
        assert words in lines[0]
    for words in ("full [red]<b>|", "1e-5", "20% [10, 30] at 8", "fail"):
        assert words in lines[1]
    for words in ("lora", "not measurable", "insufficient evidence"):
        assert words in lines[2]


def test_page_links_to_the_runs_that_have_one(runs: list[Path], tmp_path: Path) -> None:
    render(runs[1])
    page = compare_page(runs, tmp_path / "pages" / "compare.html")
    text = page.read_text(encoding="utf-8")
    assert text.count("<a href=") == 1
    assert '<a href="../lost%20runs/a%20b/report.html">full [red]&lt;b&gt;|</a>' in text
    assert "1 not shown" in text
    assert "http" not in text
    assert "<b>|" not in text
    assert "91% [85, 98] at 16" in text


def test_page_without_any_retention_has_no_figure(runs: list[Path], tmp_path: Path) -> None:
    text = compare_page(runs[2:], tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "<svg" not in text
    assert "not measurable" in text


def test_a_run_without_zero_shots_stays_in_the_table(
    runs: list[Path], without_zero_shots: dict[str, Any], make_run, tmp_path: Path
) -> None:
    unasked = make_run(without_zero_shots | {"method": "query-key"}, "unasked")
    row = next(line for line in printed([*runs, unasked]).splitlines() if "query-key" in line)
    assert [cell.strip() for cell in row.split("│")[4:6]] == ["–", "91% [85, 98] at 16"]
    text = compare_page([unasked, *runs], tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "2 not shown" in text
    assert ">1 query-key</text>" not in text
    assert ">2 value+icl-mix</text>" in text
    assert "<svg" not in compare_page([unasked], tmp_path / "one.html").read_text(encoding="utf-8")


def test_the_name_of_the_recommended_method_stands_in_full(numbers: dict[str, Any], make_run, tmp_path: Path) -> None:
    name = "+".join(RECOMMENDED)
    page = compare_page([make_run(numbers | {"method": name}, "recommended")], tmp_path / "compare.html")
    assert f">1 {name}</text>" in page.read_text(encoding="utf-8")


def test_many_runs_are_drawn_by_number(runs: list[Path], tmp_path: Path) -> None:
    few = compare_page(runs[:2], tmp_path / "few.html").read_text(encoding="utf-8")
    many = compare_page(runs[:2] * 10, tmp_path / "many.html").read_text(encoding="utf-8")
    assert ">1 value+icl-mix</text>" in few
    assert ">1 value+icl-mix</text>" not in many
    assert ">19</text>" in many


def test_different_targets_cannot_be_compared(runs: list[Path], numbers: dict[str, Any], make_run) -> None:
    numbers["target"]["task"] = "something else"
    with pytest.raises(RunError, match="only runs with the same target"):
        compare_table([*runs, make_run(numbers, "other")])


def test_no_runs_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="at least one run folder"):
        compare_page([], tmp_path / "compare.html")
