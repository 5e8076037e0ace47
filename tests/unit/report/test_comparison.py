from pathlib import Path

import pytest
from tests.unit.report.compared import COMPARISON, METHODS, TARGET, written

from keepshot.errors import RunError
from keepshot.report.comparison import read_comparison
from keepshot.report.record import Estimate, Interval


def test_a_comparison_comes_back_as_records(tmp_path: Path) -> None:
    found = read_comparison(written(tmp_path))
    [target] = found.targets
    mix = target.methods[2]
    assert (mix.name, mix.matched, mix.on_front, mix.steps) == ("value+icl-mix", True, True, 100)
    assert mix.retention == Estimate(0.97, Interval(0.94, 1.0))
    assert (mix.groups["format matches target"], target.methods[4].retention) == (None, None)
    assert not target.methods[1].matched
    assert (found.methods[0].learning_rate, found.methods[0].runs) == (None, ())
    assert target.tried[2].accuracy is None
    assert found.advice.next == "full+icl-kl"


def test_null_where_no_method_qualifies(tmp_path: Path) -> None:
    advice = {"verdict": "none", "method": None, "next": None, "reason": "…"}
    assert read_comparison(written(tmp_path, recommendation=advice)).advice.method == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "keepshot.report/1"}, "has the schema 'keepshot.report/1'"),
        ({"targets": {}}, "targets is {}, not a list"),
        ({"targets": [{**TARGET, "before": None}]}, "targets.0.before is None, not a finite number"),
        ({"methods": [{**METHODS[0], "accuracy": {"value": "much"}}]}, "methods.0.accuracy.value is 'much'"),
        ({"recommendation": {"verdict": "maybe", "reason": ""}}, "verdict is 'maybe', not clear"),
    ],
)
def test_a_foreign_file_is_refused_by_place(changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        read_comparison(written(tmp_path, **changes))
    assert message in str(caught.value)


def test_an_unfinished_comparison_has_no_result(tmp_path: Path) -> None:
    assert COMPARISON["targets"]
    with pytest.raises(RunError, match=r"holds no compare\.json"):
        read_comparison(tmp_path)
