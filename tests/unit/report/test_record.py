import json
from pathlib import Path
from typing import Any

import pytest

from keepshot.errors import RunError
from keepshot.report.record import Estimate, Interval, read_report

CONTRACT = (
    "base",
    "method",
    "model_path",
    "target",
    "held_out",
    "retention",
    "gain",
    "gate",
    "cost",
    "seed",
    "versions",
)


def test_reads_numbers_where_they_stand(numbers: dict[str, Any], make_run) -> None:
    report = read_report(make_run(numbers))
    before = report.target.before[0]
    assert before is not None
    assert before.accuracy == Estimate(0.06, Interval(0.02, 0.1))
    assert before.queries == 320
    assert report.retention.estimate == Estimate(0.914, Interval(0.848, 0.98))
    assert report.retention.by_shots[0] is None
    assert report.shots == 16
    assert report.retention.nll == (0.48, 0.61)
    assert report.retention.minimum_detectable_drop is None
    assert report.gain == Estimate(0.88, Interval(0.85, 0.91))
    assert {task.name for task in report.tasks if task.group == "own-input"} == {
        "first letter of the input",
        "number of words",
    }
    assert [(stream.name, stream.share, stream.weight) for stream in report.cost.streams] == [
        ("target", 0.8, None),
        ("icl-mix", 0.2, None),
    ]


def test_curves_are_ordered_by_number_not_by_letter(numbers: dict[str, Any], make_run) -> None:
    numbers["target"]["before"] = dict(sorted(numbers["target"]["before"].items()))  # 0, 1, 16, 2, …
    assert list(read_report(make_run(numbers)).target.before) == [0, 1, 2, 4, 8, 16]


def test_contract_keys_are_enough(numbers: dict[str, Any], make_run) -> None:
    bare = {name: numbers[name] for name in CONTRACT}
    bare["cost"] = {}
    bare["retention"] = {"value": 0.9, "low": 0.8, "high": 1.0, "shots": 16}
    bare["target"] = {name: numbers["target"][name] for name in ("task", "before", "after")}
    bare["gate"] = {"verdict": "pass", "max_drop": 0.2, "reason": ""}
    for task in numbers["held_out"]["tasks"].values():
        for name in ("group", "chance", "metric", "format_matches_target"):
            del task[name]
    report = read_report(make_run(bare, "an older run"))
    assert report.name == "an older run"
    assert report.gain.interval is None
    assert report.cost.train_seconds is None
    assert report.notes == ()
    assert {task.format_matches_target for task in report.tasks} == {None}


def test_a_gain_that_was_not_measured_is_none(numbers: dict[str, Any], make_run) -> None:
    numbers["gain_interval"] = None
    report = read_report(make_run(numbers, "one set"))
    assert report.gain == Estimate(0.88, None)
    numbers["gain"] = None
    assert read_report(make_run(numbers, "no zero shots")).gain is None


@pytest.mark.parametrize("name", CONTRACT)
def test_a_missing_contract_key_is_named(name: str, numbers: dict[str, Any], make_run) -> None:
    del numbers[name]
    with pytest.raises(RunError, match=f"lacks '{name}'"):
        read_report(make_run(numbers))


def test_null_retention_keeps_its_reason_and_a_shot_count(numbers: dict[str, Any], make_run) -> None:
    numbers["retention"] = {"value": None, "low": None, "high": None, "shots": None, "reason": "too little to lose"}
    numbers["held_out"]["before"]["16"] = numbers["held_out"]["after"]["16"] = None
    report = read_report(make_run(numbers))
    assert report.retention.estimate is None
    assert report.retention.reason == "too little to lose"
    assert report.shots == 8


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("gain",), "much", "gain is 'much', not a finite number"),
        (("gain",), True, "gain is True"),
        (("target", "before"), {}, "target.before has no shot counts"),
        (("target", "before", "0", "accuracy"), None, "target.before.0.accuracy is None"),
        (("target", "before"), {"many": None}, "target.before.many is not under a shot count"),
        (("gate", "verdict"), "maybe", "not pass, fail or insufficient"),
        (("schema",), "keepshot.report/9", "keepshot.report/9"),
        (("held_out",), [], "held_out is \\[\\], not an object"),
        (("method",), {"streams": []}, "method is"),
        (("notes",), [1], "notes is 1, not a string"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(
    path: tuple[str, ...], value: object, words: str, numbers: dict[str, Any], make_run
) -> None:
    place = numbers
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(RunError, match=words) as raised:
        read_report(make_run(numbers))
    assert "\n" not in str(raised.value)


def test_not_a_number_is_refused(numbers: dict[str, Any], make_run) -> None:
    numbers["gain"] = float("nan")
    with pytest.raises(RunError, match="gain is nan"):
        read_report(make_run(numbers))


def test_a_folder_without_a_report_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"not a run folder.*keepshot tune"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_text("[1, 2", encoding="utf-8")
    with pytest.raises(RunError, match="not valid JSON"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_text(json.dumps([1, 2]), encoding="utf-8")
    with pytest.raises(RunError, match="not a JSON object"):
        read_report(tmp_path)


def test_a_list_of_methods_reads_as_keepshot_shows_it(numbers: dict[str, Any], make_run) -> None:
    numbers["method"] = ["value", "self-anchor"]
    assert read_report(make_run(numbers)).method == "value+self-anchor"
