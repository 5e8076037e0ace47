from dataclasses import replace

import numpy as np
import pytest

from keepshot.episodes import demonstration_set
from keepshot.errors import RunError
from keepshot.evaluation import (
    Evaluation,
    EvaluationPlan,
    Item,
    check_paired,
    format_matches,
    gain_kept,
    gate_verdict,
    headline_shots,
    retention,
    retention_report,
    unmeasurable,
)
from keepshot.evaluation.retention import difference
from keepshot.keys import key
from keepshot.tasks.example import Example, Task

QUERIES = 10
OPEN = Task("open", tuple(Example(str(i), str(i)) for i in range(4)))
LABELLED = Task("labelled", tuple(Example(str(i), "ab"[i % 2]) for i in range(4)), labels=("a", "b"), group="own-input")


LIKENESS = {"inputs like target", "inputs unlike target"}


def evaluation(accuracies, tasks=(OPEN, LABELLED), nll=1.0):
    """What a model would have got: the accuracy of every set, by task and shot count, in tenths."""
    sets = {len(values) for by_shots in accuracies.values() for values in by_shots.values()} or {2}
    shots = tuple(sorted({n for by_shots in accuracies.values() for n in by_shots})) or (0,)
    cells = {
        (task, n): tuple(
            Item(task, s, n, q, f"{s} {q}", "", (), "", float(q < round(value * QUERIES)), nll)
            for s, value in enumerate(values)
            for q in range(QUERIES)
        )
        for task, by_shots in accuracies.items()
        for n, values in by_shots.items()
    }
    plan = EvaluationPlan(shots, sets.pop(), QUERIES)
    return Evaluation("m", plan, {task.name: task for task in tasks}, cells)


# Above chance (0 for open answers, .5 for two labels), the mean of both tasks at 4 shots is .5, .55 and .5 in the three
# sets before, and .35, .5 and .4 after.
BEFORE = evaluation(
    {
        "open": {0: [0.1, 0.1, 0.1], 4: [0.6, 0.8, 0.7]},
        "labelled": {0: [0.5, 0.5, 0.5], 4: [0.9, 0.8, 0.8]},
    },
    nll=1.0,
)
AFTER = evaluation(
    {
        "open": {0: [0.2, 0.1, 0.1], 4: [0.5, 0.7, 0.6]},
        "labelled": {0: [0.5, 0.6, 0.5], 4: [0.7, 0.8, 0.7]},
    },
    nll=1.5,
)
BOTH = ["open", "labelled"]


def test_retention_by_hand():
    assert retention(BEFORE, AFTER, BOTH, 4).value == pytest.approx(1.25 / 1.55)
    assert retention(BEFORE, AFTER, ["open"], 4).value == pytest.approx(1.8 / 2.1)
    assert retention(BEFORE, AFTER, ["labelled"], 4).value == pytest.approx(0.7 / 1.0)
    assert retention(BEFORE, AFTER, BOTH, 0) is None  # hardly above chance without demonstrations
    assert retention(BEFORE, AFTER, BOTH, 2) is None  # not asked


def test_a_model_keeps_all_of_itself():
    kept = retention(BEFORE, BEFORE, BOTH, 4)
    unseen = 3 / 60 / (1.55 / 3)  # 60 questions, on average 1.55 / 3 above chance
    assert (kept.value, kept.low, kept.high) == pytest.approx((1.0, 1.0 - unseen, 1.0 + unseen))


def test_a_task_of_few_questions_may_hide_a_large_change():
    few = {**BEFORE.cells, ("open", 4): tuple(item for item in BEFORE.cells["open", 4] if item.query in (4, 6))}
    before = replace(BEFORE, cells=few)  # two questions in each of three sets, right in 1, 2 and 2 of them
    kept = retention(before, before, BOTH, 4)
    above = (5 / 6 + 1.0 / 3) / 2
    assert kept.high - kept.value == pytest.approx(3 / 6 / 2 / above)  # half of the open task, which is half of all


