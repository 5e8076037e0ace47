"""The main job in a few minutes on a CPU: three methods, one target, one reduced suite."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keepshot.config import load_config
from keepshot.report import compare_page
from keepshot.runs.folder import RunFolder
from keepshot.runs.progress import Progress, Say, silent
from keepshot.runs.tuning import tune

TARGET = "mini:word-rule"


@dataclass(frozen=True, slots=True)
class Entry:
    """A method of the demo with its learning rate.

    The rates are those at which each method reaches the target within the demo's steps (`LOG.md` has the sweep).
    """

    name: str
    method: Any
    learning_rate: float


ENTRIES = (
    Entry("full", "full", 1e-4),
    Entry("value", "value", 1e-3),
    Entry("auto", "auto", 2.7e-4),
)


def demo(
    output: Path | str, *, seed: int = 0, say: Say = silent, progress: Progress | None = None
) -> tuple[list[RunFolder], Path]:
    """Tune the bundled model for one target with each method and compare them.

    A finished run is kept and shown again; delete its folder to run it anew.

    Args:
        output: One run folder per method goes here, and `compare.html`.
        seed: Of every draw.
        say: Called with each line worth showing.
        progress: Called with a task's name, sets done and sets in all.

    Returns:
        The run folders and the path of the comparison.
    """
    folders: list[RunFolder] = []
    for entry in ENTRIES:
        path = Path(output) / entry.name
        finished = " is finished; delete its folder to run it anew" if (path / "report.html").exists() else ""
        say(f"{path}{finished}")
        base = folders[0].path if folders else None
        folders.append(
            tune(demo_config(entry, path, seed), resume=True, base_evaluation=base, say=say, progress=progress)
        )
    return folders, compare_page([folder.path for folder in folders], Path(output) / "compare.html")


def demo_config(entry: Entry, output: Path, seed: int) -> Any:
    """The config of one entry, as a user would write it."""
    return load_config(
        {
            "model": "mini",
            "data": {"train": TARGET},
            "method": entry.method,
            "output": str(output),
            "train": {
                "max_steps": 100,
                "per_device_train_batch_size": 32,
                "learning_rate": entry.learning_rate,
                "lr_scheduler_type": "linear",
                "warmup_steps": 10,
                "logging_steps": 10,
                "save_steps": 50,
            },
            "evaluate": {"shots": [0, 4, 16], "sets": 8, "queries": 12},
            "seed": seed,
        }
    )
