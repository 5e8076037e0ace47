"""Retention at matched target accuracy on the bundled model: many targets, each a comparison of its own.

    python -m benchmarks.retention [CONFIG] [--targets NAME ...] [--set a.b=c ...] [--table]

CONFIG is one of `keepshot compare` with `targets`. Each target is compared in a folder of its own under the config's
`output`, taken up again where it stopped; what it came to is written to `benchmarks/results/NAME/TARGET.csv`, NAME
being the config's. A target that stands there is not computed again (two processes may take different `--targets`).
Then the table over all targets that are there is printed as Markdown, with what it says of the hypotheses; `--table`
does only that. The last line is the retention of the method with the highest lower bound, of those that match on all
targets at no more than `max_cost` times the baseline's cost.
"""

import argparse
import shutil
import sys
from pathlib import Path

from benchmarks.retention_table import Row, best, read_rows, statements, summary, table
from keepshot.files import write_text
from keepshot.runs.comparison import compare
from keepshot.runs.comparison_config import CompareConfig, load_comparison

RECIPE = Path(__file__).parents[1] / "recipes" / "retention-mini.yaml"
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Compare what is missing, then print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("config", nargs="?", type=Path, default=RECIPE)
    parser.add_argument("--targets", nargs="*", default=[])
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="a.b=c")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    config = load_comparison(options.config, options.overrides)
    results = RESULTS / options.config.stem
    if not options.table:
        known = config.named_targets()
        if unknown := set(options.targets) - set(known):
            sys.exit(f"{', '.join(sorted(unknown))} is no target of {options.config}; it has {', '.join(known)}")
        for name in options.targets or known:
            if not (results / f"{name}.csv").exists():
                _compare(config, name, results)
    rows = [row for path in sorted(results.glob("*.csv")) for row in read_rows(path)]
    if not rows:
        sys.exit(f"{results} holds no results yet; run without --table")
    print_all(rows, config)


def _compare(config: CompareConfig, target: str, results: Path) -> None:
    alone = config.model_copy(
        update={
            "data": None,
            "targets": ({"name": target, "data": config.named_targets()[target]},),
            "output": str(Path(config.output) / target),
        }
    )
    alone = CompareConfig.model_validate(alone.model_dump())
    resume = (Path(alone.output) / "config.yaml").exists()
    folder = compare(alone, resume=resume, say=lambda line: print(line, flush=True))
    results.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "config.yaml", results / f"{target}.yaml")
    write_text(results / f"{target}.csv", (folder / "compare.csv").read_text(encoding="utf-8"))


def print_all(rows: list[Row], config: CompareConfig) -> None:
    """The table, what it says, and the best method's retention."""
    methods = summary(rows, config.baseline)
    print(table(methods), *statements(rows, methods, config.baseline), sep="\n")
    first = best(methods, config.max_cost, config.cost)
    if first is None or first.retention is None:
        sys.exit("no method qualifies, so there is no retention to report")
    print(f"{first.name} of {first.targets} targets")
    print(f"retention: {first.retention.value:.3f} [{first.retention.low:.3f}, {first.retention.high:.3f}]")


if __name__ == "__main__":
    main()