def test_few_questions_do_not_pass_the_gate_by_showing_no_change():
    perfect = evaluation({"open": {4: [1.0, 1.0]}}, (OPEN,))
    found = retention(perfect, perfect, ["open"], 4)
    assert (found.low, found.high) == pytest.approx((1 - 3 / 20, 1 + 3 / 20))
    assert gate_verdict(found, 0.05).verdict == "insufficient"


def right_or_wrong(correct):
    """An evaluation of one task at one shot count from right and wrong answers by set and query."""
    items = tuple(
        Item("open", s, 4, q, "", "", (), "", float(right), 1.0)
        for s, answers in enumerate(correct)
        for q, right in enumerate(answers)
    )
    return Evaluation("m", EvaluationPlan((4,), len(correct)), {"open": OPEN}, {("open", 4): items})


@pytest.mark.parametrize(("sets", "queries", "rate"), [(2, 5, 0.9), (2, 35, 0.93), (2, 7, 0.8), (8, 7, 0.94)])
def test_a_drop_beyond_what_is_allowed_seldom_passes(sets, queries, rate):
    generator = np.random.default_rng(key("false passes", sets, queries))
    before = right_or_wrong(np.ones((sets, queries)))
    runs = 400
    passes = 0
    for _ in range(runs):
        after = right_or_wrong(generator.random((sets, queries)) < rate)
        passes += gate_verdict(retention(before, after, ["open"], 4), 0.05).verdict == "pass"
    assert passes <= 0.05 * runs


@pytest.mark.parametrize("inputs", [30, 60])
def test_the_interval_covers_95_percent_where_questions_are_few_and_unequally_hard(inputs):
    runs, sets = 200, 8
    task = replace(OPEN, examples=tuple(Example(str(i), "") for i in range(inputs)))
    generator = np.random.default_rng(key("retention coverage", inputs))
    covered = 0
    for seed in range(runs):
        known = generator.random(inputs) < 0.85  # whether a question is answered is a matter of the question
        kept = known & (generator.random(inputs) < 0.8)
        drawn = [demonstration_set(task, s, sets=sets, shots=16, queries=40, seed=seed) for s in range(sets)]
        asked = [[int(query.input) for query in one.queries] for one in drawn]
        found = retention(*(right_or_wrong([answers[a] for a in asked]) for answers in (known, kept)), ["open"], 4)
        covered += found.low <= 0.8 <= found.high
    assert covered / runs >= 0.91


def staged(evaluation, sets):
    """An evaluation whose plan had so many sets in its first stage."""
    return replace(evaluation, plan=replace(evaluation.plan, sets=sets))


def test_sets_after_the_first_stage_move_the_value_and_not_the_spread():
    early = evaluation({"open": {0: [0.1] * 3, 4: [0.8, 0.6, 0.7]}}, (OPEN,))
    late = evaluation({"open": {0: [0.1] * 6, 4: [0.8, 0.6, 0.7, 0.1, 0.9, 0.5]}}, (OPEN,))
    tuned = evaluation({"open": {0: [0.1] * 6, 4: [0.6, 0.6, 0.5, 0.9, 0.1, 0.5]}}, (OPEN,))
    found = retention(staged(late, 3), tuned, ["open"], 4)
    assert found.value == pytest.approx(3.2 / 3.6)
    assert (found.evidence.sets, found.evidence.degrees) == (6, 2)
    ordinary = retention(late, tuned, ["open"], 4)
    assert found.high - found.low < 0.7 * (ordinary.high - ordinary.low)  # the later sets scatter much more
    changed = difference(staged(late, 3), tuned, ["open"], 4)
    # Differences -.2, 0, -.2 in the first three sets: deviation .11547, t(2) = 4.302653, over sqrt(6).
    assert (changed.value, changed.high - changed.value) == pytest.approx((-0.4 / 6, 0.202829), abs=1e-6)
    kept = gain_kept(staged(late, 3), tuned, ["open"], 4)
    assert kept.value == pytest.approx(2.6 / 3.0)
    assert kept.evidence.degrees == 2
    report = retention_report(staged(late, 3), tuned)
    assert (report["low"], report["evidence"]["degrees"]) == (found.low, 2)
    assert retention_report(early, early)["evidence"]["degrees"] == 2
    assert retention(staged(late, 2), tuned, ["open"], 4) is None  # two sets do not show that the base can do it


