"""The model card: Markdown that the Hugging Face Hub shows, with its YAML front matter."""

import json
import re
from collections.abc import Sequence
from pathlib import PurePosixPath, PureWindowsPath

from keepshot.report import tables, wording
from keepshot.report.record import Report
from keepshot.report.tables import Table

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)


def model_card(report: Report, figures: Sequence[str]) -> str:
    """The card of a run's model.

    Args:
        report: What the run found.
        figures: Names of the figures in the folder `figures` beside the card.
    """
    reason = wording.further_reason(report)
    parts = [
        _front_matter(report),
        f"# {escaped(report.name)}",
        wording.headline(report),
        f"Base: {escaped(_short(report.base))}. Method: {escaped(report.method)}. "
        f"Target: {escaped(report.target.name)}. Held-out tasks: {escaped(report.held_out.name)}.",
        "## Before and after",
        markdown_table(tables.curve_table(report)),
        "Accuracy [95% interval] by the number of examples in the prompt. " + wording.DEFINITION,
        *(f"![{_alt(name)}](figures/{name}.png)" for name in figures if name in ("target", "held_out")),
        "## What was kept",
        markdown_table(tables.group_table(report)),
        *([words] if (words := wording.detectable_words(report)) else []),
        f"**Gate: {wording.VERDICTS[report.gate.verdict]}.** {escaped(wording.verdict_words(report))}"
        + (f" ({escaped(reason)})" if reason else ""),
        "## How to load it",
        _loading(report),
        _stopping(report),
        *([wording.PROMPT_USE] if report.prompt_path else []),
        "## Cost",
        markdown_table(tables.cost_table(report)),
    ]
    if report.cost.streams:
        parts.append(markdown_table(tables.stream_table(report)))
    if report.notes:
        parts += ["## Notes", "\n".join(f"- {escaped(note)}" for note in report.notes)]
    settings = tables.settings_table(report)
    shared = Table(settings.header, tuple((name, _short(value)) for name, value in settings.rows))
    parts += ["## Settings", _folded("Resolved settings, seed and versions", shared)]
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table, rest: str = "---:") -> str:
    """A GitHub-flavoured table.

    Args:
        table: Header and rows.
        rest: How the columns after the first are aligned; numbers belong to the right.

    Example:
        >>> print(markdown_table(Table(("task", "kept"), (("a|b", "91%"),))))
        | task | kept |
        | :--- | ---: |
        | a\\|b | 91% |
    """
    rule = (":---", *(rest for _ in table.header[1:]))
    rows = (table.header, *table.rows)
    lines = ["| " + " | ".join(escaped(cell) for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "| " + " | ".join(rule) + " |", *lines[1:]])


def escaped(text: str) -> str:
    """Text on one line in which Markdown and HTML find no markup.

    Example:
        >>> print(escaped("exact_match *a* [b] [c](d) <i>"))
        exact_match \\*a\\* [b] [c\\](d) \\<i\\>
    """
    line = " ".join(text.split())
    line = re.sub(r"[\\`*<>|~#!&$]|\](?=[(\[:])", r"\\\g<0>", line)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", line)


def _front_matter(report: Report) -> str:
    """Strings in double quotes as JSON writes them, which YAML reads alike, whatever they hold."""
    adapter = report.model_path.startswith("adapter")
    lines = ["---"]
    if HUB_ID.fullmatch(report.base):  # the Hub refuses a card whose base_model is a local path
        lines.append(f"base_model: {_quoted(report.base)}")
    lines += [
        f"library_name: {'peft' if adapter else 'transformers'}",
        "pipeline_tag: text-generation",
        "tags:",
        *(f"- {tag}" for tag in ("keepshot", "few-shot", "in-context-learning")),
        "---",
    ]
    return "\n".join(lines)


def _loading(report: Report) -> str:
    """Code that loads the model from this folder."""
    lines, path = ["```python"], _quoted(report.model_path)
    adapter = report.model_path.startswith("adapter")
    if adapter:
        bundled = report.base == "mini"
        base = 'str(files("keepshot.models") / "mini")' if bundled else _quoted(_short(report.base))
        lines += [
            *(["from importlib.resources import files", ""] if bundled else []),
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            f"base = {base}",
            "tokenizer = AutoTokenizer.from_pretrained(base)",
            "model = AutoModelForCausalLM.from_pretrained(base)",
            f"model = PeftModel.from_pretrained(model, {path})",
        ]
    else:
        lines += [
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            f"tokenizer = AutoTokenizer.from_pretrained({path})",
            f"model = AutoModelForCausalLM.from_pretrained({path})",
        ]
    if report.prompt_path:
        if adapter:
            lines.append("model = model.merge_and_unload()")
        else:
            lines.insert(1, "from peft import PeftModel")
        lines.append(f"on_target = PeftModel.from_pretrained(model, {_quoted(report.prompt_path)})")
    return "\n".join([*lines, "```"])


def _stopping(report: Report) -> str:
    """How prompts are written, and what ends an answer."""
    words = "Write prompts as `prompt` in `report.json` shows."
    if not report.stop:
        return words
    strings = json.dumps(report.stop, ensure_ascii=False).replace("`", "\\u0060")
    return f"{words} There an answer ends: `model.generate(..., stop_strings={strings}, tokenizer=tokenizer)`."


def _folded(title: str, table: Table) -> str:
    """A table to open; the empty lines let Markdown go on inside."""
    return f"<details><summary>{title}</summary>\n\n{markdown_table(table, ':---')}\n\n</details>"


def _alt(name: str) -> str:
    return {"target": "Target before and after", "held_out": "Held-out tasks before and after"}[name]


def _short(value: str) -> str:
    """A value as it is, of an absolute path only the name: a card is shared, its writer's disk is not."""
    if PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute():
        return PureWindowsPath(value).name or value  # takes both kinds of slashes
    return value


def _quoted(text: str) -> str:
    printable = "".join(letter for letter in text if letter.isprintable())
    return json.dumps(printable, ensure_ascii=False)
