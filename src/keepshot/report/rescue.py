"""A rescue for people: the curve from base to tuned model as a figure, a model card, and lines for the terminal.

Everything is read from the content of `rescue.json`; nothing here loads a model.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from keepshot.files import write_text
from keepshot.report.card import HUB_ID, escaped, markdown_table
from keepshot.report.drawing import AFTER, INK, label_ends, panel, percent_axis, save_png, style
from keepshot.report.tables import Table
from keepshot.report.wording import ABSENT, DEFINITION, percent

MODELS = ("base", "tuned", "rescued")


def render_rescue(result: Mapping[str, Any], folder: Path) -> None:
    """Write `figures/curve.png` and `README.md`."""
    (folder / "figures").mkdir(exist_ok=True)
    save_png(draw_rescue(result), folder / "figures" / "curve.png")
    write_text(folder / "README.md", rescue_card(result))


def draw_rescue(result: Mapping[str, Any]) -> Figure:
    """Target accuracy and retention from the base (0) to the tuned model (1), on validation data and suite.

    Points with a coefficient per group stand at their mean coefficient, faint; the chosen one is ringed.
    """
    points = result["validation"]["points"]
    common = sorted((p for p in points if p["stage"] == "common"), key=_mean)
    others = [p for p in points if p["stage"] != "common"]
    values = [p[name][end] for p in points for name in ("target", "retention") for end in ("low", "high")]
    with style():
        figure, axis = panel()
        percent_axis(axis, max(min(0.0, *values), -0.5), min(max(1.0, *values), 1.5))
        axis.set_xlabel("from the base (0) to the tuned model (1)")
        axis.set_xlim(-0.03, 1.03)
        labels = []
        for name, words, colour in (("retention", "ability kept", AFTER), ("target", "target", INK)):
            places = [_mean(p) for p in common]
            axis.fill_between(
                places, [p[name]["low"] for p in common], [p[name]["high"] for p in common],
                color=colour, alpha=0.15, linewidth=0,
            )  # fmt: skip
            axis.plot(places, [p[name]["value"] for p in common], color=colour, linewidth=2, marker="o", markersize=4.5)
            axis.plot(
                [_mean(p) for p in others], [p[name]["value"] for p in others], "o", color=colour, alpha=0.35,
                markersize=3, markeredgewidth=0,
            )  # fmt: skip
            chosen = result["chosen"]
            axis.plot(
                _mean(chosen), chosen[name]["value"], "o", color=colour, markersize=11, fillstyle="none",
                markeredgewidth=1.6, clip_on=False,
            )  # fmt: skip
            labels.append((common[-1][name]["value"], words, colour))
        label_ends(axis, labels, 1.03)
    return figure


def rescue_card(result: Mapping[str, Any]) -> str:
    """The model card of a rescued model: Markdown with its YAML front matter."""
    adapter = result["model_path"] == "adapter"
    base = result["base"] if HUB_ID.fullmatch(result["base"]) else Path(result["base"]).name
    front = [
        "---",
        *([f'base_model: "{base}"'] if HUB_ID.fullmatch(result["base"]) else []),
        f"library_name: {'peft' if adapter else 'transformers'}",
        "pipeline_tag: text-generation",
        "tags:",
        *(f"- {tag}" for tag in ("keepshot", "few-shot", "in-context-learning", "wise-ft")),
        "---",
    ]
    validation = result["validation"]
    coefficients = Table(("group of roles", "coefficient"), tuple(_coefficients(result["chosen"])))
    how = (
        f"`PeftModel.from_pretrained(base, {result['model_path']!r})`, on the unchanged base"
        if adapter
        else f"`AutoModelForCausalLM.from_pretrained({result['model_path']!r})`"
    )
    parts = [
        "\n".join(front),
        f"# {escaped(base)}, rescued",
        f"A model between {escaped(base)} and what was tuned from it for {escaped(result['target']['task'])}: "
        "(1 − a) base + a tuned, weight by weight.",
        "## Base, tuned, rescued",
        markdown_table(_table(result)),
        f"On test rows and the suite {escaped(result['held_out']['suite'])}, which had no part in the choice "
        f"[95% intervals]. {DEFINITION}",
        "## What was chosen, and why",
        markdown_table(coefficients),
        f"{escaped(result['chosen']['reason'])}. Chosen by {validation['target_rows']} validation rows and "
        f"{len(validation['tasks'])} other tasks ({escaped(validation['suite'])}).",
        "![Target accuracy and ability kept from base to tuned model](figures/curve.png)",
        f"Load it with {how}.",
    ]
    if result["notes"]:
        parts += ["## Notes", "\n".join(f"- {escaped(note)}" for note in result["notes"])]
    return "\n\n".join(parts) + "\n"


def rescue_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """What a rescue came to, for the terminal."""
    for name, target, kept in _table(result).rows:
        yield f"{name:<8} target {target}, few-shot ability kept {kept}"
    for group, coefficient in _coefficients(result["chosen"]):
        yield f"  {group:<14}{coefficient}"


def point_line(point: Mapping[str, Any]) -> str:
    """One point of the search; the loss is against the tuned model and has its standard error in it.

    Example:
        >>> rate = {"value": 0.9, "low": 0.85, "high": 0.95}
        >>> point = {"stage": "common", "coefficients": {"all": 0.5}, "target": rate, "loss": 0.1, "retention": rate}
        >>> point_line(point)
        '0.5: target 90.0% [85.0, 95.0], loss up to 10.0%, kept 90.0% [85.0, 95.0]'
    """
    if point["stage"] == "common":
        where = f"{_mean(point):.3g}"
    else:
        where = ", ".join(f"{group} {coefficient:.3g}" for group, coefficient in point["coefficients"].items())
    lost = percent(max(0.0, point["loss"]), 1)
    return f"{where}: target {_rate(point['target'])}, loss up to {lost}, kept {_rate(point['retention'])}"


def _table(result: Mapping[str, Any]) -> Table:
    """Target accuracy and retention of the three models on what had no part in the choice."""
    target, shots = result["target"], result["target"]["shots"]
    kept = {"base": {"value": 1.0, "low": None, "high": None}, **result["retention"]}
    return Table(
        ("", f"target, {'zero-shot' if shots == 0 else f'{shots}-shot'}", "few-shot ability kept"),
        tuple((name, _accuracy(target[name][str(shots)]), _rate(kept[name])) for name in MODELS),
    )


def _coefficients(point: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(group, f"{coefficient:.3g}") for group, coefficient in point["coefficients"].items()]


def _mean(point: Mapping[str, Any]) -> float:
    coefficients: Sequence[float] = list(point["coefficients"].values())
    return sum(coefficients) / len(coefficients)


def _accuracy(point: Mapping[str, Any] | None) -> str:
    return ABSENT if point is None else _rate({**point, "value": point["accuracy"]})


def _rate(estimate: Mapping[str, Any]) -> str:
    """A rate with its interval, where it has one."""
    if estimate["value"] is None:
        return "not measurable"
    if estimate["low"] is None:
        return percent(estimate["value"], 1)
    low, high = (percent(estimate[end], 1).removesuffix("%") for end in ("low", "high"))
    return f"{percent(estimate['value'], 1)} [{low}, {high}]"
