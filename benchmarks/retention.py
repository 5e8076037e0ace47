"""Retention at matched target accuracy, by a whole comparison.

    python -m benchmarks.retention [CONFIG] [--set a.b=c ...]

CONFIG is one of `keepshot compare`. A comparison that is in its folder is taken up again. The last line is the
retention of the method that comes first over all targets, with its interval.
"""

import argparse
import sys
from pathlib import Path

from keepshot.report.comparison import read_comparison
from keepshot.report.comparison_page import comparison_lines
from keepshot.runs.comparison import compare
from keepshot.runs.comparison_config import load_comparison

RECIPE = Path(__file__).parents[1] / "recipes" / "compare-mini.yaml"


def main() -> None:
    """Print every method's figures over all targets, the recommendation, then the retention that it has."""
    parser = argparse.ArgumentParser()
    parser.add_argument("config", nargs="?", type=Path, default=RECIPE)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="a.b=c")
    options = parser.parse_args()
    config = load_comparison(options.config, options.overrides)
    resume = (Path(config.output) / "config.yaml").exists()
    folder = compare(config, resume=resume, say=lambda line: print(line, flush=True))
    found = read_comparison(folder)
    for method in found.methods:
        kept = "not measurable" if method.retention is None else f"{method.retention.value:.3f}"
        print(
            f"{method.name}: target {method.accuracy.value:.3f}, retention {kept}, {method.time_ratio:.2f} x the time"
        )
    print(*comparison_lines(folder), sep="\n")
    first = next((method for method in found.methods if method.name == found.advice.method), None)
    if first is None or first.retention is None or first.retention.interval is None:
        sys.exit("no method qualifies, so there is no retention to report")
    interval = first.retention.interval
    print(f"retention: {first.retention.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]")


if __name__ == "__main__":
    main()
