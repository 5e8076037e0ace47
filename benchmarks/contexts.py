"""What each kind of context in training leaves of a model: probes, similarity sweep, and a store of later examples.

    python -m benchmarks.contexts [FILE] [--methods NAME ...] [--seeds 3] [--steps 250] [--rate 2e-4]
    python -m benchmarks.contexts [FILE] --table [--figure contexts.png]

Without FILE the target is `mini:misspelt`: sixty words, misspelt in many ways, with eight labels. With FILE it is that
file of examples (CLINC150, WikiSQL): its `--groups` most frequent groups, a group being what `--group`, a regular
expression, finds in an answer. A quarter of the words (or groups) is set aside: it arrives after training, as the
store. The bundled model is tuned on the rest with every method and seed, asked the probes on what it was trained
on, and asked all test rows with and without the store. Every training is taken up where it stopped; what it came to is
written to `benchmarks/results/contexts/NAME.json`.
"""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from keepshot.config import DataConfig, load_config
from keepshot.files import read_json, write_json, write_text
from keepshot.keys import permutation
from keepshot.report.drawing import BEFORE, INK, MUTED, save_png, style
from keepshot.runs import tune
from keepshot.runs.adaptation import Retrieved, adaptation
from keepshot.runs.probing import build_probes, probe_model
from keepshot.tasks.builtin import builtin_target
from keepshot.tasks.example import Example
from keepshot.tasks.mini_targets import misspelt_words
from keepshot.tasks.read import read_examples
from keepshot.tasks.universe.recall import nearest

RESULTS = Path(__file__).parent / "results" / "contexts"
BASE = "base"
METHODS: Mapping[str, str | None] = {
    "zero-shot": None,
    "random": "ic-random",
    "similar": "ic-similar",
    "across": "ic-across",
    "contrastive": "ic-contrastive",
}
SCORES = ("iwl", "icl", "copy", "leak", "zero_shot", "similar")
COLOURS = (BEFORE, "#111827", "#c2410c", "#7e22ce", "#0f766e", "#0b64c0")
STORED = 4
"""Examples of each new word or label in the store."""


def main() -> None:
    """Train and ask what is missing, then print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--group", type=re.compile, default=re.compile("(.*)"), metavar="REGEX")
    parser.add_argument("--groups", type=int, default=24)
    parser.add_argument("--longest", type=int, default=1000, help="characters of an example's input and answer")
    parser.add_argument("--metric", default="", help="of keepshot.evaluation.metrics")
    parser.add_argument("--output", type=Path, default=Path("runs/contexts"))
    parser.add_argument("--name", default="", help="of the results; that of the file unless told")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    name = options.name or ("misspelt" if options.file is None else options.file.name.split(".")[0])
    path = RESULTS / f"{name}.json"
    results: dict[str, Any] = read_json(path) if path.exists() else {}
    if not options.table:
        folder = options.output / name
        split(folder, options)
        for seed in range(options.seeds):
            for method in [BASE, *options.methods]:
                label = BASE if method == BASE else f"{method} {seed}"
                if label not in results:
                    print(label, flush=True)
                    results[label] = measured(method, seed, folder, options)
                    write_json(path, results)
    if not results:
        sys.exit(f"{path} does not exist; run without --table")
    print(table(results))
    if options.figure is not None:
        save_png(figure(results), options.figure)


def split(folder: Path, options: argparse.Namespace) -> None:
    """Write `train.jsonl`, `test.jsonl` (of what was trained on), `asked.jsonl` (of everything) and `store.jsonl`."""
    group: Callable[[Example], str]
    if options.file is None:
        target, words = builtin_target("misspelt"), misspelt_words()
        train, test = list(target.train), list(target.test)
        group = lambda example: nearest(example.input, words)  # noqa: E731  (a choice of two)
    else:
        group = lambda example: options.group.search(example.output)[1]  # noqa: E731
        train = frequent(read_examples(str(options.file)).examples, group, options)
        places = permutation(len(train), 0, "test rows")[: len(train) // 4]
        test = [train.pop(place) for place in sorted(places, reverse=True)]
    groups = sorted({group(example) for example in train})
    late = {groups[place] for place in permutation(len(groups), 0, "late groups")[: len(groups) // 4]}
    store: list[Example] = []
    counts = dict.fromkeys(late, 0)
    for example in train:
        if (where := group(example)) in late and counts[where] < STORED:
            counts[where] += 1
            store.append(example)
    parts = {
        "train": [example for example in train if group(example) not in late],
        "test": [example for example in test if group(example) not in late],
        "asked": test,
        "store": store,
    }
    for part, examples in parts.items():
        rows = [json.dumps({"input": example.input, "output": example.output}) for example in examples]
        write_text(folder / f"{part}.jsonl", "\n".join(rows) + "\n")


def frequent(
    examples: Sequence[Example], group: Callable[[Example], str], options: argparse.Namespace
) -> list[Example]:
    """The short examples of the most frequent groups; chance decides between equally frequent ones."""
    short = [example for example in examples if len(example.input) + len(example.output) <= options.longest]
    counts = Counter(group(example) for example in short)
    shuffled = [sorted(counts)[place] for place in permutation(len(counts), 0, "groups")]
    kept = set(sorted(shuffled, key=lambda name: -counts[name])[: options.groups])
    return [example for example in short if group(example) in kept]


def measured(method: str, seed: int, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train, if it is no base, and ask."""
    data = {"train": str(folder / "train.jsonl"), "test": str(folder / "test.jsonl")}
    model, cost = "mini", None
    if method != BASE:
        addition = METHODS[method]
        config = load_config(
            {
                "model": "mini",
                "data": data,
                "method": ["full"] if addition is None else ["full", {addition: {"shots": [options.shots] * 2}}],
                "output": str(folder / f"{method}-{seed}"),
                "train": {
                    "max_steps": options.steps,
                    "per_device_train_batch_size": options.batch,
                    "learning_rate": options.rate,
                    "lr_scheduler_type": "linear",
                    "warmup_steps": 20,
                    "save_strategy": "no",
                    "disable_tqdm": True,
                },
                "evaluate": {"shots": [0], "sets": 2, "queries": 1},
                "seed": seed,
            }
        )
        run = tune(config, resume=True)
        model = str(run.path / "model")
        cost = read_json(run.training)
    # The same questions for all: the seed is of training alone.
    probes = build_probes(DataConfig(**data), count=options.queries, shots=options.shots, metric=options.metric)
    found = probe_model(model, probes)
    asked = DataConfig(train=data["train"], test=str(folder / "asked.jsonl"))
    how = Retrieved(count=3 * options.queries, shots=options.shots, metric=options.metric)
    stored = adaptation(model, asked, folder / "store.jsonl", how)
    return {
        "scores": {name: found["scores"][name]["value"] for name in SCORES},
        "sweep": [[step["name"], step["similarity"], step["correct"]["value"]] for step in found["sweep"]["grades"]],
        "store": {
            part: {key: stored[part][key]["value"] for key in ("zero_shot", "without", "with_store")}
            for part in ("near", "away")
        },
        "tokens": None if cost is None else cost["tokens"],
        "contexts": None if cost is None else cost["streams"]["target"].get("contexts"),
    }


