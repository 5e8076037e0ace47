"""How figures look, and how they leave matplotlib: as PNG for files and as SVG that takes the page's colours."""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK = "#1f2328"
MUTED = "#68707c"
RULE = "#dfe2e6"
PAPER = "#fffffe"  # not quite white, so that it can be told from any other white in the SVG
BEFORE = "#8c939d"
AFTER = "#0b64c0"
VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", PAPER: "paper", BEFORE: "before", AFTER: "after"}
"""Colour in the figure -> CSS variable of the page. Blue on grey is told apart by every kind of colour vision."""

WIDTH_IN = 5.0
METHOD_WIDTH = 24
"""Letters of a method's name beside a figure: the default's has 20."""
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # names of tasks and methods may hold dollar signs
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.color": RULE,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "savefig.facecolor": "none",
}


@contextmanager
def style() -> Iterator[None]:
    """The look of every figure; figures are made and saved within it."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A name in a script that the font lacks shows as boxes in the PNG; the page's SVG uses the reader's fonts.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        yield


def panel(height_in: float = 3.3) -> tuple[Figure, Axes]:
    """A figure of one column's width with one pair of axes; no global state, so it also works in a thread."""
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    return figure, figure.add_subplot()


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure on white, at twice the resolution of a plain screen."""
    with style():
        figure.savefig(path, dpi=200, facecolor="white", metadata={"Software": None})


def as_svg(figure: Figure, name: str, description: str) -> Markup:
    """A figure as inline SVG in the page's colours and fonts.

    Args:
        figure: Any figure of this room.
        name: Keeps its ids apart from those of the page's other figures.
        description: What a screen reader says.
    """
    buffer = io.StringIO()
    with style(), matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    opening, rest = svg.split(">", 1)
    view_box = re.findall(r'viewBox="[^"]*"', opening)[0]
    rest = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", rest, flags=re.DOTALL)
    rest = re.sub(r' id="[\w.]+_\d+"', "", rest).replace("xlink:href", "href")
    rest = re.sub(r'style="[^"]*"', _in_page_terms, rest.replace('<style type="text/css">', "<style>"))
    # matplotlib escapes the texts that it writes, and the description is escaped here.
    return Markup('<svg {} role="img" aria-label="{}">').format(Markup(view_box), description) + Markup(rest)


def _in_page_terms(attribute: re.Match[str]) -> str:
    """A style attribute with the reader's font and the page's colours; the texts of a figure stay as they are."""
    text = attribute[0].replace("'DejaVu Sans'", "system-ui")
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    return text


def cut(text: str, width: int) -> str:
    """`text` on one line of at most `width` characters, without what cannot be printed.

    Example:
        >>> cut("sentiment of\\nfilm reviews", 12)
        'sentiment o…'
    """
    line = "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
    return line if len(line) <= width else f"{line[: width - 1].rstrip()}…"


def percent_axis(axis: Axes, low: float = 0.0, high: float = 1.0) -> None:
    """A y axis of rates, with rules across, and a margin so that a marker at an end is whole."""
    margin = 0.03 * (high - low)
    axis.set_ylim(low - margin, high + margin)
    axis.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%".replace("-", "−"))
    axis.grid(axis="y")


def shots_axis(axis: Axes, shots: Sequence[int]) -> None:
    """An x axis with one place for each shot count, evenly spaced since they usually double."""
    axis.set_xticks(range(len(shots)), [str(count) for count in shots])
    axis.set_xlim(-0.3, len(shots) - 0.7)
    axis.set_xlabel("examples in the prompt")


def absent(axis: Axes, place: int, words: str) -> None:
    """Say at a place of the x axis why nothing is drawn there."""
    low, high = axis.get_ylim()
    axis.text(
        place, (low + high) / 2, words, rotation=90, ha="center", va="center", color=MUTED, fontsize=8.5,
        bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.5},
    )  # fmt: skip


def label_ends(axis: Axes, labels: Sequence[tuple[float, str, str]], x: float) -> None:
    """Write `(y, text, colour)` beside the ends of lines, moved apart where they would overlap."""
    low, high = axis.get_ylim()
    gap = 0.068 * (high - low)
    places: list[float] = []
    ordered = sorted(labels)
    for y, _, _ in ordered:
        places.append(max(y, places[-1] + gap) if places else y)
    overflow = max(0.0, places[-1] - high) if places else 0.0
    for place, (_, text, colour) in zip(places, ordered, strict=True):
        axis.annotate(
            text, (x, place - overflow), xytext=(7, 0), textcoords="offset points", va="center", color=colour,
            fontweight="bold" if colour == AFTER else "normal", annotation_clip=False,
        )  # fmt: skip