def test_the_difference_is_paired_and_a_mean_over_tasks():
    found = difference(BEFORE, AFTER, BOTH, 4)
    assert found.value == pytest.approx((-0.15 - 0.05 - 0.1) / 3)
    assert found.high - found.value == pytest.approx(4.302653 * 0.05 / np.sqrt(3))
    assert difference(AFTER, BEFORE, BOTH, 4).value == pytest.approx(-found.value)
    assert difference(BEFORE, AFTER, BOTH, 2) is None
    same = difference(BEFORE, BEFORE, BOTH, 4)
    assert (same.low, same.high) == pytest.approx((-3 / 60, 3 / 60))  # 60 questions hide a change to 3 of them


def test_evaluations_that_asked_the_same_are_paired():
    check_paired(BEFORE, AFTER)
    fewer = {cell: items for cell, items in AFTER.cells.items() if cell != ("open", 4)}
    check_paired(BEFORE, replace(AFTER, cells=fewer))  # a shot count may fit one of two models


def changed(place, prompt):
    """`AFTER` with another prompt at (set, query) of the labelled task at 4 shots; None leaves it out."""
    items = [
        replace(item, prompt=prompt) if (item.set, item.query) == place else item
        for item in AFTER.cells["labelled", 4]
        if (item.set, item.query) != place or prompt is not None
    ]
    return replace(AFTER, cells={**AFTER.cells, ("labelled", 4): tuple(items)})


@pytest.mark.parametrize("prompt", ["other", None])
@pytest.mark.parametrize("place", [(0, 0), (1, 3), (2, 9)])
def test_the_first_prompt_that_differs_is_named(place, prompt):
    after = changed(place, prompt)
    named = f"task 'labelled', 4 shots, set {place[0]}, query {place[1]}: .*delete the evaluations and the tuned model"
    for pair in ((BEFORE, after), (after, BEFORE)):
        with pytest.raises(RunError, match=named):
            check_paired(*pair)


def test_shot_counts_that_fit_nowhere_are_told_from_none_asked_for():
    base = replace(evaluation({"open": {0: [0.6, 0.8]}}, (OPEN,)), plan=EvaluationPlan((0, 4), 2, QUERIES))
    assert "no shot count above 0 fits the context" in retention_report(base, base)["reason"]


def test_a_suite_without_tasks_says_so():
    empty = evaluation({}, ())
    report = retention_report(replace(empty, plan=EvaluationPlan((0, 4), 2, 5)), empty)
    assert (report["value"], report["shots"], report["nll"], report["groups"]) == (None, None, None, {})
    assert "the suite has no tasks" in report["reason"]


def test_sets_are_paired():
    tuned = replace(AFTER, cells={**AFTER.cells, ("open", 4): shifted(AFTER.cells["open", 4])})
    together, crossed = (retention(BEFORE, after, BOTH, 4) for after in (AFTER, tuned))
    assert together.value == pytest.approx(crossed.value)
    assert together.high != pytest.approx(crossed.high)


def shifted(items):
    return tuple(replace(item, set=(item.set + 1) % 3) for item in items)


def test_a_task_below_chance_counts_as_that():
    before = evaluation({"open": {1: [0.8, 0.8]}, "labelled": {1: [0.9, 0.9]}})
    after = evaluation({"open": {1: [0.8, 0.8]}, "labelled": {1: [0.3, 0.3]}})
    assert retention(before, after, BOTH, 1).value == pytest.approx((0.8 - 0.2) / (0.8 + 0.4))


