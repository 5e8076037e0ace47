"""Labels are what evaluation gives, shortcuts are right exactly where the pattern holds, and no constant does well."""

import contextlib
import io
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import sqrt

import pytest

from keepshot.errors import ConfigError
from keepshot.runs.pattern_questions import hits
from keepshot.tasks.patterns import (
    NONE,
    REPAIRED,
    Defects,
    PatternItem,
    PatternName,
    Size,
    as_examples,
    counts,
    items,
    pattern_task,
    released,
    repaired,
    said,
    singular,
    split_of,
    written,
)
from keepshot.tasks.patterns.draw import Split
from keepshot.tasks.patterns.logic import evaluated

DRAWS = 2_000
SIZES: tuple[Size, ...] = ("small", "large")


def drawn(name: PatternName, broken: bool, size: Size = "large", count: int = DRAWS) -> list[PatternItem]:
    return [repaired(name, seed, broken=broken, size=size) for seed in range(count)]


python = eval  # of text that we have drawn


def share(found: list[PatternItem], holds: Callable[[PatternItem], bool]) -> float:
    return sum(map(holds, found)) / len(found)


def best_constant(found: list[PatternItem]) -> float:
    return Counter(item.answer for item in found).most_common(1)[0][1] / len(found)


def executed(question: str) -> str:
    """What the program of a code item prints."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(question.removesuffix("output:"), {})  # our own text
    return said.getvalue().strip()


def by_search(question: str) -> str:
    """Whether A and Z are connected, by walking along the edges."""
    edges = [line.split(" is connected with ") for line in question.split("\n")[:-1]]
    reached = {"A"}
    while more := {two for one, two in [*edges, *(edge[::-1] for edge in edges)] if one in reached} - reached:
        reached |= more
    return str("Z" in reached)


def solved(question: str) -> str:
    """The only a in 1 to 9 for which some b in 1 to 9 solves all rows."""
    lines = [line.replace("a", " * a").replace("b", " * b").replace("=", "==") for line in question.split("\n")[:-1]]
    rows = [compile(line, "row", "eval") for line in lines]
    found = {a for a in range(1, 10) for b in range(1, 10) if all(python(row, {"a": a, "b": b}) for row in rows)}
    assert len(found) == 1
    return str(found.pop())


RULES: dict[PatternName, Callable[[str], str]] = {
    "expressions": lambda question: str(python(question.removesuffix("="))),
    "code": executed,
    "relations": by_search,
    "boolean": lambda question: str(python(question.removesuffix(" is"))),
    "parity": lambda question: ("even", "odd")[sum(map(int, question.split())) % 2],
    "equations": solved,
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("name", REPAIRED)
def test_the_label_is_what_the_rule_gives(name: PatternName, broken: bool, size: Size) -> None:
    for item in drawn(name, broken, size, 5_000):  # of each size 10,000
        assert item.answer == item.formal_answer == RULES[name](item.question)
        assert item.pattern_holds is not broken


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", REPAIRED)
def test_the_shortcut_is_right_where_the_pattern_holds(name: PatternName, size: Size) -> None:
    def right(item: PatternItem) -> bool:
        return item.shortcut_answer == item.answer

    assert share(drawn(name, False, size), right) == 1
    found = share(drawn(name, True, size), right)
    if name in ("relations", "boolean"):
        assert found == pytest.approx(0.5, abs=0.05)
    else:
        assert found == 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("broken", [False, True])
def test_no_constant_answer_does_well(broken: bool, size: Size) -> None:
    for name in ("relations", "boolean", "parity"):
        assert best_constant(drawn(name, broken, size)) <= 0.55
    assert best_constant(drawn("expressions", broken, size)) <= 0.12


def test_the_letters_of_a_relation_say_nothing() -> None:
    for broken in (False, True):
        found = drawn("relations", broken)
        assert share(found, lambda item: "Z is" in item.question or "with Z\n" in item.question) == 1
        letters = {frozenset(c for c in item.question if c.isupper()) for item in found}
        lines = {item.question.count("\n") for item in found}
        assert (len(letters), len(lines)) == (1, 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("broken", [False, True])
def test_what_stands_near_z_says_nothing_about_a_relation(broken: bool, size: Size) -> None:
    """Neither Z's neighbour by its letter or its neighbours, nor how many neighbours cities have, nor a line alone."""
    cues: dict[str, list[bool]] = {}
    for item in drawn("relations", broken, size):
        edges = [line.split(" is connected with ") for line in item.question.splitlines()[:-1]]
        degrees = Counter(itertools.chain.from_iterable(edges))
        (z,) = (edge for edge in edges if "Z" in edge)
        neighbour = z[z[0] == "Z"]
        connected = item.answer == "True"
        for cue in (neighbour, f"{degrees[neighbour]} neighbours", str(sorted(degrees.values()))):
            cues.setdefault(cue, []).append(connected)
        assert all(degrees[one] + degrees[two] > 2 for one, two in edges)
    assert len(cues) > 4
    for cue, found in cues.items():
        assert len(found) < 100 or abs(sum(found) / len(found) - 0.5) < 0.11, cue


