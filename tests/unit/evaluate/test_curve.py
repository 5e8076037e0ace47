from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from tests.architectures import ARCHITECTURES
from transformers import PretrainedConfig, PreTrainedModel

from keepshot.episodes import demonstration_set
from keepshot.errors import DataError
from keepshot.evaluate import Evaluation, EvaluationPlan, Item, Subject, curve_points, evaluate_tasks, score_rows
from keepshot.models.load import load_tokenizer
from keepshot.prompts import PLAIN, encode
from keepshot.tasks.example import Example, Suite, Task

SURE = 8.0
"""Logit of the token that a rigged model writes; all others have 0."""
RIGHT_NATS = float(np.log1p(255 * np.exp(-SURE)))
WRONG_NATS = SURE + RIGHT_NATS


class Rigged(PreTrainedModel):
    """Reads the prompt's bytes and is sure to write ` answer\\n`, where `say(question, shots)` tells the answer.

    After an answer that it would not have given, it is sure of `?`. None instead of an answer: it knows nothing.
    """

    def __init__(self, say):
        super().__init__(PretrainedConfig())
        self.say = say
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, input_ids, position_ids, use_cache, logits_to_keep, past_key_values=None):
        if isinstance(logits_to_keep, int):  # asked for a context's cache, which it has not
            return SimpleNamespace(logits=torch.zeros(1, 1, 256), past_key_values=None)
        places = logits_to_keep.nonzero().tolist()
        logits = torch.zeros(len(places), 256)
        for at, (row, place) in enumerate(places):
            text = bytes(input_ids[row, 1 : place + 1].tolist()).decode()
            question, _, written = text.rpartition("Q: ")[2].partition("\nA:")
            answer = self.say(question, text.count("Q: ") - 1)
            if answer is not None:
                answer = f" {answer}\n"
                logits[at, ord(answer[len(written)] if answer.startswith(written) else "?")] = SURE
        return SimpleNamespace(logits=logits, past_key_values=None)


def subject_of(model, context_length=4096, name="m"):
    return Subject(name, model, load_tokenizer("mini"), PLAIN, context_length)


def rigged(say, **settings):
    return subject_of(Rigged(say), **settings)


NEXT = Task("next", tuple(Example(str(i), str(i + 1), aliases=(f"{i + 1}.0",)) for i in range(60)))
PARITY = Task(
    "parity",
    tuple(Example(str(i), ("even", "odd")[i % 2], options=("odd", "even", "none")) for i in range(60)),
    scoring="options",
    labels=("odd", "even"),
)
PLAN = EvaluationPlan(shots=(0, 1, 3), sets=2, queries=8, seed=5)
SUITE = Suite("s", (NEXT, PARITY))


def one(task, say, plan=PLAN):
    return evaluate_tasks(rigged(say), Suite("s", (task,)), plan)


def question(item):
    """The number that an item of `NEXT` asks about."""
    return int(item.answer) - 1


def test_everything_is_asked_once_in_order():
    evaluation = evaluate_tasks(rigged(lambda question, shots: "1"), SUITE, PLAN)
    asked = [(item.task, item.shots, item.set, item.query) for item in evaluation.items]
    assert asked == [(t, n, s, q) for t in ("next", "parity") for n in (0, 1, 3) for s in range(2) for q in range(8)]
    for task in SUITE.tasks:
        for index in range(2):
            drawn = demonstration_set(task, index, sets=2, shots=3, queries=8, seed=5)
            for n in (0, 1, 3):
                items = [item for item in evaluation.cells[task.name, n] if item.set == index]
                assert [item.answer for item in items] == [query.output for query in drawn.queries]


def test_accuracy_is_the_share_of_what_the_subject_knows():
    evaluation = one(NEXT, lambda text, shots: str(int(text) + 1) if int(text) % 3 else "no")
    for item in evaluation.items:
        assert item.correct == (question(item) % 3 != 0)
        assert item.predicted == (item.answer if item.correct else "n")  # up to its first deviation
    for n in PLAN.shots:
        cell = evaluation.cells["next", n]
        expected = [np.mean([question(item) % 3 != 0 for item in cell if item.set == s]) for s in range(2)]
        assert evaluation.accuracy("next", n) == pytest.approx(expected)
        assert 0 < np.mean(expected) < 1


def test_the_subject_sees_as_many_demonstrations_as_it_says():
    evaluation = one(NEXT, lambda text, shots: str(int(text) + 1) if shots == 1 else "no")
    assert [np.mean(evaluation.accuracy("next", n)) for n in PLAN.shots] == [0.0, 1.0, 0.0]


