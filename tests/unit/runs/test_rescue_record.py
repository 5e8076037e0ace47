"""What `rescue.json` says where a suite has tasks that are asked without examples."""

import inspect
from types import SimpleNamespace

import pytest
from tests.backends import rigged

from keepshot.evaluation import EvaluationPlan, evaluate_tasks
from keepshot.runs import rescue_record
from keepshot.tasks.example import Example, Suite, Task

NEXT = Task("next", tuple(Example(str(i), str(i + 1)) for i in range(40)))
TARGET = Task("target", tuple(Example(f"t{i}", "x") for i in range(40)))
TOLD = Task("told", tuple(Example(str(i), str(i * 2), instruction="Double it.") for i in range(40)), group="instructed")


def test_curves_of_the_held_out_tasks_are_of_those_with_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = EvaluationPlan(shots=(0, 2), sets=2, queries=5)

    def say(text: str, shots: int) -> str:
        return "x" if text.startswith("t") else str(int(text) + 1) if shots else ""

    found = evaluate_tasks(rigged(say), Suite("s", (TARGET, NEXT, TOLD)), plan)
    rescue = SimpleNamespace(
        setup=SimpleNamespace(
            base="mini",
            plan=plan,
            settings=SimpleNamespace(max_loss=0.01, search_sets=2, search_queries=4),
            questions=SimpleNamespace(
                target=TARGET, suite=Suite("v", (NEXT,)), report_target=TARGET, report_suite=Suite("s", (NEXT, TOLD)),
                notes=(),
            ),
        ),
        tuned="tuned",
        model_path="model",
        found=SimpleNamespace(chosen=None, reason="", points=()),
        evaluations=dict.fromkeys(("base", "tuned", "rescued"), found),
    )  # fmt: skip
    monkeypatch.setattr(rescue_record, "point_json", lambda point: {})
    result = inspect.unwrap(rescue_record.rescue_json)(rescue)  # Outside tests no type checker stands before it.
    curve = result["held_out"]["rescued"]
    assert curve["2"]["accuracy"] == 1
    assert curve["0"] == {**curve["0"], "accuracy": 0.0}, "told would be right without examples"
    assert result["held_out"]["tasks"] == ["next", "told"]
    assert result["retention"]["rescued"]["shots"] == 2
