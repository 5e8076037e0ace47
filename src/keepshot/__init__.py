"""Fine-tune a language model for your task, keep its few-shot ability, and prove it.

What the command line runs is one call here:

    keepshot.tune("config.yaml")                    # tune, keep, measure, report
    keepshot.evaluate("mini", suite="mini")         # the n-shot curve of any model
    keepshot.rescue("mini", "runs/intents", output="runs/rescued")    # few-shot ability given back
    keepshot.gate("runs/intents", max_drop=0.05)    # pass, fail, insufficient
    keepshot.compare("compare.yaml")                # methods x learning rates, and which one to take
    keepshot.patterns("patterns.yaml")              # learning in context beside fine-tuning; then keepshot.circuits
    keepshot.confounds("confounds.yaml")            # what each defect of a published pipeline makes
    keepshot.demo("runs/demo")                      # three methods side by side on the bundled model

The laboratory of linear attention is `keepshot.theory`, the probes of context use `keepshot.runs.probing`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keepshot.config import RunConfig, load_config
    from keepshot.errors import KeepshotError
    from keepshot.evaluation import Evaluation, EvaluationPlan
    from keepshot.report import Report, read_report, render
    from keepshot.runs import RunFolder, default_cache, demo, evaluate, evaluate_against, gate, tune
    from keepshot.runs.circuits import circuits
    from keepshot.runs.comparison import compare
    from keepshot.runs.confounds import confounds
    from keepshot.runs.patterns import patterns
    from keepshot.runs.rescue import RescueSettings, rescue
    from keepshot.tasks.check import check_data
    from keepshot.tasks.example import Example, Suite, Task, Turn
    from keepshot.tasks.read import read_examples, read_task
    from keepshot.tasks.suite_files import read_suite

# Names are imported when they are asked for: `import keepshot` loads no torch.
_HOMES = {
    "keepshot.config": ("RunConfig", "load_config"),
    "keepshot.errors": ("KeepshotError",),
    "keepshot.evaluation": ("Evaluation", "EvaluationPlan"),
    "keepshot.report": ("Report", "read_report", "render"),
    "keepshot.runs": ("RunFolder", "default_cache", "demo", "evaluate", "evaluate_against", "gate", "tune"),
    "keepshot.runs.rescue": ("RescueSettings", "rescue"),
    "keepshot.runs.circuits": ("circuits",),
    "keepshot.runs.comparison": ("compare",),
    "keepshot.runs.confounds": ("confounds",),
    "keepshot.runs.patterns": ("patterns",),
    "keepshot.tasks.check": ("check_data",),
    "keepshot.tasks.example": ("Example", "Suite", "Task", "Turn"),
    "keepshot.tasks.read": ("read_examples", "read_task"),
    "keepshot.tasks.suite_files": ("read_suite",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
__all__ = [
    "Evaluation",
    "EvaluationPlan",
    "Example",
    "KeepshotError",
    "Report",
    "RescueSettings",
    "RunConfig",
    "RunFolder",
    "Suite",
    "Task",
    "Turn",
    "check_data",
    "circuits",
    "compare",
    "confounds",
    "default_cache",
    "demo",
    "evaluate",
    "evaluate_against",
    "gate",
    "load_config",
    "patterns",
    "read_examples",
    "read_report",
    "read_suite",
    "read_task",
    "render",
    "rescue",
    "tune",
]


def __getattr__(name: str) -> object:
    if name in _HOME_OF:
        return getattr(import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'keepshot' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
