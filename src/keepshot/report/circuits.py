"""Circuits of an experiment on implicit patterns for people: heat maps side by side, and a table of shifts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from keepshot.errors import RunError
from keepshot.files import read_json
from keepshot.report.drawing import AFTER, INK, PAPER, cut, style
from keepshot.report.fields import Field
from keepshot.report.record import Estimate, Interval
from keepshot.report.tables import Table
from keepshot.report.wording import ABSENT, estimate, percent

SCHEMA = "keepshot.circuits/1"
FILE = "circuits.json"
MEASURES = ("l1", "jaccard 5%", "jaccard 10%", "rank")
PARTS = ("heads", "MLPs")
HEADER = (
    "", "examples in the prompt", "right, pattern holds", "shortcut, broken",
    "shift", "floor", "largest 5%", "largest 10%", "order",
)  # fmt: skip
LENS_HEADER = ("", "examples in the prompt", "shortcut is said", "from layer", "rule is said", "from layer")
_COLUMNS = 4
_TITLE = 27  # characters that fit above a map; two lines of them


@dataclass(frozen=True, slots=True)
class PartFigures:
    """Heads or MLPs of a state.

    Attributes:
        scores: Normalised, a row for each layer.
        shift: By measure, from the base without examples.
        floor: By measure, what a shift must exceed.
    """

    scores: tuple[tuple[float, ...], ...]
    shift: dict[str, Estimate | None]
    floor: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class StateFigures:
    """A state of a model.

    Attributes:
        accuracy: Where the pattern holds.
        pattern_use: How often it takes the shortcut where the pattern is broken.
        lens: For the answers of shortcut and rule, how often they are said, and from which layer on in the mean.
    """

    name: str
    shots: int
    accuracy: Estimate | None
    pattern_use: Estimate | None
    parts: dict[str, PartFigures]
    lens: tuple[tuple[float, float | None], ...] | None


@dataclass(frozen=True, slots=True)
class CircuitsFound:
    """Circuits of a task.

    Attributes:
        states: The base first, then it in context and behind random labels.
        context: By part, how far the base in context is from it behind random labels.
        matched: The state of each method that is right nearly as often as the base in context, and how much more often.
        broken: Whether the corrupt problems have a broken pattern.
    """

    states: tuple[StateFigures, ...]
    context: dict[str, PartFigures]
    matched: tuple[tuple[str, float], ...]
    broken: bool


def read_circuits(folder: Path) -> dict[str, CircuitsFound]:
    """By task; nothing where no circuits were looked at.

    Raises:
        RunError: The file is another.
    """
    file = folder / FILE
    if not file.exists():
        return {}
    whole = Field(read_json(file), file)
    if whole.at("schema").text() != SCHEMA:
        raise RunError(f"{file} is {whole.at('schema').text()}; this reads {SCHEMA}")
    broken = whole.at("corrupt").text() == "pattern"
    return {
        task: CircuitsFound(
            tuple(_state(one) for one in found.at("states").elements()),
            {name: _part(found.at("context").at(name)) for name in PARTS},
            tuple((one.at("state").text(), one.at("difference").number()) for one in found.at("matched").elements()),
            broken,
        )
        for task, found in whole.at("tasks").items()
    }


def circuit_table(found: CircuitsFound, which: str) -> Table:
    """The shifts of heads or MLPs from the base, a row for each other state; in parentheses within the noise floor.

    Last that in context from random labels.
    """
    rows = []
    for name, state, part in _compared(found, which):
        asked = (ABSENT if one is None else estimate(one) for one in (state.accuracy, state.pattern_use))
        first, *others = (_shift(part, measure) for measure in MEASURES)
        rows.append((name, str(state.shots), *asked, first, _number(part.floor["l1"]), *others))
    return Table(HEADER, tuple(rows))


def matched_sentence(found: CircuitsFound) -> str:
    """Which states compare best with the base in context, as they are right nearly as often; empty without any."""
    if not found.matched:
        return ""
    told = [f"{name} ({percent(difference)})" for name, difference in found.matched]
    return f"Nearest to the base in context in accuracy, and by how much more often right: {', '.join(told)}."


def lens_table(states: Sequence[StateFigures]) -> Table:
    """Where the answers of shortcut and rule are decided, on problems with a broken pattern."""
    rows = []
    for state in states:
        if state.lens is not None:
            told = [cell for share, layer in state.lens for cell in (percent(share), _number(layer))]
            rows.append((state.name, str(state.shots), *told))
    return Table(LENS_HEADER, tuple(rows))


def circuit_lines(found: CircuitsFound) -> Iterator[str]:
    """The shifts for the terminal, a line for each of them."""
    for both in zip(*(_compared(found, which) for which in PARTS), strict=True):
        name, state, _ = both[0]
        moved = [
            f"{which} {_shift(part, 'l1')}, floor {_number(part.floor['l1'])}"
            for which, (_, _, part) in zip(PARTS, both, strict=True)
        ]
        yield f"{name}, {state.shots} shots, right {estimate(state.accuracy)}: {'; '.join(moved)}"
    if sentence := matched_sentence(found):
        yield sentence


def change_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """For the terminal: what `keepshot probe --circuits` found, a line for each change and part."""
    yield (
        f"  circuits from {found['base']}, on {found['pairs']} pairs of queries, without and behind {found['shots']} "
        "examples (in parentheses: within the noise floor):"
    )
    for name, parts in found["changes"].items():
        for which, values in parts.items():
            part = _part(Field(values, Path("circuits")))
            kept = [f"{place} {share:.2f}" for place, share in _strongest(part, which)]
            yield (
                f"    {name:<23}{which:<6}shift {_shift(part, 'l1')}, floor {_number(part.floor['l1'])}; "
                f"now most by {', '.join(kept)}"
            )


def _strongest(part: PartFigures, which: str) -> list[tuple[str, float]]:
    every = [
        (f"{layer}.{place}" if which == "heads" else str(layer), share)
        for layer, row in enumerate(part.scores)
        for place, share in enumerate(row)
    ]
    return sorted(every, key=lambda one: -one[1])[:3]


def _compared(found: CircuitsFound, which: str) -> Iterator[tuple[str, StateFigures, PartFigures]]:
    """Every state but the base, shifted from it; then that in context, shifted from random labels."""
    for state in found.states[1:]:
        yield state.name, state, state.parts[which]
    in_context = found.states[1]
    yield f"{in_context.name}, from random labels", in_context, found.context[which]


def circuit_figure(states: Sequence[StateFigures]) -> Figure:
    """A heat map for each state: what each head carries of all that heads carry, and each MLP of all MLPs, by layer."""
    colours = LinearSegmentedColormap.from_list("effect", [PAPER, AFTER])
    rows = -(-len(states) // _COLUMNS)
    largest = max(value for state in states for part in state.parts.values() for row in part.scores for value in row)
    with style():
        figure = Figure(figsize=(9.4, 2.7 * rows + 0.5), layout="constrained")
        axes = figure.subplots(rows, _COLUMNS, squeeze=False)
        for axis in axes.flat[len(states) :]:
            axis.set_axis_off()
        for axis, state in zip(axes.flat, states, strict=False):
            heads, mlps = (state.parts[name].scores for name in PARTS)
            both = [[*row, mlp[0]] for row, mlp in zip(heads, mlps, strict=True)]
            drawn = axis.imshow(both, origin="lower", aspect="auto", cmap=colours, vmin=0, vmax=largest)
            axis.axvline(len(heads[0]) - 0.5, color=INK, linewidth=0.8)
            axis.set_title(fill(cut(state.name, 2 * _TITLE), _TITLE), fontsize=8.5, color=INK, loc="left")
            step = max(1, len(heads[0]) // 4)
            places = [*range(0, len(heads[0]), step), len(heads[0])]
            axis.set_xticks(places, [*(str(place) for place in places[:-1]), "MLP"], fontsize=7.5)
            axis.tick_params(axis="y", labelsize=7.5)
        for axis in axes[:, 0]:
            axis.set_ylabel("layer")
        figure.colorbar(drawn, ax=axes, shrink=0.6, label="part of the effect of all heads, or of all MLPs")
    return figure


def _state(field: Field) -> StateFigures:
    lens = field.find("lens")
    return StateFigures(
        field.at("name").text(),
        int(field.at("shots").number()),
        _estimate(field.find("accuracy")),
        _estimate(field.find("pattern_use")),
        {name: _part(field.at("parts").at(name)) for name in PARTS},
        None
        if lens is None
        else tuple(
            (lens.at(name).at("share").number(), lens.at(name).number_or_none("layer")) for name in ("shortcut", "rule")
        ),
    )


def _part(field: Field) -> PartFigures:
    return PartFigures(
        tuple(tuple(value.number() for value in row.elements()) for row in field.at("scores").elements()),
        {name: _estimate(field.at("shift").find(name)) for name in MEASURES},
        {name: field.at("floor").number_or_none(name) for name in MEASURES},
    )


def _estimate(field: Field | None) -> Estimate | None:
    if field is None:
        return None
    low, high = field.number_or_none("low"), field.number_or_none("high")
    return Estimate(field.at("value").number(), None if low is None or high is None else Interval(low, high))


def _shift(part: PartFigures, measure: str) -> str:
    """A shift with its interval over seeds; in parentheses where it is none, since it lies within the floor."""
    found, floor = part.shift[measure], part.floor[measure]
    if found is None:
        return ABSENT
    text = f"{found.value:.2f}"
    if found.interval is not None:
        text += f" [{found.interval.low:.2f}, {found.interval.high:.2f}]"
    return text if floor is None or found.value > floor else f"({text})"


def _number(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.2f}"
