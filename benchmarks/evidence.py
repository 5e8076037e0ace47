"""Evidence on a real model: five methods at matched target accuracy, with intervals over seeds and questions.

    python -m benchmarks.evidence MODEL [--data FOLDER] [--output FOLDER] [--set a.b=c ...]

MODEL is a hub id, a local folder or `mini`. Without `--data`, public data sets are read from the hub once
(benchmarks/evidence_data.py). What is compared stands in recipes/evidence.yaml. A run that was stopped is taken up
again. At the end the output holds compare.html, compare.json, compare.csv and evidence.md; see docs/evidence.md.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.evidence_data import write_data
from benchmarks.evidence_page import evidence_page
from keepshot.errors import DataError, KeepshotError
from keepshot.files import write_text
from keepshot.report.comparison_page import comparison_lines
from keepshot.runs.comparison import compare
from keepshot.runs.comparison_config import load_comparison
from keepshot.tasks.rows import DATA_SUFFIXES

RECIPE = Path(__file__).parents[1] / "recipes" / "evidence.yaml"
DATA = Path("runs/evidence-data")
REQUIRED = ("target.train.jsonl", "target.test.jsonl", "suite", "validation")

# What few tasks say is about these tasks; with fewer, the page says so.
FEWEST_TASKS = {"suite": 8, "validation": 4}


def data_overrides(folder: Path) -> list[str]:
    """The `a.b=c` overrides that point a comparison at a folder of data.

    Args:
        folder: With `target.train.jsonl`, `target.test.jsonl`, `suite/` and `validation/`; also `icl/` and
            `general.jsonl` for methods that use them.

    Raises:
        DataError: A part that every method needs is missing.
    """
    if missing := [name for name in REQUIRED if not (folder / name).exists()]:
        raise DataError(
            f"{folder} lacks {', '.join(missing)}; it must hold {', '.join(REQUIRED)}, and icl and general.jsonl for "
            "methods that use them (docs/evidence.md)"
        )
    paths = {"data.train": REQUIRED[0], "data.test": REQUIRED[1], "suite": "suite", "validation_suite": "validation"}
    found = [f"{name}={json.dumps(str(folder / path))}" for name, path in paths.items()]
    for source, path in (("icl", "icl"), ("anchors", "icl"), ("general", "general.jsonl")):
        entries = [{"path": str(folder / path)}] if (folder / path).exists() else []
        found.append(f"sources.{source}={json.dumps(entries)}")
    return found


def few_tasks(folder: Path) -> list[str]:
    """What a reader should know of a folder of data that holds fewer tasks than the protocol asks for."""
    notes = []
    for part, fewest in FEWEST_TASKS.items():
        num_tasks = len({file.name.split(".")[0] for file in (folder / part).iterdir() if file.suffix in DATA_SUFFIXES})
        if num_tasks < fewest:
            notes.append(f"{part} holds {num_tasks} tasks; {fewest} or more are needed for a claim about a model.")
    return notes


def evidence(
    model: str,
    data: Path,
    output: Path,
    overrides: Sequence[str] = (),
    recipe: Path = RECIPE,
    say: Callable[[str], None] = print,
) -> Path:
    """Run the comparison, or what is left of it, and write `evidence.md` beside its results.

    Args:
        model: Hub id, folder, or `mini`.
        data: The folder of data.
        output: The comparison's folder.
        overrides: Further `a.b=c`, applied last.
        recipe: A config of `keepshot compare`.
        say: Called with each line worth showing.

    Returns:
        `evidence.md`.

    Raises:
        KeepshotError: Config, data or model cannot be used.
    """
    own = [f"model={json.dumps(model)}", f"output={json.dumps(str(output))}"]
    config = load_comparison(recipe, [*own, *data_overrides(data), *overrides])
    folder = compare(config, resume=(Path(config.output) / "config.yaml").exists(), say=say)
    page = folder / "evidence.md"
    write_text(page, evidence_page(folder, data, few_tasks(data)))
    for line in comparison_lines(folder):
        say(line)
    return page


def main() -> None:
    """Fetch the data if none is given, compare, print the table."""
    parser = argparse.ArgumentParser(description="Compare methods on a real model.")
    parser.add_argument("model", help="a hub id, a local folder, or mini")
    parser.add_argument("--data", type=Path, help="a folder as benchmarks.evidence_data writes it")
    parser.add_argument("--output", type=Path, help="default: runs/evidence/MODEL")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="a config of keepshot compare")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="a.b=c")
    options = parser.parse_args()
    name = re.sub(r"[^\w.-]+", "-", options.model).strip("-.")
    try:
        if options.data is None and not DATA.exists():
            write_data(DATA, say=lambda line: print(line, flush=True))
        page = evidence(
            options.model,
            options.data or DATA,
            options.output or Path("runs/evidence") / name,
            options.overrides,
            options.recipe,
            lambda line: print(line, flush=True),
        )
    except KeepshotError as error:
        sys.exit(f"error: {error}")
    print(page.read_text(encoding="utf-8"))
    print(f"table: {page}\npage: {page.with_name('compare.html')}")


if __name__ == "__main__":
    main()