def test_gain_kept_by_hand():
    # 4-shot minus 0-shot, mean of both tasks: .45, .5 and .45 before; .25, .4 and .35 after.
    assert gain_kept(BEFORE, AFTER, BOTH, 4).value == pytest.approx(1.0 / 1.4)
    assert gain_kept(BEFORE, AFTER, BOTH, 0) is None


def test_without_a_gain_to_lose_there_is_none_to_keep():
    flat = evaluation({"open": {0: [0.6, 0.6], 4: [0.6, 0.6]}}, (OPEN,))
    assert gain_kept(flat, flat, ["open"], 4) is None
    assert retention(flat, flat, ["open"], 4).value == pytest.approx(1.0)


def test_the_headline_is_the_largest_shot_count_that_fits_all_tasks_in_both():
    good = [0.7, 0.8]
    before = evaluation({"open": {0: good, 2: good, 4: good, 8: good}, "labelled": {0: good, 2: good, 4: good}})
    after = evaluation({"open": {0: good, 2: good, 4: good, 8: good}, "labelled": {0: good, 2: good}})
    assert headline_shots(before, before, BOTH) == 4
    assert headline_shots(before, after, BOTH) == headline_shots(after, before, BOTH) == 2
    assert headline_shots(before, before, ["open"]) == 8
    zero = evaluation({"open": {0: good}, "labelled": {0: good}})
    assert headline_shots(zero, zero, BOTH) is None


def test_the_report():
    report = retention_report(BEFORE, AFTER, target=LABELLED)
    assert report["shots"] == 4
    assert report["value"] == pytest.approx(1.25 / 1.55)
    assert report["low"] < report["value"] < report["high"]
    assert "reason" not in report
    # Standard error of the ratio times t(2, .975) + t(2, .8) = 4.302653 + 1.060660.
    assert report["minimum_detectable_drop"] == pytest.approx((report["high"] - report["value"]) * 1.246513, rel=1e-5)
    assert report["evidence"]["sets"] == 3
    assert report["by_shots"]["0"] is None
    assert report["by_shots"]["4"]["value"] == report["value"]
    assert report["nll"] == {"before": 1.0, "after": 1.5}
    assert report["gain_kept"]["value"] == pytest.approx(1.0 / 1.4)
    assert set(report["groups"]) - LIKENESS == {"suite", "own-input", "format matches target", "format differs"}
    for name in ("suite", "format differs"):
        assert report["groups"][name]["value"] == pytest.approx(1.8 / 2.1)
    for name in ("own-input", "format matches target"):
        assert report["groups"][name]["value"] == pytest.approx(0.7)


def test_groups_without_a_target_or_without_members_are_left_out():
    assert set(retention_report(BEFORE, AFTER)["groups"]) == {"suite", "own-input"}
    alone = evaluation({"open": {4: [0.6, 0.8]}}, (OPEN,))
    assert set(retention_report(alone, alone, OPEN)["groups"]) - LIKENESS == {"suite", "format matches target"}


def test_tasks_are_parted_by_their_inputs_and_by_the_families_that_were_practised():
    words = tuple(Example(a + b, "x") for a in ("ba", "ke", "lo") for b in ("mi", "nu", "po"))
    digits = tuple(Example(str(n), "x") for n in range(10, 40))
    near, far = Task("near", words[::2], family="strings"), Task("far", digits, family="numbers")
    nobody = Task("nobody", digits)
    good, half = [0.7, 0.8], [0.3, 0.4]
    before = evaluation({name: {0: good, 4: good} for name in ("near", "far", "nobody")}, (near, far, nobody))
    cells = {"near": {0: half, 4: half}, "far": {0: good, 4: good}, "nobody": {0: good, 4: good}}
    after = evaluation(cells, (near, far, nobody))
    groups = retention_report(before, after, Task("target", words[1::2]), {"strings", "lookup"})["groups"]
    assert groups["inputs like target"]["tasks"] == groups["families practised"]["tasks"] == 1
    assert groups["inputs like target"]["value"] == pytest.approx(0.35 / 0.75)
    assert groups["inputs unlike target"]["value"] == pytest.approx(1)
    assert groups["inputs unlike target"]["tasks"] == 2
    assert groups["families practised"]["value"] == pytest.approx(0.35 / 0.75)
    assert groups["other families"]["tasks"] == 1  # what has no known family is in neither


