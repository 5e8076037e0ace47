"""The HTML page of one run: one file, no scripts, nothing fetched."""

import re
from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from keepshot.report import tables, wording
from keepshot.report.drawing import as_svg
from keepshot.report.record import Report
from keepshot.report.training import TrainingLog

DESCRIPTIONS = {
    "target": "Accuracy on the target by number of examples, before and after tuning",
    "held_out": "Mean accuracy on the held-out tasks by number of examples, before and after tuning",
    "tasks": "Accuracy on each held-out task before and after tuning",
    "retention": "Few-shot ability kept at each number of examples, with intervals",
    "loss": "Training loss of each stream by step",
}


def fill(template: str, values: Mapping[str, object]) -> str:
    """A template of this room, filled; every value that is not markup already is escaped.

    Args:
        template: File name in `templates`.
        values: What it asks for; a missing one is an error.
    """
    environment = Environment(
        loader=PackageLoader("keepshot.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(values)


def run_page(report: Report, log: TrainingLog | None, figures: Mapping[str, Figure]) -> str:
    """The page of one run.

    Args:
        report: What the run found.
        log: Its training log.
        figures: As `figures.draw` made them.
    """
    drawn = {
        name: as_svg(figures[name], name, words) if name in figures else "" for name, words in DESCRIPTIONS.items()
    }
    kept = report.retention.estimate
    return fill(
        "report.html.j2",
        {
            "report": report,
            "log": log,
            "figures": drawn,
            "created": wording.moment(report.created),
            "headline": emphasised(wording.headline(report)),
            "verdict": wording.VERDICTS[report.gate.verdict],
            "meaning": wording.verdict_words(report),
            "reason": wording.further_reason(report),
            "gained": "gain not measured" if report.gain is None else wording.points(report.gain),
            "kept": "not measurable" if kept is None else f"{wording.estimate(kept)} kept",
            "detectable": wording.detectable_words(report),
            "definition": wording.DEFINITION,
            "curves": tables.curve_table(report),
            "groups": tables.group_table(report),
            "tasks": tables.task_table(report),
            "cost": tables.cost_table(report),
            "streams": tables.stream_table(report),
            "settings": tables.settings_table(report),
            "further": tables.further_table(report),
        },
    )


def emphasised(sentence: str) -> Markup:
    """A sentence, escaped, with its rates in bold; intervals and hyphened words stay on one line.

    Example:
        >>> emphasised("from 12% to <94%>")
        Markup('from <b>12%</b> to &lt;<b>94%</b>&gt;')
    """
    whole = re.sub(r"\w+-\w+|\[[^]]*\]", r"<span>\g<0></span>", str(escape(sentence)))
    return Markup(re.sub(r"−?[\d.]+%", r"<b>\g<0></b>", whole))
