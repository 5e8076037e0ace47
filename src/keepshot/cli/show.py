"""What the command line prints: progress while a command runs, tables when it has ended."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from keepshot.report.tables import Table as Cells

# Where torchrun and the MPI launchers that accelerate knows say which process this is.
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")


def is_first_process() -> bool:
    """Whether this process speaks, of those that were launched together."""
    return next((os.environ[name] for name in _RANKS if name in os.environ), "0") == "0"


console = Console(highlight=False, soft_wrap=True, quiet=not is_first_process())


def say(line: str) -> None:
    """Print a line as it is."""
    console.print(line, markup=False)
    console.file.flush()  # a log that goes to a pipe keeps its order


@contextmanager
def evaluation_progress() -> Iterator[Any]:
    """A callback for evaluations that draws a bar per evaluation (only on a terminal)."""
    errors = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, disable=not errors.is_terminal) as bars:
        bar = bars.add_task("evaluating", total=None, visible=False)

        def progress(task: str, done: int, total: int) -> None:
            bars.update(bar, description=task[:32].ljust(32), completed=done, total=total, visible=done < total)

        yield progress


def curve_table(evaluation: Mapping[str, Any]) -> Table:
    """Accuracy per task and shot count, then the mean with its interval, from an `eval.json` mapping."""
    # As texts: a name may hold square brackets, which rich takes for markup.
    table = Table(title=Text(f"{evaluation['model']}: accuracy by number of shots"), title_justify="left")
    table.add_column("task", no_wrap=True)
    table.add_column("chance", justify="right")
    for shots in evaluation["shots"]:
        table.add_column(str(shots), justify="right", no_wrap=True)
    for name, task in evaluation["tasks"].items():
        points = [task["shots"][str(n)] for n in evaluation["shots"]]
        table.add_row(Text(name), f"{task['chance']:.2f}", *[_cell(point, "accuracy") for point in points])
    table.add_section()
    means = [evaluation["mean"][str(n)] for n in evaluation["shots"]]
    table.add_row("mean", "", *[_cell(point, "accuracy", 3) for point in means])
    table.add_row("95 % interval from", "", *[_cell(point, "low", 3) for point in means])
    table.add_row("to", "", *[_cell(point, "high", 3) for point in means])
    return table


def as_table(title: str, cells: Cells) -> Table:
    """A table of the report's for the terminal."""
    table = Table(title=Text(title), title_justify="left")
    for name in cells.header:
        table.add_column(Text(name), overflow="fold")
    for row in cells.rows:
        table.add_row(*map(Text, row))
    return table


def wide(table: Table) -> None:
    """Print a table that needs some width; in a pipe there is no terminal to fit."""
    Console(width=max(console.width, 120), highlight=False, quiet=console.quiet).print(table)


def against_lines(base: str, tuned: Mapping[str, Any]) -> Iterator[str]:
    """Difference and retention of a tuned model, from one of the `against` mappings of an `eval.json`."""
    yield f"{tuned['model']} against {base}, same prompts:"
    for shots, found in tuned["difference"].items():
        if found is not None:
            yield f"  {shots} shots: accuracy {found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"
    kept = tuned["retention"]
    if kept["value"] is None:
        yield f"  retention: not measurable, {kept['reason']}"
    else:
        yield f"  retention at {kept['shots']} shots: {kept['value']:.3f} [{kept['low']:.3f}, {kept['high']:.3f}]"
    for name, part in kept["groups"].items():
        if part is not None and part["shots"] == 0:
            yield f"  {name}, at 0 shots: {part['value']:.3f} [{part['low']:.3f}, {part['high']:.3f}]"


def method_lines(methods: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Named methods and additions: what each trains or sees, costs and cites."""
    yield "method: one trainable, or a list of one trainable and any additions, such as [value, icl-mix]"
    for kind, title in (("recommended", "recommended"), ("trainable", "trainables"), ("addition", "additions")):
        yield ""
        yield f"{title}:"
        for method in methods:
            if method["kind"] == kind:
                yield f"  {method['name']:<19}{method['trains']}"
                yield f"  {'':<19}{method['costs']}; {method['cites']}"


def _cell(point: Mapping[str, float] | None, field: str, digits: int = 2) -> str:
    """A number of a curve's point; a dash where it was not asked, or does not fit the context."""
    return "–" if point is None else f"{point[field]:.{digits}f}"


_PROBED = {
    "iwl": "right behind examples that do not matter",
    "icl": "follows a relevant example against its weights",
    "copy": "takes over the label of an example that does not matter",
    "leak": "follows an edit in an example that does not matter",
    "zero_shot": "right with no examples",
    "similar": "right behind an example that says it",
}


def probe_lines(record: Mapping[str, Any]) -> Iterator[str]:
    """The scores of `keepshot.probe/1`, then accuracy by the similarity of the best example."""
    yield f"{record['model']} on {record['data']}, {record['queries']} queries behind {record['shots']} examples"
    for name, words in _PROBED.items():
        yield f"  {name.replace('_', '-'):<10} {_interval(record['scores'][name])}  {words}"
    yield "  similarity of the best example, and what is right:"
    for step in record["sweep"]["grades"]:
        yield f"  {step['name']:<14} {step['similarity']:5.2f}  {_interval(step['correct'])}"
    if drift := record.get("drift"):
        yield from _drift_lines(drift)
    if circuits := record.get("circuits"):
        from keepshot.report.circuits import change_lines

        yield from change_lines(circuits)


def _drift_lines(drift: Mapping[str, Any]) -> Iterator[str]:
    yield f"  moved from {drift['base']}, on {drift['prompts']} prompts (heads: mean and largest):"
    roles = [role for role, values in drift["weights"].items() if any(value is not None for value in values)]
    weights = "".join(f"{'W ' + role:>10}" for role in roles)
    yield f"  {'layer':>7}{'attention':>16}{'values':>9}{'outputs':>16}{weights}"
    for number, (attention, values, outputs) in enumerate(
        zip(drift["attention"], drift["values"], drift["outputs"], strict=True)
    ):
        heads = [f"{sum(part) / len(part):.3f} {max(part):.3f}" for part in (attention, outputs)]
        moved = [drift["weights"][role][number] for role in roles]
        cells = "".join(f"{'–' if value is None else format(value, '.4f'):>10}" for value in moved)
        yield f"  {number:>7}{heads[0]:>16}{values:>9.3f}{heads[1]:>16}{cells}"


def adaptation_lines(record: Mapping[str, Any]) -> Iterator[str]:
    """What a store did (`keepshot.adaptation/1`): right with no examples, behind training examples, behind both."""
    yield (
        f"{record['model']} on {record['data']}, {record['shots']} examples retrieved, {record['stored']} in the store "
        f"{record['store']}"
    )
    words = {"all": "all queries", "near": "nearest to the store", "away": "nearest to training data"}
    yield f"  {'':<34}{'no examples':>18}{'without store':>20}{'with store':>20}{'difference':>20}"
    for name, text in words.items():
        part = record[name]
        if part is None:
            yield f"  {text}: none"
            continue
        cells = "".join(f"{_interval(part[key]):>20}" for key in ("zero_shot", "without", "with_store", "difference"))
        yield f"  {text + ' (' + str(part['without']['n']) + ')':<32}{cells}"


def _interval(found: Mapping[str, float]) -> str:
    return f"{found['value']:5.2f} [{found['low']:.2f}, {found['high']:.2f}]"
