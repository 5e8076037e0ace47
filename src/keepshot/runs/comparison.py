"""Choose: methods x learning rates x steps x seeds on one or more targets, side by side."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keepshot.errors import RunError
from keepshot.files import write_json, write_text
from keepshot.report.comparison_page import comparison_page
from keepshot.runs.cells import cell_run, run_cell, tried
from keepshot.runs.comparison_config import Cell, CompareConfig, load_comparison
from keepshot.runs.comparison_folder import open_comparison
from keepshot.runs.comparison_record import comparison_report, comparison_table
from keepshot.runs.comparison_results import remove_others, target_result
from keepshot.runs.folder import RunFolder, in_use
from keepshot.runs.grid_config import check_number
from keepshot.runs.ground import Ground, load_ground
from keepshot.runs.progress import Progress, Say, silent


def compare(
    config: CompareConfig | Mapping[str, Any] | Path | str,
    *,
    output: Path | str | None = None,
    resume: bool = False,
    cell: int | None = None,
    say: Say = silent,
    progress: Progress | None = None,
) -> Path:
    """Train every method at every setting with every seed, choose settings on validation, report on other questions.

    First come the cells: each is trained and asked about the target's validation part and a validation suite. Then each
    method is represented by one setting, the same for all seeds: of those that match the baseline's target accuracy the
    one that keeps most. Only these are asked what is reported: the target's test part and the suite. So no reported
    figure has chosen anything.

    A cell is complete or absent. A comparison that was killed goes on with `resume`; cells can be run one by one with
    `cell`, in any order and on several machines that share the folder; the call without `cell` then does what is left.

    Args:
        config: A config, its values as a mapping, or the path of a YAML file.
        output: Folder; replaces the config's.
        resume: Continue the comparison that is in the folder. The grid may have grown.
        cell: The number of one cell, from 1, to run alone.
        say: Called with each line worth showing.
        progress: Called with a task's name, sets done and sets in all during evaluations.

    Returns:
        The folder, with `compare.json`, `compare.csv` and `compare.html` (not with `cell`).

    Raises:
        KeepshotError: Config, data or model cannot be used, or every training of the baseline failed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RunError("compare runs in one process; start one process for each --cell instead of torchrun")
    if not isinstance(config, CompareConfig):
        config = load_comparison(Path(config) if isinstance(config, str) else config)
    if output is not None:
        config = config.model_copy(update={"output": str(output)})
    cells = tuple(config.cells())
    check_number(cell, len(cells), "comparison")
    mine = cells if cell is None else cells[cell - 1 : cell]
    grounds = {name: load_ground(config, name) for name in dict.fromkeys(one.target for one in mine)}
    if cell is None:
        _look_ahead(config, cells, grounds)
    open_comparison(config, grounds, resume=resume or cell is not None)
    for ground in grounds.values():
        for line in (*(f"left out: {row}" for row in ground.target.skipped), *(f"note: {n}" for n in ground.notes)):
            say(line)
    folder = Path(config.output)
    if cell is not None:
        _run_cells(config, cells, mine, grounds, say, progress)
        return folder
    with in_use(RunFolder(folder)):
        _run_cells(config, cells, mine, grounds, say, progress)
        results = [target_result(config, ground, say, progress) for ground in grounds.values()]
        write_text(folder / "compare.csv", comparison_table(config, results))
        write_json(folder / "compare.json", comparison_report(config, results))
        comparison_page(folder)
        if config.keep == "chosen":
            remove_others(config, results)
    return folder


def _look_ahead(config: CompareConfig, cells: Sequence[Cell], grounds: Mapping[str, Ground]) -> None:
    """Prepare every method once, so that what is wrong with the last is known before the first is trained."""
    seen = set()
    for one in cells:
        if one.method not in seen and tried(config, one) is None:
            seen.add(one.method)
            cell_run(config, one, grounds[one.target])


def _run_cells(
    config: CompareConfig,
    cells: Sequence[Cell],
    mine: Sequence[Cell],
    grounds: Mapping[str, Ground],
    say: Say,
    progress: Progress | None,
) -> None:
    for one in mine:
        words = f"cell {1 + cells.index(one)} of {len(cells)}: {one}"
        if tried(config, one) is not None:
            say(f"{words} is there")
            continue
        say(words)
        run_cell(config, one, grounds[one.target], say, progress)
