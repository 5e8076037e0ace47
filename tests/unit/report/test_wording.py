from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepshot.report.record import Estimate, Interval, read_report
from keepshot.report.wording import (
    count,
    detectable_words,
    further_reason,
    headline,
    kept_at,
    percent,
    points,
    summary_lines,
    verdict_words,
)


def unmeasured(numbers: dict[str, Any]) -> dict[str, Any]:
    numbers["retention"] |= {"value": None, "low": None, "high": None, "shots": None, "reason": "no task can be learnt"}
    numbers["gate"] |= {"verdict": "insufficient"}
    return numbers


def test_headline_has_both_numbers_and_the_interval(numbers: dict[str, Any], make_run) -> None:
    assert headline(read_report(make_run(numbers))) == (
        "Without examples, the target rose from 6% to 94%; "
        "91% [85, 98] of the few-shot ability on other tasks was kept."
    )


def test_headline_is_honest_about_a_loss_and_about_no_change(numbers: dict[str, Any], make_run) -> None:
    numbers["target"]["before"], numbers["target"]["after"] = numbers["target"]["after"], numbers["target"]["before"]
    assert "fell from 94% to 6%" in headline(read_report(make_run(numbers)))
    numbers["target"]["after"] = numbers["target"]["before"]
    assert "stayed at 94%" in headline(read_report(make_run(numbers, "same")))


def test_what_cannot_be_measured_says_why_and_what_would_help(numbers: dict[str, Any], make_run) -> None:
    report = read_report(make_run(unmeasured(numbers)))
    assert "few-shot ability on other tasks is not measurable" in headline(report)
    text = "\n".join(summary_lines(report))
    assert "kept: not measurable: no task can be learnt." in text
    assert "insufficient evidence" in text
    assert "larger base model would help" in text


@pytest.mark.parametrize(
    ("verdict", "low", "value", "high", "words"),
    [
        ("pass", 0.85, 0.9, 0.95, "The drop of 10% [5, 15] lies within the allowed 20%."),
        ("fail", 0.4, 0.5, 0.6, "The drop of 50% [40, 60] lies beyond the allowed 20%."),
        ("insufficient", 0.7, 0.9, 1.1, "The drop of 10% [−10, 30] is not clearly on either side of the allowed 20%."),
    ],
)
def test_verdict_says_what_it_means(
    verdict: str, low: float, value: float, high: float, words: str, numbers: dict[str, Any], make_run
) -> None:
    numbers["retention"] |= {"value": value, "low": low, "high": high}
    numbers["gate"]["verdict"] = verdict
    assert words in verdict_words(read_report(make_run(numbers)))


def test_where_the_evidence_does_not_decide_the_gate_says_what_would(numbers: dict[str, Any], make_run) -> None:
    numbers["gate"] |= {"verdict": "insufficient", "reason": "drop 9.0% [2.0%, 15.0%]; about 19 sets would decide"}
    numbers["retention"]["minimum_detectable_drop"] = 0.091
    report = read_report(make_run(numbers))
    assert verdict_words(report) == "Drop 9.0% [2.0%, 15.0%]; about 19 sets would decide."
    assert further_reason(report) == ""
    assert (
        summary_lines(report)[2] == "Few-shot ability kept: 91% [85, 98]."
    )  # the gate's reason says what sets can tell


def test_what_the_evaluation_could_tell_is_said_where_it_is_known(numbers: dict[str, Any], make_run) -> None:
    assert detectable_words(read_report(make_run(numbers, "unknown"))) == ""
    numbers["retention"]["minimum_detectable_drop"] = 0.0907
    report = read_report(make_run(numbers))
    words = "A drop of 9.1% or more would have been found four times out of five."
    assert detectable_words(report) == words
    assert summary_lines(report)[2] == f"Few-shot ability kept: 91% [85, 98]. {words}"


def test_a_reason_is_not_given_twice(numbers: dict[str, Any], make_run) -> None:
    numbers["gate"]["reason"] = numbers["retention"]["reason"] = "no task can be learnt."
    assert further_reason(read_report(make_run(numbers, "measured"))) == "no task can be learnt"
    assert further_reason(read_report(make_run(unmeasured(numbers)))) == ""


def test_summary_is_the_run_in_four_lines(numbers: dict[str, Any], make_run) -> None:
    assert summary_lines(read_report(make_run(numbers))) == [
        "Target, zero-shot: 6.0% [2.0, 10.0] → 94.0% [92.0, 96.0] (+88 points [85, 91]).",
        "Other tasks, 16-shot: 81.0% [77.0, 85.0] → 74.0% [70.0, 78.0].",
        "Few-shot ability kept: 91% [85, 98].",
        "Gate: pass. The drop of 9% [2, 15] lies within the allowed 20%.",
    ]


def test_a_run_that_was_not_asked_without_examples_says_so(without_zero_shots: dict[str, Any], make_run) -> None:
    report = read_report(make_run(without_zero_shots))
    assert headline(report) == (
        "Zero-shot accuracy on the target was not measured; "
        "91% [85, 98] of the few-shot ability on other tasks was kept."
    )
    assert summary_lines(report)[:2] == [
        "Zero-shot accuracy on the target was not measured.",
        "Other tasks, 16-shot: 81.0% [77.0, 85.0] → 74.0% [70.0, 78.0].",
    ]


def test_a_shot_count_that_does_not_fit_is_told_from_one_that_cannot_be_measured(
    numbers: dict[str, Any], make_run
) -> None:
    numbers["held_out"]["before"]["16"] = numbers["held_out"]["after"]["16"] = None
    numbers["retention"]["by_shots"]["16"] = None
    report = read_report(make_run(numbers))
    assert [kept_at(report, shots) for shots in (0, 16, 32)] == ["not measurable", "does not fit", "–"]


@given(st.floats(-10, 10))
def test_percent_never_shows_a_signed_zero_or_an_ascii_minus(rate: float) -> None:
    text = percent(rate)
    assert "-" not in text
    assert text != "−0%"
    assert abs(float(text.replace("−", "-").rstrip("%")) - 100 * rate) <= 0.5 + 1e-9


@given(st.floats(0, 9.9e14))
def test_count_keeps_three_digits(number: float) -> None:
    digits, _, unit = count(number).partition(" ")
    value = float(digits) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[unit]
    assert len(digits.replace(".", "")) <= 3
    assert abs(value - number) <= max(0.5, 0.0051 * number)


def test_points_carry_their_sign() -> None:
    band = Interval(-0.01, 0.01)
    assert [points(Estimate(value, band))[:3] for value in (0.12, -0.12, 0.001, -0.001)] == ["+12", "−12", "0 p", "0 p"]