def by_method(results: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What each method came to, seed by seed."""
    rows: dict[str, list[Any]] = {}
    for label, found in results.items():
        rows.setdefault(label.rsplit(" ", 1)[0], []).append(found)
    return rows


def table(results: Mapping[str, Any]) -> str:
    """Markdown: means over seeds with t intervals; then the similarity sweep; then the store."""
    rows = by_method(results)
    lines = [
        f"| trained on | {' | '.join(name.replace('_', '-') for name in SCORES)} |",
        f"|---|{'---|' * len(SCORES)}",
    ]
    for method, found in rows.items():
        cells = [cell([one["scores"][name] for one in found]) for name in SCORES]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    grades = [name for name, *_ in results[BASE]["sweep"]]
    similarity = [f"{name} ({value:.2f})" for name, value, _ in results[BASE]["sweep"]]
    lines += ["", f"| trained on | {' | '.join(similarity)} |", f"|---|{'---|' * len(grades)}"]
    for method, found in rows.items():
        columns = zip(*([value for _, _, value in one["sweep"]] for one in found), strict=True)
        lines.append(f"| {method} | {' | '.join(cell(column) for column in columns)} |")
    shown = [(part, key) for part in ("near", "away") for key in ("zero_shot", "without", "with_store")]
    words = [f"{part}: {key.replace('_', ' ')}" for part, key in shown]
    lines += ["", f"| trained on | {' | '.join(words)} |", f"|---|{'---|' * len(shown)}"]
    for method, found in rows.items():
        cells = [cell([one["store"][part][key] for one in found]) for part, key in shown]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def figure(results: Mapping[str, Any]) -> Figure:
    """Left the similarity sweep, right IWL against ICL: every seed a point."""
    rows = by_method(results)
    with style():
        drawn = Figure(figsize=(9.2, 3.8), layout="constrained")
        sweep, plane = drawn.subplots(1, 2)
        for (method, found), colour in zip(rows.items(), COLOURS, strict=False):
            steps = [step for step in found[0]["sweep"] if step[0] not in ("none", "all nearest")]
            names = [name for name, *_ in steps]
            right = [{name: value for name, _, value in one["sweep"]} for one in found]
            values = np.array([[one[name] for name in names] for one in right])
            x = [similarity for _, similarity, _ in steps]
            sweep.plot(x, values.mean(axis=0), color=colour, marker="o", markersize=4, linewidth=1.7, label=method)
            if len(found) > 1:
                sweep.fill_between(x, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0)
            scores = [one["scores"] for one in found]
            plane.plot([one["iwl"] for one in scores], [one["icl"] for one in scores], "o", color=colour, markersize=6)
        sweep.set_xlabel("similarity of the best example", color=MUTED)
        sweep.set_title("right", fontsize=9.5, color=INK, loc="left")
        sweep.set_ylim(0, 1.03)
        plane.set_xlabel("IWL: right behind examples that do not matter", color=MUTED)
        plane.set_title("ICL: follows a relevant example against its weights", fontsize=9.5, color=INK, loc="left")
        plane.set_xlim(0, 1.03)
        plane.set_ylim(0, 1.03)
        for axis in (sweep, plane):
            axis.grid(axis="y")
        handles, labels = sweep.get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8.5, title="trained on")
    return drawn


def cell(values: Sequence[float]) -> str:
    """A mean, with its 95 % t interval over seeds where there are several."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.2f}"
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return f"{mean:.2f} ± {half:.2f}"


if __name__ == "__main__":
    main()