def test_formats():
    other_labels = replace(LABELLED, labels=("x", "y", "z"))
    assert format_matches(LABELLED, other_labels)
    assert format_matches(OPEN, OPEN)
    assert not format_matches(OPEN, LABELLED)
    assert not format_matches(LABELLED, OPEN)
    assert not format_matches(OPEN, None)


@pytest.mark.parametrize(
    ("accuracies", "reason"),
    [
        ({"open": {0: [0.6, 0.8]}}, "no shot count above 0 was asked for"),
        ({"open": {0: [0.6], 4: [0.8]}}, "one demonstration set"),
        (
            {"open": {4: [0.1, 0.1]}},
            "at 4 shots the base lies +0.10 from chance on average (95 % interval from +0.10; "
            "more than +0.1 is needed); choose a suite that the base can do",
        ),
        (
            {"open": {4: [0.9, 0.3]}},
            "at 4 shots the base lies +0.60 from chance on average (95 % interval from -3.21; "
            "more than +0.1 is needed); ask more than 2 demonstration sets",
        ),
    ],
    ids=["no shots", "one set", "at the smallest denominator", "unsure of it"],
)
def test_where_retention_says_nothing_the_report_says_why(accuracies, reason):
    base = evaluation(accuracies, (OPEN,))
    report = retention_report(base, base)
    assert [report[name] for name in ("value", "low", "high", "minimum_detectable_drop")] == [None] * 4
    assert reason in report["reason"]
    assert report["reason"] == unmeasurable(base), "known before anything is trained"
    assert all(value is None for value in report["groups"].values())


def test_just_above_the_smallest_denominator_there_is_a_ratio():
    base = evaluation({"open": {4: [0.2, 0.2]}}, (OPEN,))
    assert retention(base, base, ["open"], 4).value == pytest.approx(1.0)
    assert unmeasurable(base) == ""


def test_a_shot_count_that_does_not_fit_one_task_is_null_for_all():
    good = [0.7, 0.8]
    base = evaluation({"open": {4: good, 8: good}, "labelled": {4: [0.9, 0.9]}})
    report = retention_report(base, base)
    assert report["shots"] == 4
    assert report["by_shots"]["8"] is None
    assert retention(base, base, ["open"], 8).value == pytest.approx(1.0)


TOLD = (Task("facts", OPEN.examples, group="instructed knowledge"),)


def test_what_is_asked_zero_shot_alone_is_a_part_of_its_own():
    """At 0 shots by hand: (.9 + .6 + .3) / (.9 + .9 + .9); the headline is what it is without it."""
    before, after = (
        replace(
            found,
            tasks={**found.tasks, "facts": TOLD[0]},
            cells={**found.cells, **evaluation({"facts": {0: accuracies}}, TOLD).cells},
        )
        for found, accuracies in ((BEFORE, [0.9, 0.9, 0.9]), (AFTER, [0.9, 0.6, 0.3]))
    )
    with_it, without = retention_report(before, after), retention_report(BEFORE, AFTER)
    part = with_it["groups"].pop("instructed knowledge")
    assert part["value"] == pytest.approx(1.8 / 2.7)
    assert (part["tasks"], part["shots"]) == (1, 0)
    assert with_it == without
    assert {group["shots"] for group in without["groups"].values()} == {4}