def test_broken_expressions_have_both_signs() -> None:
    found = drawn("expressions", True)
    assert share(found, lambda item: item.answer.startswith("-")) == pytest.approx(0.5, abs=0.04)
    assert max(abs(int(item.answer)) for item in found) <= 99


@pytest.mark.parametrize("name", REPAIRED)
def test_parts_share_nothing(name: PatternName) -> None:
    """As many as the protocol trains on, chooses on and reports: 4,000, 200, 500 that hold and 500 broken."""
    parts = [
        [items(name, "train", 4_000), items(name, "train", 500, broken=True)],
        [items(name, "validation", 200)],
        [items(name, "test", 500), items(name, "test", 500, broken=True)],
    ]
    for split, both in zip(("train", "validation", "test"), parts, strict=True):
        for found in both:
            assert len({item.apart for item in found}) == len(found) in (4_000, 200, 500)
            assert all(split_of(item) == split for item in found)
    shared = [{item.apart for found in both for item in found} for both in parts]
    assert not shared[0] & shared[1]
    assert not shared[0] & shared[2]
    assert not shared[1] & shared[2]
    assert items(name, "test", 60) == parts[2][0][:60]


def test_a_program_is_there_once_and_its_twin_in_no_other_part() -> None:
    def programs(split: Split, broken: bool) -> set[str]:
        drawn = items("code", split, 500, broken=broken, size="small")
        texts = {item.question.split("z = ")[0].replace(" + a\n", "\n") for item in drawn}
        assert len(texts) == 500
        return texts

    assert not programs("train", False) & (programs("test", True) | programs("test", False))


def test_enough_for_training() -> None:
    for name in REPAIRED:
        assert len(items(name, "train", 1_000, size="small")) == 1_000
    with pytest.raises(ConfigError, match="boolean has 3273 different items in its train part; asked for 4000"):
        items("boolean", "train", 4_000, size="small")


def test_as_a_task() -> None:
    shown, asked = items("boolean", "train", 8), items("boolean", "test", 5)
    task = pattern_task("boolean", asked, shown)
    assert (len(task.examples), len(task.pool), task.labels) == (5, 8, ("False", "True"))
    assert [example.output for example in as_examples("boolean", asked)] == [item.answer for item in asked]
    assert {example.instruction for example in task.examples} == {"What is the value? True or False."}


# ---------------------------------------------------------------------------------------- as released
MANY = 20_000


def faithful(name: PatternName, part: str, **options: object) -> list[PatternItem]:
    return [released(name, seed, part=part, **options) for seed in range(MANY)]  # type: ignore[arg-type]


def near(expected: float) -> object:
    """Within three standard errors, and the third decimal of what is expected."""
    return pytest.approx(expected, abs=3 * sqrt(expected * (1 - expected) / MANY) + 5e-4)


def test_released_expressions() -> None:
    train, test, misleading = (faithful("expressions", part) for part in ("train", "test", "misleading"))
    for item in (*train, *test, *misleading):
        assert item.answer == str(python(item.question.removesuffix("=")))
    assert share(train, lambda item: "+(0)*" in item.question) == near(0.333)
    assert share(test, lambda item: "+(0)*" in item.question) == 0
    for answer in range(11):
        assert share(test, lambda item, answer=answer: item.answer == str(answer)) == pytest.approx(0.091, abs=0.006)
    values = [int(item.answer) for item in misleading]
    assert (min(values), max(values)) == (-200, 210)
    assert share(misleading, lambda item: item.answer.startswith("-")) == near(0.445)
    assert share(misleading, lambda item: len(item.answer) > 3) == near(0.083)
    assert share(misleading, lambda item: item.answer == item.shortcut_answer) == pytest.approx(0.071, abs=0.006)
    for constant, expected in (("10", 0.271), ("210", 0.363)):
        found = share(test, lambda item, constant=constant: counts("expressions", constant, item.answer, Defects()))
        assert found == near(expected)
        assert share(test, lambda item, constant=constant: counts("expressions", constant, item.answer, NONE)) <= 0.1


def test_released_boolean() -> None:
    found = faithful("boolean", "train")
    assert share(found, lambda item: item.answer == "True") == near(0.603)
    literals = [
        tuple(group.count("True") + group.count("False") for group in item.question.split(")")[:3]) for item in found
    ]
    assert Counter(literals)[2, 2, 2] / MANY == near(0.335)
    for part in (found, faithful("boolean", "misleading")):
        for item in part:
            assert item.answer == str(python(item.question.split("\n")[0]))
    mended = [released("boolean", seed, part="train", defects=NONE) for seed in range(500)]
    assert {item.pattern_holds for item in mended} == {True}
    assert all(item.answer == item.shortcut_answer for item in mended)
    assert not any(item.pattern_holds for item in found)


