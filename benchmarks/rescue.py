"""What `rescue` gives back of full fine-tunes that were not protected, on the bundled model.

    python -m benchmarks.rescue [--targets word-rule number-order] [--seeds 3] [--steps 150] [--rate 1.2e-4]
                                [--max-loss 0.01 0.05] [--output runs/rescue-mini]
    python -m benchmarks.rescue --table

Every target is tuned with every seed by plain full fine-tuning and rescued at every accepted loss, one coefficient for
all weights; a training or rescue that is there is not run again. What they came to is written to
`benchmarks/results/rescue-mini/TARGET.json`, parts of their `rescue.json`; then the table over all targets that
are there is printed as Markdown. Figures are means over seeds with a t interval. The last line is the retention of the
rescued models at the smallest accepted loss.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from keepshot.evaluation import mean_estimate
from keepshot.files import read_json, write_json
from keepshot.runs import tune
from keepshot.runs.rescue import RescueSettings, rescue

RESULTS = Path(__file__).parent / "results" / "rescue-mini"
TRAIN = {
    "per_device_train_batch_size": 32, "lr_scheduler_type": "linear", "warmup_steps": 10, "save_strategy": "no",
    "disable_tqdm": True,
}  # fmt: skip
MODELS = ("tuned", "rescued")

Result = Mapping[str, Any]


def main() -> None:
    """Tune and rescue what is missing, then print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--targets", nargs="*", default=["word-rule", "number-order"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rate", type=float, default=1.2e-4)
    parser.add_argument("--max-loss", type=float, nargs="*", default=[0.01, 0.05])
    parser.add_argument("--output", type=Path, default=Path("runs/rescue-mini"))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if not options.table:
        for target in options.targets:
            found = [one for seed in range(options.seeds) for one in rescued(target, seed, options)]
            write_json(RESULTS / f"{target}.json", {"rescues": found})
    every = {path.stem: read_json(path)["rescues"] for path in sorted(RESULTS.glob("*.json"))}
    if not every:
        sys.exit(f"{RESULTS} holds no results yet; run without --table")
    for target, results in every.items():
        print(f"\n{target}\n", *curve(results), "", *chosen(results), sep="\n")
    smallest = [one for results in every.values() for one in results if one["max_loss"] == least(results)]
    print(f"retention: {mean(one['retention']['rescued'] for one in smallest):.3f}")


def rescued(target: str, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rescues of one training, one for each accepted loss."""
    folder = options.output / f"{target}-{seed}"
    config = {
        "model": "mini", "data": {"train": f"mini:{target}"}, "suite": "mini", "method": "full", "seed": seed,
        "output": str(folder / "tuned"), "evaluate": {"shots": [0, 16], "sets": 6, "queries": 8},
        "train": {"max_steps": options.steps, "learning_rate": options.rate, **TRAIN},
    }  # fmt: skip
    if not (folder / "tuned" / "report.json").exists():
        print(f"tuning on {target}, seed {seed}", flush=True)
        tune(config, resume=(folder / "tuned" / "config.yaml").exists())
    found = []
    for loss in options.max_loss:
        output = folder / f"rescued-{loss:g}"
        if not (output / "rescue.json").exists():
            print(f"rescuing {target}, seed {seed}, losing at most {loss:g}", flush=True)
            settings = RescueSettings(max_loss=loss, by_group=False)
            rescue("mini", str(folder / "tuned"), output=output, settings=settings)
        found.append(in_short(read_json(output / "rescue.json")) | {"seed": seed, "max_loss": loss})
    return found


def in_short(result: Mapping[str, Any]) -> dict[str, Any]:
    """What the table needs of a `rescue.json`."""
    shots = str(result["target"]["shots"])
    return {
        "target": {model: result["target"][model][shots]["accuracy"] for model in MODELS},
        "retention": {model: result["retention"][model]["value"] for model in MODELS},
        "coefficient": _coefficient(result["chosen"]),
        "points": [
            {
                "coefficient": _coefficient(point),
                "target": point["target"]["value"],
                "retention": point["retention"]["value"],
            }
            for point in result["validation"]["points"]
        ],
        "versions": result["versions"],
    }


def curve(results: Sequence[Result]) -> list[str]:
    """From the base to the tuned model: accuracy on validation rows, and retention on the validation suite."""
    lines = ["| coefficient | target, validation | kept, validation suite |", "|---|---|---|"]
    points = [point for one in results if one["max_loss"] == least(results) for point in one["points"]]
    for coefficient in sorted({point["coefficient"] for point in points}, reverse=True):
        mine = [point for point in points if point["coefficient"] == coefficient]
        cells = (_over([point[figure] for point in mine]) for figure in ("target", "retention"))
        lines.append(f"| {coefficient:g} | " + " | ".join(cells) + " |")
    return lines


def chosen(results: Sequence[Result]) -> list[str]:
    """Before and after, on test rows and the suite that is reported on."""
    lines = ["| model | coefficient | target, test | kept |", "|---|---|---|---|"]
    for loss in sorted({one["max_loss"] for one in results}):
        mine = [one for one in results if one["max_loss"] == loss]
        where = {"tuned": "1", "rescued": ", ".join(f"{one['coefficient']:g}" for one in mine)}
        for model in MODELS if loss == least(results) else ("rescued",):
            name = model if model == "tuned" else f"rescued, to lose at most {loss:g}"
            cells = (_over([one[figure][model] for one in mine]) for figure in ("target", "retention"))
            lines.append(f"| {name} | {where[model]} | " + " | ".join(cells) + " |")
    return lines


def least(results: Sequence[Result]) -> float:
    """The smallest accepted loss."""
    return float(min(one["max_loss"] for one in results))


def _coefficient(point: Result) -> float:
    (value,) = set(point["coefficients"].values())
    return float(value)


def _over(values: Sequence[float]) -> str:
    found = mean_estimate(values)
    return f"{values[0]:.3f}" if found is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


if __name__ == "__main__":
    main()
