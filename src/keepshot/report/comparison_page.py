"""A comparison for people: a page, tables and sentences for the terminal."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from keepshot.files import write_text
from keepshot.report.comparison import Advice, Comparison, MethodFigures, TargetFigures, TriedSetting, read_comparison
from keepshot.report.drawing import as_svg
from keepshot.report.page import emphasised, fill
from keepshot.report.pareto import front_figure
from keepshot.report.tables import Table
from keepshot.report.wording import ABSENT, DEFINITION, duration, estimate, learning_rate, moment, percent

VERDICTS = {"clear": "Recommended", "insufficient": "Insufficient evidence", "none": "No recommendation"}
CHIPS = {"clear": "pass", "insufficient": "insufficient", "none": "fail"}
TARGET_HEADER = (
    "method", "learning rate", "steps", "target zero-shot", "few-shot kept", "inputs like the target's", "others",
    "training", "tokens", "",
)  # fmt: skip
TERMINAL_HEADER = (
    "", "method", "setting", "target zero-shot", "few-shot kept", "inputs like the target's", "others", "cost", "",
)  # fmt: skip
GROUPS = ("inputs like target", "inputs unlike target")
PARTS = {
    "own-input": "own inputs",
    "format matches target": "answers in the target's format",
    "format differs": "in another",
    "families practised": "families practised",
    "other families": "other families",
    "knowledge": "known by heart",
    "instructed knowledge": "the same, instructed",
    "instructed": "instructions",
}


def comparison_page(folder: str | Path) -> Path:
    """Write `compare.html` from `compare.json`.

    Args:
        folder: What `keepshot compare` wrote.

    Returns:
        The page.

    Raises:
        RunError: The folder holds no result that can be read.
    """
    found = read_comparison(folder)
    several = len(found.targets) > 1
    page = fill(
        "pareto.html.j2",
        {
            "found": found,
            "created": moment(found.created),
            "headline": emphasised(headline(found.advice, several)),
            "verdict": VERDICTS[found.advice.verdict],
            "chip": CHIPS[found.advice.verdict],
            "reason": f"{found.advice.reason}.",
            "several": several,
            "matching": percent(found.match),
            "overall": _part(found, None) if several else None,
            "targets": [_part(found, target) for target in found.targets],
            "definition": DEFINITION,
        },
    )
    write_text(found.folder / "compare.html", page)
    return found.folder / "compare.html"


def comparison_tables(folder: str | Path) -> list[tuple[str, Table]]:
    """The result for the terminal, with titles: a table for each target, and one over all where there are several.

    Args:
        folder: What `keepshot compare` wrote.

    Raises:
        RunError: The folder holds no result that can be read.
    """
    found = read_comparison(folder)
    parts = [(f"Target: {target.name}", target.methods, target.advice) for target in found.targets]
    if len(parts) > 1:
        parts.append((f"All {len(parts)} targets", found.methods, found.advice))
    return [(title, _terminal(methods, advice)) for title, methods, advice in parts]


def comparison_lines(folder: str | Path) -> list[str]:
    """The recommendation with its reason, and what a reader must know.

    Args:
        folder: What `keepshot compare` wrote.

    Raises:
        RunError: The folder holds no result that can be read.
    """
    found = read_comparison(folder)
    failed = [
        f"Failed on {target.name}: {method}: {reason}"
        for target in found.targets
        for method, reason in target.failed.items()
    ]
    return [*failed, f"{VERDICTS[found.advice.verdict]}: {found.advice.reason}."]


def headline(advice: Advice, several: bool) -> str:
    """Which method to take, in one sentence.

    Example:
        >>> headline(Advice("insufficient", "value", "full", "…"), several=True)
        'On all targets, value or full: the evidence does not decide.'
    """
    where = "On all targets" if several else "On this target"
    if advice.verdict == "clear":
        return f"{where}, {advice.method} keeps most of the few-shot ability at matched accuracy."
    if advice.verdict == "insufficient":
        return f"{where}, {advice.method} or {advice.next}: the evidence does not decide."
    return f"{where}, no method qualifies."


def _part(found: Comparison, target: TargetFigures | None) -> dict[str, object]:
    """What the page says of one target, or of all."""
    methods = found.methods if target is None else target.methods
    name = "all targets" if target is None else target.name
    description = f"Target accuracy against few-shot ability kept, {name}"
    shown = [method for method in methods if method.retention is not None]
    advice = found.advice if target is None else target.advice
    return {
        "name": name,
        "target": target,
        "advice": advice,
        "verdict": VERDICTS[advice.verdict],
        "chip": CHIPS[advice.verdict],
        "figure": as_svg(front_figure(found, target, methods), f"front-{name}", description) if shown else "",
        "table": Table(TARGET_HEADER, tuple(_row(n, method, advice) for n, method in enumerate(methods, start=1))),
        "parts": _parts_table(methods),
        "links": [_links(found, method) for method in methods],
        "tried": Table(
            ("method", "learning rate", "steps", "target", "few-shot kept", ""),
            tuple(_tried_row(one, methods) for one in target.tried),
        )
        if target is not None
        else None,
    }


def _row(number: int, method: MethodFigures, advice: Advice) -> tuple[str, ...]:
    return (
        f"{number} {method.name}",
        ABSENT if method.learning_rate is None else learning_rate(method.learning_rate),
        ABSENT if method.steps is None else str(method.steps),
        estimate(method.accuracy, 1),
        estimate(method.retention, 1),
        *_of_groups(method, GROUPS),
        f"{duration(method.seconds)}, {method.time_ratio:.2f} x",
        f"{method.token_ratio:.2f} x",
        _remark(method, advice),
    )


def _parts_table(methods: Sequence[MethodFigures]) -> Table:
    """The parts of the suite that there are."""
    parts = [part for part in PARTS if any(method.groups.get(part) is not None for method in methods)]
    rows = []
    for method in methods:
        few_shot = ABSENT if method.few_shot is None else estimate(method.few_shot)
        rows.append((method.name, few_shot, *_of_groups(method, parts)))
    return Table(("method", "target few-shot", *(PARTS[part] for part in parts)), tuple(rows))


def _of_groups(method: MethodFigures, groups: Sequence[str]) -> list[str]:
    kept = [method.groups.get(group) for group in groups]
    return [ABSENT if one is None else estimate(one) for one in kept]


def _remark(method: MethodFigures, advice: Advice) -> str:
    remarks = []
    if method.name == advice.method:
        remarks.append("recommended" if advice.verdict == "clear" else "first")
    if not method.matched:
        remarks.append("not matched")
    if not method.within_cost:
        remarks.append("too costly")
    if method.on_front:
        remarks.append("on the front")
    return ", ".join(remarks)


def _tried_row(one: TriedSetting, methods: Sequence[MethodFigures]) -> tuple[str, ...]:
    chosen = any(
        (method.name, method.learning_rate, method.steps) == (one.method, one.learning_rate, one.steps)
        for method in methods
    )
    return (
        one.method,
        learning_rate(one.learning_rate),
        str(one.steps),
        "failed" if one.accuracy is None else percent(one.accuracy, 1),
        ABSENT if one.retention is None else percent(one.retention, 1),
        "chosen" if chosen else "",
    )


def _links(found: Comparison, method: MethodFigures) -> list[tuple[int, str]]:
    """Seeds with the way to their pages."""
    return [
        (seed, quote(f"{run}/report.html"))
        for seed, run in zip(found.seeds, method.runs, strict=False)
        if (found.folder / run / "report.html").is_file()
    ]


def _terminal(methods: Sequence[MethodFigures], advice: Advice) -> Table:
    """As the page's table, without what a terminal has no room for."""
    rows = []
    for number, method in enumerate(methods, start=1):
        parts = [method.groups.get(group) for group in GROUPS]
        rows.append(
            (
                str(number),
                method.name,
                "" if method.learning_rate is None else f"{learning_rate(method.learning_rate)}, {method.steps} steps",
                estimate(method.accuracy, 1),
                estimate(method.retention, 1),
                *(ABSENT if part is None else percent(part.value) for part in parts),
                f"{method.time_ratio:.2f} x",
                _remark(method, advice),
            )
        )
    return Table(TERMINAL_HEADER, tuple(rows))
