from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepshot.errors import ConfigError, DataError
from keepshot.evaluation import EvaluationPlan, Processes
from keepshot.tasks.example import Example, Suite, Task
from keepshot.tasks.variants import relabelled

MOOD = Task("mood", tuple(Example(f"{i}", ("bad", "good")[i % 2]) for i in range(8)), labels=("bad", "good"))
CHOICE = Task(
    "choice", (Example("a", "x", options=("x", "y")), Example("b", "y", options=("x", "y"))), scoring="options"
)
OPEN = Task("open", (Example("1", "2"),))
ESSAY = Task("essay", (Example("1", "2"),), scoring="generate", metric="f1")
SUITE = Suite("s", (MOOD, CHOICE, OPEN, ESSAY))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shots": ()}, "shots must be ascending"),
        ({"shots": (4, 0)}, "shots must be ascending"),
        ({"shots": (0, 4, 4)}, "shots must be ascending"),
        ({"shots": (-1, 4)}, r"got \[-1, 4\]"),
        ({"sets": 0}, "must be 1 or more; got 0, 40 and 32"),
        ({"queries": 0}, "must be 1 or more"),
        ({"until": 0.1, "most_sets": 0}, "must be 1 or more"),
        ({"until": 0.0}, "between 0 and 1; got 0.0"),
        ({"until": 1.0}, "between 0 and 1"),
        ({"until": 0.1, "sets": 1}, "at least 2 sets"),
        ({"metric": "per_bite"}, "no metric 'per_bite'; choose sum, .*per_byte.* exact, .*module:function"),
    ],
    ids=str,
)
def test_a_plan_that_asks_nothing_sensible_is_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        EvaluationPlan(**settings)


def test_one_set_is_enough_where_nobody_asks_for_an_interval():
    assert EvaluationPlan(sets=1).dealt_sets == 1


@pytest.mark.parametrize(
    ("settings", "dealt"), [({}, 8), ({"until": 0.1}, 32), ({"until": 0.1, "most_sets": 3}, 8), ({"most_sets": 3}, 8)]
)
def test_questions_are_dealt_out_to_all_sets_that_may_come(settings, dealt):
    assert EvaluationPlan(**settings).dealt_sets == dealt


def test_a_plain_plan_asks_the_suite_as_it_is():
    assert EvaluationPlan().suite(SUITE) == SUITE
    assert EvaluationPlan().left_out(SUITE) == ()


def test_other_labels_are_drawn_by_the_plan_s_seed_and_tasks_without_labels_are_left_out():
    plan = EvaluationPlan(labels="symbols", seed=3)
    assert plan.suite(SUITE).tasks == (relabelled(MOOD, "symbols", 3),)
    assert plan.suite(SUITE) != EvaluationPlan(labels="symbols", seed=4).suite(SUITE)
    assert plan.left_out(SUITE) == ("choice", "open", "essay")
    with pytest.raises(DataError, match="no task of suite 's' has a finite set of labels"):
        plan.suite(Suite("s", (OPEN,)))


def asked(metric, tasks=SUITE.tasks):
    """Scoring and metric of every task."""
    return {
        task.name: (task.scoring, task.metric) for task in EvaluationPlan(metric=metric).suite(Suite("s", tasks)).tasks
    }


def test_a_metric_of_options_is_for_tasks_with_options():
    exact, essay = ("exact_match", ""), ("generate", "f1")
    assert asked("pmi") == {"mood": exact, "choice": ("options", "pmi"), "open": exact, "essay": essay}


@pytest.mark.parametrize("metric", ["numeric", "bleu", "tests.backends:half"])
def test_a_metric_of_texts_makes_the_other_tasks_write(metric):
    written = ("generate", metric)
    assert asked(metric) == {"mood": written, "choice": ("options", ""), "open": written, "essay": written}


@pytest.mark.parametrize(("metric", "task"), [("per_byte", OPEN), ("f1", CHOICE), ("tests.backends:half", CHOICE)])
def test_a_metric_that_goes_with_no_task_is_not_passed_over(metric, task):
    with pytest.raises(ConfigError, match=f"no task of suite 's' has .*{metric}"):
        asked(metric, (task,))


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (replace(CHOICE, metric="f1"), "'f1' does not go with scoring 'options'"),
        (replace(OPEN, metric="f1"), "'f1' does not go with scoring 'exact_match'"),
        (replace(ESSAY, metric="sum"), "'sum' does not go with scoring 'generate'"),
        (replace(ESSAY, metric="tests.backends:nothing"), "cannot be imported"),
    ],
    ids=str,
)
def test_a_task_s_own_metric_is_tried_before_a_model_is_loaded(task, words):
    with pytest.raises(ConfigError, match=words):
        EvaluationPlan().suite(Suite("s", (task,)))


@given(units=st.lists(st.integers(), unique=True), count=st.integers(1, 9))
def test_processes_share_all_units_evenly(units, count):
    shares = [Processes(index, count).mine(units) for index in range(count)]
    assert sorted(unit for share in shares for unit in share) == sorted(units)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_alone_asks_everything():
    assert Processes().mine([3, 1, 2]) == Processes().gather([3, 1, 2]) == [3, 1, 2]