def test_nll_is_per_token_of_the_main_answer_terminator_included():
    evaluation = one(NEXT, lambda text, shots: str(int(text) + 1) if int(text) % 2 else "no")
    for item in evaluation.items:
        tokens = len(f" {item.answer}\n")
        wrong = 0 if question(item) % 2 else tokens - 1  # the space is right
        assert item.nll == pytest.approx((wrong * WRONG_NATS + (tokens - wrong) * RIGHT_NATS) / tokens, rel=1e-4)


def test_an_answer_must_end_to_be_right():
    evaluation = one(NEXT, lambda text, shots: f"{int(text) + 1}0")
    assert not any(item.correct for item in evaluation.items)
    assert {item.predicted == item.answer + "0" for item in evaluation.items} == {True}


def test_an_alias_is_right_and_reported_and_leaves_the_nll_alone():
    evaluation = one(NEXT, lambda text, shots: f"{int(text) + 1}.0")
    for item in evaluation.items:
        assert item.correct
        assert item.predicted == f"{item.answer}.0"
        assert item.nll > 1


def test_the_likeliest_option_is_the_answer_even_if_the_subject_would_write_something_else():
    evaluation = one(PARITY, lambda text, shots: "oddly")  # `odd` is the option that it agrees with longest
    for item in evaluation.items:
        assert item.predicted == "odd"
        assert item.correct == (item.answer == "odd")
    exact = one(replace(PARITY, scoring="exact_match"), lambda text, shots: "oddly")
    assert not any(item.correct for item in exact.items)


def test_options_that_the_subject_holds_equal_go_to_the_first_and_not_to_the_right_one():
    task = replace(PARITY, examples=tuple(Example(str(i), "ab"[i % 2], options=("b", "a")) for i in range(60)))
    evaluation = one(task, lambda text, shots: None)
    assert {item.predicted for item in evaluation.items} == {"b"}
    assert {item.correct for item in evaluation.items} == {True, False}


def test_options_are_scored_with_the_right_answer_s_nll():
    evaluation = one(PARITY, lambda text, shots: ("even", "odd")[int(text) % 2])
    assert all(item.correct for item in evaluation.items)
    assert [item.nll for item in evaluation.items] == pytest.approx([RIGHT_NATS] * len(evaluation.items), rel=1e-3)


def longest(task, shots, plan=PLAN):
    """Tokens of the longest prompt in every set."""
    sets = (
        demonstration_set(task, s, sets=plan.sets, shots=max(plan.shots), queries=plan.queries, seed=plan.seed)
        for s in range(plan.sets)
    )
    tokenizer = load_tokenizer("mini")
    return [
        max(len(encode([PLAIN.render([*d.demonstrations[:shots], q])], tokenizer)[0].ids) for q in d.queries)
        for d in sets
    ]


def test_a_shot_count_that_does_not_fit_in_one_set_is_null_for_the_task():
    uneven = Task("uneven", tuple(Example(str(i) * (1 + i % 7), str(i + 1)) for i in range(60)))
    suite = Suite("s", (uneven, NEXT))
    shortest, most = sorted(longest(uneven, 3))
    assert max(longest(NEXT, 3)) <= shortest < most

    def ask(context_length):
        return evaluate_tasks(rigged(lambda text, shots: "1", context_length=context_length), suite, PLAN)

    for context_length in (shortest, most - 1):
        evaluation = ask(context_length)
        assert ("uneven", 3) not in evaluation.cells
        assert evaluation.accuracy("uneven", 3) is None
        assert evaluation.nll("uneven", 3) is None
        assert len(evaluation.accuracy("uneven", 1)) == len(evaluation.accuracy("next", 3)) == 2
        assert curve_points(evaluation, ["uneven", "next"])["3"] is None
        assert curve_points(evaluation, ["uneven", "next"])["1"] is not None
        assert curve_points(evaluation, ["next"])["3"] is not None
    assert len(ask(most).accuracy("uneven", 3)) == 2


def test_a_context_that_fits_nothing_gives_a_curve_of_nulls():
    evaluation = evaluate_tasks(rigged(lambda text, shots: "1", context_length=4), SUITE, PLAN)
    assert evaluation.items == []
    assert curve_points(evaluation, ["next"]) == {"0": None, "1": None, "3": None}


def test_a_task_with_few_examples_has_no_points_beyond_its_demonstrations():
    small = replace(NEXT, examples=NEXT.examples[:4])
    evaluation = one(small, lambda text, shots: str(int(text) + 1))
    assert {n for _, n in evaluation.cells} == {0, 1}  # two queries in each set, and two demonstrations
    assert curve_points(evaluation, ["next"])["1"]["n"] == 2 * 2
    with pytest.raises(DataError, match="'next' has 1 distinct inputs for 2 demonstration sets"):
        one(replace(NEXT, examples=NEXT.examples[:1]), lambda text, shots: "1")


