import copy
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from keepshot.errors import RunError
from keepshot.report import read_report, tables
from keepshot.report.drawing import style
from keepshot.report.figures import _tasks, ordered_tasks
from keepshot.report.render import render

VOID = {"meta", "br", "img", "link", "hr", "input"}
HOSTILE = '<script>alert("1")</script> | $x_{i}$ `code` --> 名 \x07\n'


class Page(HTMLParser):
    """Checks that tags are balanced and keeps what a browser would act on."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href", "action", "data", "srcset"):
                self.targets.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def hostile(numbers: dict[str, Any]) -> dict[str, Any]:
    numbers["name"] = numbers["method"] = numbers["base"] = numbers["target"]["task"] = HOSTILE
    numbers["held_out"]["suite"] = numbers["gate"]["reason"] = HOSTILE
    numbers["held_out"]["tasks"] = {HOSTILE * 20: next(iter(numbers["held_out"]["tasks"].values()))}
    numbers["retention"]["groups"][HOSTILE] = None
    numbers["cost"]["streams"][HOSTILE] = {"tokens": 1, "share": 0.0, "episodes": 1}
    numbers["settings"] = {HOSTILE: {HOSTILE: [HOSTILE]}}
    numbers["versions"] = {HOSTILE: HOSTILE}
    numbers["notes"] = [HOSTILE]
    return numbers


def nothing_measured(numbers: dict[str, Any]) -> dict[str, Any]:
    numbers["retention"] = {"value": None, "low": None, "high": None, "shots": None, "reason": "too little to lose"}
    numbers["gate"] = {"verdict": "insufficient", "max_drop": 0.2, "reason": ""}
    return numbers


def context_too_short(numbers: dict[str, Any]) -> dict[str, Any]:
    for pair in (numbers["target"], numbers["held_out"], *numbers["held_out"]["tasks"].values()):
        pair["before"]["16"] = pair["after"]["16"] = None
    numbers["retention"] |= {"shots": 8}
    numbers["retention"]["by_shots"]["16"] = None
    return numbers


def worse(numbers: dict[str, Any]) -> dict[str, Any]:
    numbers["target"]["before"], numbers["target"]["after"] = numbers["target"]["after"], numbers["target"]["before"]
    numbers["gain"], numbers["gain_interval"] = -0.88, {"low": -0.91, "high": -0.85}
    return numbers


def no_tasks(numbers: dict[str, Any]) -> dict[str, Any]:
    numbers["held_out"]["tasks"] = {}
    return numbers


def zero_shots_do_not_fit(numbers: dict[str, Any]) -> dict[str, Any]:
    numbers["target"]["before"]["0"] = numbers["target"]["after"]["0"] = None
    return numbers | {"gain": None, "gain_interval": None}


def told(numbers: dict[str, Any]) -> dict[str, Any]:
    """A task that is asked with an instruction and without examples, another of what is known."""
    tasks = numbers["held_out"]["tasks"]
    for name, group in (("told-facts", "instructed knowledge"), ("capitals", "knowledge")):
        tasks[name] = copy.deepcopy(next(iter(tasks.values()))) | {"group": group, "chance": 0.0}
    tasks["told-facts"]["zero_shot"] = True
    for when, value in (("before", 0.98), ("after", 0.31)):
        curve = tasks["told-facts"][when]
        tasks["told-facts"][when] = dict.fromkeys(curve) | {"0": curve["0"] | {"accuracy": value}}
    numbers["retention"]["groups"]["instructed knowledge"] = {"value": 0.316, "low": 0.2, "high": 0.4, "tasks": 1}
    return numbers


VARIANTS = [told, hostile, nothing_measured, context_too_short, worse, no_tasks, zero_shots_do_not_fit]


def page_of(folder: Path) -> tuple[str, Page]:
    text = render(folder).read_text(encoding="utf-8")
    return text, Page(text)


@pytest.mark.parametrize("variant", VARIANTS)
def test_page_is_whole_and_fetches_nothing(variant, numbers: dict[str, Any], make_run) -> None:
    text, page = page_of(make_run(variant(numbers)))
    assert "http" not in text
    assert page.tags["script"] == page.tags["link"] == page.tags["img"] == 0
    assert all(target.startswith("#") for target in page.targets)
    assert {target[1:] for target in page.targets} <= set(page.ids)
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {f"#{name}" for name in page.ids}
    assert len(page.ids) == len(set(page.ids))
    assert "@import" not in text


def test_page_says_what_was_found(numbers: dict[str, Any], make_run) -> None:
    text, page = page_of(make_run(numbers))
    for words in (
        "rose from 6% to 94%; 91% [85, 98]",
        "Pass",
        "The drop of 9% [2, 15] lies within the allowed 20%.",
        "14 March 2025, 09:26 UTC",
        "Tasks over the target's own inputs",
        "77% [66, 88]",
        "393 k of 6.54 M (6.0%)",
        "train.learning_rate",
        "sources.icl.0.path",
        "3 rows were left out: they have no output.",
        "Retention at n shots is",
        "0.48 → 0.61",
    ):
        assert words in page.text
    assert page.tags["svg"] == 5
    assert "prefers-color-scheme: dark" in text


def test_page_says_what_the_evaluation_could_tell(numbers: dict[str, Any], make_run) -> None:
    numbers["retention"]["minimum_detectable_drop"] = 0.09
    _, page = page_of(make_run(numbers))
    assert "A drop of 9.0% or more would have been found four times out of five." in page.text


def test_svg_takes_its_colours_from_the_page(numbers: dict[str, Any], make_run) -> None:
    text, _ = page_of(make_run(numbers))
    drawn = text[text.index("<svg") :]
    assert "var(--after)" in drawn
    assert re.findall(r"(?:fill|stroke): #[0-9a-f]{6}", drawn) == []


def test_user_text_stays_text(numbers: dict[str, Any], make_run) -> None:
    text, page = page_of(make_run(hostile(numbers)))
    assert "<script" not in text
    assert '<script>alert("1")</script> | $x_{i}$' in page.text


def test_what_is_not_there_reads_well(numbers: dict[str, Any], make_run) -> None:
    _, page = page_of(make_run(nothing_measured(numbers), steps=0))
    assert "is not measurable" in page.text
    assert "too little to lose" in page.text
    assert "None" not in page.text
    assert page.tags["svg"] == 3  # neither retention nor loss can be drawn


def test_a_gain_that_was_not_measured_reads_well(numbers: dict[str, Any], make_run) -> None:
    _, page = page_of(make_run(zero_shots_do_not_fit(numbers)))
    assert "Zero-shot accuracy on the target was not measured; 91% [85, 98]" in page.text
    assert "The target: gain not measured" in page.text
    assert "None" not in page.text


def test_shots_beyond_the_context_are_named(numbers: dict[str, Any], make_run) -> None:
    folder = make_run(context_too_short(numbers))
    _, page = page_of(folder)
    assert page.text.count("does not fit") >= 5
    assert "| 16 | does not fit | does not fit |" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("variant", VARIANTS)
def test_figures_are_pictures(variant, numbers: dict[str, Any], make_run) -> None:
    folder = make_run(variant(numbers))
    render(folder)
    pictures = {file.name: file.read_bytes() for file in (folder / "figures").iterdir()}
    assert {"target.png", "held_out.png"} <= set(pictures)
    assert all(content.startswith(b"\x89PNG") and len(content) > 5000 for content in pictures.values())


def test_rendering_again_changes_nothing_and_leaves_no_scraps(numbers: dict[str, Any], make_run) -> None:
    folder = make_run(numbers)
    render(folder)
    first = {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
    (folder / "figures" / "old.png").write_bytes(b"")
    render(folder)
    assert {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()} == first


def test_a_broken_report_writes_nothing(numbers: dict[str, Any], make_run) -> None:
    folder = make_run(numbers)
    (folder / "report.json").write_text(json.dumps({"gain": 1}), encoding="utf-8")
    with pytest.raises(RunError):
        render(folder)
    assert sorted(file.name for file in folder.iterdir()) == ["metrics.jsonl", "report.json"]


def test_what_is_asked_without_examples_stands_by_itself(numbers: dict[str, Any], make_run) -> None:
    report = read_report(make_run(told(numbers)))
    rows = {row[0]: row for row in tables.task_table(report).rows}
    assert rows["told-facts"][2:4] == ("0", "0%")
    assert rows["told-facts"][4].startswith("98.0%")
    assert rows["told-facts"][5].startswith("31.0%")
    assert rows["capitals"][2] == "16"
    ordered = [task.name for task in ordered_tasks(report.tasks, report.shots)]
    assert ordered[-1] == "told-facts"
    assert ordered.index("capitals") < min(ordered.index(t.name) for t in report.tasks if t.group == "own-input")
    groups = {row[0]: row[1:] for row in tables.group_table(report).rows}
    assert groups["All held-out tasks"][0] == str(len(report.tasks) - 1)
    assert groups["What is known by heart, with an instruction"] == ("1", "0", "32% [20, 40]")
    with style():
        figure = _tasks(report.tasks, report.shots)
    words = {text.get_text() for axis in figure.axes for text in axis.texts}
    assert {"what is known by heart", "with an instruction and no examples"} <= words
    assert "does not fit" not in words