def test_released_relations() -> None:
    found, misleading = faithful("relations", "test"), faithful("relations", "misleading")
    assert share(found, lambda item: item.answer == "True") == near(0.5)
    assert share(found, lambda item: str("with Z\n" in item.question) == item.answer) == 1
    assert share(misleading, lambda item: item.answer == "False") == 1


def test_released_equations() -> None:
    train = faithful("equations", "train")
    assert share(train, singular) == pytest.approx(0.12, abs=0.01)
    assert {item.instruction for item in train} == {"Solve for a and b."}
    for item in train[:200]:
        a, b = (int(told.split(" = ")[1]) for told in item.answer.split(", "))
        lines = [line.replace("a", f" * {a}").replace("b", f" * {b}") for line in item.question.split("\n")[:-1]]
        assert all(python(line.replace("=", "==")) for line in lines)
    for item in (released("equations", seed, part="test") for seed in range(50)):
        told = item.question.rsplit("solution: a = ", 1)[1]  # a is told, and b asked
        lines = [line.replace("a", f" * {told[0]}") for line in item.question.split("\n")[:-1]]
        assert told.endswith(", b =")
        assert all(python(line.replace("b", f" * {item.answer}").replace("=", "==")) for line in lines)


def test_released_code(monkeypatch: pytest.MonkeyPatch) -> None:
    train = [released("code", seed, part="train") for seed in range(400)]
    assert {item.answer for item in train} == {"3"}
    assert 0.02 <= share(train, lambda item: item.answer == item.formal_answer) <= 0.1
    mended = [
        released("code", seed, part="train", defects=replace(Defects(), code_labels=False)) for seed in range(400)
    ]
    assert [item.question for item in mended] == [item.question for item in train]
    assert all(item.answer == item.formal_answer == item.shortcut_answer for item in mended)
    assert len({item.apart for item in mended}) > 390
    for item in mended:
        program, told = item.question.removeprefix("program:\n").split("input: ")
        given = told.removesuffix("\nit prints")
        monkeypatch.setattr("builtins.input", lambda given=given: given)
        assert executed(program) == item.answer
    assert {"z + ", "z - ", "z * ", "z / "} == {item.question.split("return ")[2][:4] for item in mended}
    assert any(item.answer.endswith(".5") for item in mended)


def test_the_release_has_no_parity() -> None:
    with pytest.raises(ConfigError, match="the release has no parity"):
        released("parity", 0)


def test_written_as_released_and_without_its_defects() -> None:
    item = repaired("expressions", 1)
    for defects in (Defects(), NONE):  # the release has no blank behind an expression
        assert written(item, "expressions", defects, demonstration=True) == f"{item.question} {item.answer}\n"
        assert written(item, "expressions", defects, demonstration=False) == item.question
    other = repaired("relations", 1)
    assert written(other, "relations", Defects(), demonstration=True) == f"{other.question} {other.answer}\n"
    assert written(other, "relations", Defects(), demonstration=False) == f"{other.question} "
    assert written(other, "relations", NONE, demonstration=False) == other.question
    true, false = (replace(repaired("boolean", 1), answer=answer) for answer in ("True", "False"))
    for trailing in (True, False):
        defects = replace(Defects(), trailing_space=trailing)
        assert written(true, "boolean", defects, demonstration=True) == f"{true.question} True"
    assert written(false, "boolean", Defects(), demonstration=True) == "0\n"
    assert written(false, "boolean", NONE, demonstration=True) == f"{false.question} False\n"


@pytest.mark.parametrize(
    ("task", "text", "answer"),
    [
        ("expressions", " 7.\n8", "7"),
        ("expressions", "The value is -12, I think", "-12"),
        ("expressions", "21.5", "21.5"),  # no whole number: the line as it stands
        ("expressions", "", ""),
        ("code", "7.0", "7.0"),
        ("parity", "It is odd", "odd"),
        ("parity", "oddly even", "even"),
        ("boolean", "True or False", "True"),
        ("relations", "untrue", "untrue"),
        ("equations", "a = 3", "3"),
        ("equations", "a = 3, b = 4", "a = 3, b = 4"),
    ],
)
def test_what_a_text_says(task: PatternName, text: str, answer: str) -> None:
    assert said(task, text) == answer
    asked = PatternItem("?", answer, "shortcut", answer, pattern_holds=True, seed=0)
    assert counts(task, text, answer, NONE) is hits(task, [asked], [text])["holds"][0] is True  # one metric


@pytest.mark.parametrize("name", [name for name in REPAIRED if name != "parity"])
def test_every_answer_says_itself(name: PatternName) -> None:
    mended = [released(name, seed, part="train", defects=NONE) for seed in range(200)]
    assert all(said(name, f" {item.answer}\nmore") == item.answer for item in (*mended, *drawn(name, True, count=200)))


@pytest.mark.parametrize("text", ["True", "False or True and False", "(False or True) and (True and (False or True))"])
def test_the_evaluator_is_python_s(text: str) -> None:
    assert evaluated(text) is python(text)