def test_no_question_is_asked_twice():
    few = replace(NEXT, examples=NEXT.examples[:30])
    evaluation = one(few, lambda text, shots: "1", replace(PLAN, sets=4, queries=40))
    for n in PLAN.shots:
        asked = [item.answer for item in evaluation.cells["next", n]]
        assert len(set(asked)) == len(asked) == 4 * 7


def test_two_models_get_the_same_prompts_and_every_question_its_own():
    plan = replace(PLAN, queries=5)
    first, second = (evaluate_tasks(subject_of(ARCHITECTURES[name](), 256), SUITE, plan) for name in ("llama", "gpt2"))
    assert [item.prompt for item in first.items] == [item.prompt for item in second.items]
    assert [item.nll for item in first.items] != [item.nll for item in second.items]
    assert len({(item.task, item.prompt) for item in first.items}) == len(first.items)
    other = evaluate_tasks(subject_of(ARCHITECTURES["llama"](), 256), SUITE, replace(plan, seed=6))
    assert not {item.prompt for item in other.items if item.shots} & {item.prompt for item in first.items}


def test_a_prompt_is_what_stands_before_the_answer():
    other = replace(NEXT, examples=tuple(replace(example, output="?") for example in NEXT.examples))
    first, second = (one(task, lambda text, shots: "1") for task in (NEXT, other))
    same = [a.prompt == b.prompt for a, b in zip(first.items, second.items, strict=True)]
    assert same == [item.shots == 0 for item in first.items]


def test_a_task_s_items_do_not_depend_on_the_other_tasks():
    llama = subject_of(ARCHITECTURES["llama"](), 256)
    together, alone = (evaluate_tasks(llama, Suite("s", tasks), PLAN) for tasks in ((PARITY, NEXT), (NEXT,)))
    for n in PLAN.shots:
        assert together.cells["next", n] == alone.cells["next", n]


def test_items_are_those_of_scoring_each_prompt_by_itself():
    llama = subject_of(ARCHITECTURES["llama"](), 256)
    evaluation = evaluate_tasks(llama, Suite("s", (NEXT,)), PLAN)
    assert evaluation.shared_context
    drawn = demonstration_set(NEXT, 1, sets=2, shots=3, queries=8, seed=5)
    rows = encode([PLAIN.render([*drawn.demonstrations[:3], query]) for query in drawn.queries], llama.tokenizer)
    expected = [-score.log_likelihood / score.num_tokens for score in score_rows(llama.model, rows)]
    assert [item.nll for item in evaluation.cells["next", 3] if item.set == 1] == pytest.approx(expected, abs=1e-4)


def test_a_model_whose_cache_cannot_be_forked_is_asked_all_the_same():
    assert not one(NEXT, lambda text, shots: "1").shared_context


def test_progress_is_told_set_by_set():
    told = []
    evaluate_tasks(rigged(lambda text, shots: "1"), SUITE, PLAN, lambda *news: told.append(news))
    assert told == [("next", 1, 4), ("next", 2, 4), ("parity", 3, 4), ("parity", 4, 4)]


def evaluation_of(accuracies):
    """One shot count, four queries a set: accuracies in quarters by task and set, and the set's index as NLL."""
    cells = {
        (task, 1): tuple(
            Item(task, s, 1, q, "", "", "", q < 4 * value, float(s)) for s, value in enumerate(values) for q in range(4)
        )
        for task, values in accuracies.items()
    }
    sets = len(next(iter(accuracies.values())))
    return Evaluation("m", EvaluationPlan((1,), sets, 4), {}, cells)


def test_the_points_of_a_curve_are_means_over_tasks_with_intervals_over_sets():
    evaluation = evaluation_of({"a": [0.5, 0.75, 0.25], "b": [0.5, 0.25, 0.5]})
    point = curve_points(evaluation, ["a", "b"])["1"]
    by_set = [0.5, 0.5, 0.375]
    interval = stats.ttest_1samp(by_set, 0.0).confidence_interval(0.95)
    assert point == pytest.approx(
        {"accuracy": np.mean(by_set), "nll": 1.0, "low": interval.low, "high": interval.high, "n": 24}
    )
    assert curve_points(evaluation, ["a"])["1"]["accuracy"] == pytest.approx(0.5)
    assert curve_points(evaluation, [])["1"] is None


def test_intervals_stay_between_0_and_1_and_one_set_says_nothing():
    wide = curve_points(evaluation_of({"a": [0.0, 1.0]}), ["a"])["1"]
    single = curve_points(evaluation_of({"a": [0.75]}), ["a"])["1"]
    assert (wide["low"], wide["high"]) == (single["low"], single["high"]) == (0.0, 1.0)
    assert single["accuracy"] == 0.75
