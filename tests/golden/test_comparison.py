"""However a comparison was run (straight, killed and resumed, cell by cell), it finds the same."""

import csv
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from tests import processes

from keepshot.errors import ConfigError, RunError
from keepshot.report.comparison import read_comparison
from keepshot.runs.comparison import compare

TIMES = ("created", "train_seconds", "time_ratio", "within", "name", "settings", "train_runtime")


def run(config: dict[str, Any], options: dict[str, Any], killed: processes.Killed | None) -> None:
    """In a process of its own: `compare`, with no way past `killed`: a module, a function, and at which call."""
    processes.die_at(killed)
    compare(config, **options)


def exit_code(config: dict[str, Any], killed: processes.Killed | None = None, **options: Any) -> int | None:
    return processes.exit_code(processes.start(run, config, options, killed))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two methods at two rates on a target of 60 rows, and a suite of two tasks that is halved."""
    root = tmp_path_factory.mktemp("data")
    (root / "suite").mkdir()
    words = ["amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "inlet", "jetty"]
    rows = [{"input": f"{word} {i}", "output": "up" if i % 2 else "down"} for i in range(10) for word in words]
    held_out = [word[i:] for i in range(2) for word in words]
    files = {
        "train.jsonl": rows[:60],
        "test.jsonl": rows[60:],
        "suite/upper.jsonl": [{"input": word, "output": word.upper()} for word in held_out],
        "suite/first.jsonl": [{"input": word, "output": word[::-1]} for word in held_out],
    }
    for name, content in files.items():
        (root / name).write_text("".join(json.dumps(row) + "\n" for row in content))
    return {
        "model": "mini",
        "data": {"train": str(root / "train.jsonl"), "test": str(root / "test.jsonl")},
        "suite": str(root / "suite"),
        "methods": ["full", "value"],
        "learning_rates": {"full": [1e-4, 1e-3], "value": [1e-3]},
        "steps": [4],
        "seeds": [3],
        "train": {"per_device_train_batch_size": 4, "save_steps": 2, "use_cpu": True, "bf16": False},
        "evaluate": {"shots": [0, 4], "sets": 2, "queries": 5},
        "validation": {"shots": [4], "sets": 2, "queries": 5},
    }


@pytest.fixture(scope="module")
def straight(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("straight") / "comparison"
    assert exit_code(config, output=folder) == 0
    return folder


def figures(folder: Path) -> Any:
    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: timeless(inner) for name, inner in value.items() if name not in TIMES}
        return [timeless(inner) for inner in value] if isinstance(value, list) else value

    found = timeless(json.loads((folder / "compare.json").read_text()))
    for part in (found, *found["targets"]):
        del part["recommendation"]["reason"]  # tells times
    return found


def test_a_comparison_leaves_what_it_promises(straight: Path) -> None:
    found = read_comparison(straight)
    [target] = found.targets
    assert [method.name for method in target.methods] == ["full", "value"]
    assert len(target.tried) == 3
    assert 0 < target.threshold <= 1
    best = max(one.accuracy or 0 for one in target.tried if one.method == "full")
    assert target.threshold == pytest.approx(0.99 * best)
    with (straight / "compare.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["chosen"] for row in rows].count("1") == 2
    for row in rows:  # what was not chosen was asked nothing that is reported
        folder = straight / "cells" / row["target"] / row["method"] / f"{float(row['learning_rate']):g}-4-3"
        assert (row["accuracy"] != "") == (row["chosen"] == "1") == (folder / "eval_after.json").exists()
        assert (folder / "model").exists() == (row["chosen"] == "1")
        assert not (folder / "checkpoints").exists()
    for method in target.methods:
        report = json.loads((straight / method.runs[0] / "report.json").read_text())
        assert report["target"]["after"]["0"]["accuracy"] == method.accuracy.value
        assert (straight / method.runs[0] / "report.html").exists()
    asked = [set(json.loads((straight / method.runs[0] / f"eval_{when}.json").read_text())["tasks"]) for when in
             ("after", "validation")]  # fmt: skip
    assert len([name for name in asked[0] & asked[1] if name != target.name]) == 0


def test_killed_and_resumed_it_finds_the_same(straight: Path, config: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    for number, killed in enumerate(
        [
            ("keepshot.train.trainer", "save_plan", 4),  # in the second cell
            ("keepshot.runs.cells", "answered", 3),  # trained, not asked
            ("keepshot.runs.tuning", "run_report", 2),  # reporting
        ]
    ):
        assert exit_code(config, killed, output=folder, resume=number > 0) == -signal.SIGKILL
        assert not (folder / "compare.json").exists()
    with pytest.raises(RunError, match="already holds a comparison; add --resume"):
        compare(config, output=folder)
    assert exit_code(config, output=folder, resume=True) == 0
    assert figures(folder) == figures(straight)


def test_cell_by_cell_it_finds_the_same(straight: Path, config: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "cells"
    for cell in (3, 1):
        assert exit_code(config, output=folder, cell=cell) == 0
        assert not (folder / "compare.json").exists()
    assert len(list(folder.glob("cells/*/*/*/cell.json"))) == 2
    assert exit_code(config, output=folder, resume=True) == 0
    assert figures(folder) == figures(straight)


def test_what_decides_on_a_cell_must_stay(straight: Path, config: dict[str, Any]) -> None:
    changes: list[tuple[dict[str, Any], str]] = [
        ({"evaluate": {"shots": [0, 4], "sets": 2, "queries": 4}}, "differs from this config in evaluate"),
        ({"train": config["train"] | {"warmup_steps": 1}}, "differs from this config in train"),
        ({"seed": 1}, "differs from this config in seed"),
        ({"methods": ["full", {"name": "value", "method": "query-key"}]}, "in the method value"),
        ({"data": config["data"] | {"max_length": 64}}, "in the target train"),
    ]
    for change, message in changes:
        with pytest.raises(RunError, match=message):
            compare(config | change, output=straight, resume=True)
    rates = {"full": [1e-4, 1e-3], "value": [1e-3]}
    with pytest.raises(ConfigError, match="cell 4 is none of this comparison's, which are numbered from 1 to 3"):
        compare(config | {"learning_rates": rates}, output=straight, cell=4)
    data = Path(config["data"]["train"])
    before = data.read_text()
    data.write_text(before + '{"input": "new", "output": "up"}\n')
    try:
        with pytest.raises(RunError, match=r"base.train was begun with other data or suite; bring back"):
            compare(config, output=straight, resume=True)
    finally:
        data.write_text(before)
