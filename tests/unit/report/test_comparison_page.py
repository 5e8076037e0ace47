import re
from copy import deepcopy
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.unit.report.compared import COMPARISON, METHODS, TARGET, method, written

from keepshot.report.comparison_page import comparison_lines, comparison_page, comparison_tables

VOID = {"meta", "path", "br", "use", "rect", "line"}


class Nesting(HTMLParser):
    """Fails where a tag is closed that is not the open one."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def page_of(folder: Path) -> str:
    text = comparison_page(folder).read_text(encoding="utf-8")
    nesting = Nesting()
    nesting.feed(text)
    assert not nesting.open
    return text


def test_page_says_what_was_found(tmp_path: Path) -> None:
    report = written(tmp_path) / METHODS[2]["runs"][1]
    report.mkdir(parents=True)
    (report / "report.html").touch()
    text = page_of(tmp_path)
    for words in (
        "On this target, value+icl-mix or full+icl-kl: the evidence does not decide.",
        "Insufficient evidence",
        "they &lt;overlap&gt;.",
        "97.0% [94.0, 100.0]",
        "2e-4",
        "<td>5 lora &lt;b&gt;|</td>",
        "not measurable",
        "attention has no usable setting: the loss is not finite",
        "first, on the front",
        "The test was &lt;small&gt;.",
        "reach 99% of the best accuracy of full",
    ):
        assert words in re.sub("</?(b|span)>", "", text)
    assert text.count('<a href="cells/') == 1
    assert '<a href="cells/t/value%2Bicl-mix/0.0002-100-1/report.html">1</a>' in text
    assert "http" not in text
    assert "<b>|" not in text


def test_page_of_several_targets_has_the_whole_first(tmp_path: Path) -> None:
    other = {**deepcopy(TARGET), "name": "other", "recommendation": {**TARGET["recommendation"], "reason": "alone"}}
    text = page_of(written(tmp_path, targets=[TARGET, other]))
    headings = [part.split("</h2>")[0] for part in text.split("<h2>")[1:]]
    assert headings == ["all targets", "reverse words", "other", "How to read this"]
    assert "On all targets" in text
    assert "alone." in text
    assert text.count("<svg") == 3


def test_page_without_retention_has_no_figure(tmp_path: Path) -> None:
    nothing = [method("full", 0.9, None)]
    advice = {"verdict": "none", "method": None, "next": None, "reason": "nothing was measured"}
    target = {**TARGET, "methods": nothing, "recommendation": advice}
    text = page_of(written(tmp_path, targets=[target], methods=nothing, recommendation=advice))
    assert "<svg" not in text
    assert "No recommendation" in text


@pytest.mark.parametrize(("number", "named"), [(12, True), (13, False)])
def test_many_methods_are_drawn_by_number(number: int, named: bool, tmp_path: Path) -> None:
    methods = [method(f"m{i}", 0.9 + i / 1000, 0.5 + i / 100) for i in range(number)]
    text = page_of(written(tmp_path, targets=[{**TARGET, "methods": methods}]))
    assert (">3 m2</text>" in text) == named
    assert ">3</text>" in text


def test_terminal_has_a_row_for_each_method(tmp_path: Path) -> None:
    [(title, table)] = comparison_tables(written(tmp_path))
    assert title.startswith("Target: ")
    assert len(table.rows) == len(METHODS)
    assert {len(row) for row in table.rows} == {len(table.header)}
    for words in ("full", "2e-4, 100 steps", "98.5% [97.5, 99.5]", "70.0% [67.0, 73.0]", "60%", "72%", "1.00 x"):
        assert words in table.rows[0]
    assert "not matched" in table.rows[1][-1]
    assert "not measurable" in table.rows[4]
    assert len(comparison_tables(written(tmp_path, targets=[TARGET, TARGET]))) == 3


def test_lines_name_what_failed_and_why_a_method_is_first(tmp_path: Path) -> None:
    failed, advice = comparison_lines(written(tmp_path))
    assert failed == "Failed on reverse words: attention: the loss is not finite"
    assert advice == "Insufficient evidence: they <overlap>."
    clear = {**COMPARISON["recommendation"], "verdict": "clear"}
    assert comparison_lines(written(tmp_path, recommendation=clear))[-1] == "Recommended: they <overlap>."
