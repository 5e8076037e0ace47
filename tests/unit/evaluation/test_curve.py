import threading
from dataclasses import replace

import numpy as np
import pytest
import sacrebleu
from scipy import stats
from tests.architectures import ARCHITECTURES
from tests.backends import rigged, text_of

from keepshot.episodes import demonstration_set
from keepshot.errors import DataError
from keepshot.evaluation import (
    Evaluation,
    EvaluationPlan,
    Item,
    LocalModel,
    Processes,
    Subject,
    curve_points,
    evaluate_tasks,
    few_shot_tasks,
    score_rows,
)
from keepshot.evaluation.statistics import sets_needed
from keepshot.keys import key
from keepshot.models.load import load_tokenizer
from keepshot.prompts import PLAIN, encode
from keepshot.tasks.example import Example, Suite, Task

NEXT = Task("next", tuple(Example(str(i), str(i + 1), aliases=(f"{i + 1}.0",)) for i in range(60)))
PARITY = Task(
    "parity",
    tuple(Example(str(i), ("even", "odd")[i % 2], options=("odd", "even", "none")) for i in range(60)),
    scoring="options",
    labels=("odd", "even"),
)
PLAN = EvaluationPlan(shots=(0, 1, 3), sets=2, queries=8, seed=5)
SUITE = Suite("s", (NEXT, PARITY))


def tiny(name):
    """A tiny model; its context takes the longest of these prompts."""
    tokenizer = load_tokenizer("mini")
    return Subject(name, LocalModel(ARCHITECTURES[name](), tokenizer), tokenizer, PLAIN, 256)


@pytest.fixture(scope="module")
def llama():
    return tiny("llama")


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
    for n in PLAN.shots:
        cell = evaluation.cells["next", n]
        expected = [np.mean([question(item) % 3 != 0 for item in cell if item.set == s]) for s in range(2)]
        assert evaluation.accuracy("next", n) == pytest.approx(expected)
        assert 0 < np.mean(expected) < 1


def test_accuracy_of_a_graded_metric_is_its_mean():
    task = replace(NEXT, scoring="generate", metric="f1")
    evaluation = one(task, lambda text, shots: f"{int(text) + 1} and {'so on' if int(text) % 2 else ''}")
    grades = {0: 2 / 3, 1: 0.4}  # one word of two right, and one of four
    for n in PLAN.shots:
        for s, value in enumerate(evaluation.accuracy("next", n)):
            items = [item for item in evaluation.cells["next", n] if item.set == s]
            assert value == pytest.approx(np.mean([grades[question(item) % 2] for item in items]))


def test_bleu_is_that_of_each_demonstration_set_as_a_corpus():
    words = ("the", "small", "house", "stands", "behind", "a", "very", "old", "tree")
    lines = tuple(" ".join(words[: 4 + i % 5]) + f" number {i}" for i in range(60))
    task = Task(
        "translate",
        tuple(
            Example(str(i), line, aliases=(line.replace("small", "little"),)[: i % 2]) for i, line in enumerate(lines)
        ),
        scoring="generate",
        metric="bleu",
    )
    evaluation = one(task, lambda text, shots: lines[int(text)].replace("small", "little").replace("tree", "oak"))
    for n in PLAN.shots:
        accuracy = evaluation.accuracy("translate", n)
        for s in range(2):
            items = [item for item in evaluation.cells["translate", n] if item.set == s]
            references = [[item.answer for item in items], [next(iter(item.aliases), None) for item in items]]
            corpus = sacrebleu.corpus_bleu([item.predicted for item in items], references).score / 100
            assert accuracy[s] == pytest.approx(corpus)
            assert abs(corpus - np.mean([item.score for item in items])) > 0.001
    assert all(nll > 0 for nll in evaluation.nll("translate", 3))


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


def longest(task, shots, plan=PLAN):
    """Tokens of the longest prompt in every set, with the longest answer that is scored."""
    sets = (
        demonstration_set(task, s, sets=plan.sets, shots=max(plan.shots), queries=plan.queries, seed=plan.seed)
        for s in range(plan.sets)
    )
    tokenizer = load_tokenizer("mini")
    return [
        max(
            len(encode([PLAIN.render([*d.demonstrations[:shots], replace(q, output=a)])], tokenizer)[0].ids)
            for q in d.queries
            for a in q.answers
        )
        for d in sets
    ]


def test_a_context_that_fits_nothing_gives_a_curve_of_nulls():
    evaluation = evaluate_tasks(rigged(lambda text, shots: "1", context_length=4), SUITE, PLAN)
    assert evaluation.items == []
    assert evaluation.sets == PLAN.sets
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


def test_two_models_get_the_same_prompts_and_every_question_its_own(llama):
    plan = replace(PLAN, queries=5)
    first, second = (evaluate_tasks(subject, SUITE, plan) for subject in (llama, tiny("gpt2")))
    assert [item.prompt for item in first.items] == [item.prompt for item in second.items]
    assert [item.nll for item in first.items] != [item.nll for item in second.items]
    assert len({(item.task, item.prompt) for item in first.items}) == len(first.items)
    other = evaluate_tasks(llama, SUITE, replace(plan, seed=6))
    assert not {item.prompt for item in other.items if item.shots} & {item.prompt for item in first.items}


def test_a_prompt_is_what_stands_before_the_answer():
    other = replace(NEXT, examples=tuple(replace(example, output="?") for example in NEXT.examples))
    first, second = (one(task, lambda text, shots: "1") for task in (NEXT, other))
    same = [a.prompt == b.prompt for a, b in zip(first.items, second.items, strict=True)]
    assert same == [item.shots == 0 for item in first.items]


def test_a_task_s_items_do_not_depend_on_the_other_tasks(llama):
    together, alone = (evaluate_tasks(llama, Suite("s", tasks), PLAN) for tasks in ((PARITY, NEXT), (NEXT,)))
    for n in PLAN.shots:
        assert together.cells["next", n] == alone.cells["next", n]


def test_items_are_those_of_scoring_each_prompt_by_itself(llama):
    evaluation = evaluate_tasks(llama, Suite("s", (NEXT,)), PLAN)
    assert evaluation.shared_context
    drawn = demonstration_set(NEXT, 1, sets=2, shots=3, queries=8, seed=5)
    rows = encode([PLAIN.render([*drawn.demonstrations[:3], query]) for query in drawn.queries], llama.tokenizer)
    expected = [-score.log_likelihood / score.num_tokens for score in score_rows(llama.backend.model, rows)]
    assert [item.nll for item in evaluation.cells["next", 3] if item.set == 1] == pytest.approx(expected, abs=1e-4)


def test_a_backend_that_shares_nothing_is_asked_all_the_same():
    evaluations = [evaluate_tasks(rigged(lambda q, n: "1", shares=shares), SUITE, PLAN) for shares in (True, False)]
    assert [evaluation.shared_context for evaluation in evaluations] == [True, False]
    assert evaluations[0].items == evaluations[1].items


def test_progress_is_told_set_by_set():
    told = []
    evaluate_tasks(rigged(lambda text, shots: "1"), SUITE, PLAN, lambda *news: told.append(news))
    assert told == [("next", 1, 4), ("next", 2, 4), ("parity", 3, 4), ("parity", 4, 4)]


def test_balanced_demonstrations_are_balanced():
    def shown(balanced):
        subject = rigged(lambda text, shots: "odd")
        evaluate_tasks(subject, Suite("s", (PARITY,)), replace(PLAN, shots=(2,), sets=6, balanced=balanced))
        prompts = {bytes(row.ids[1 : row.answers[-1][0]]).decode() for row in subject.backend.asked}
        return {(prompt.count("A: odd"), prompt.count("A: even")) for prompt in prompts}

    assert shown(balanced=True) == {(1, 1)}
    assert shown(balanced=False) > {(1, 1)}


def test_what_is_asked_is_the_plan_s_suite():
    evaluation = evaluate_tasks(
        rigged(lambda text, shots: "1"), SUITE, replace(PLAN, labels="flipped", metric="per_byte")
    )
    assert {name: (task.metric, task.scoring) for name, task in evaluation.tasks.items()} == {
        "parity [flipped]": ("per_byte", "options")
    }
    assert {item.task for item in evaluation.items} == {"parity [flipped]"}


# More sets until the interval is narrow enough

MANY = tuple(Example(str(i), str(i + 1)) for i in range(300))
TWICE = Suite("s", (Task("a", MANY), Task("b", MANY)))
STAGED = EvaluationPlan(shots=(0, 2), sets=4, queries=5, seed=5, until=0.1, most_sets=12)


def now_and_then(text, shots):
    """Right about some questions, but never without demonstrations: there is no spread at zero shots."""
    return str(int(text) + 1) if shots and key("knows", int(text)) % 2 else "no"


def staged(until, *, suite=TWICE, most_sets=12, sets=None, context_length=4096):
    plan = replace(STAGED, until=until, most_sets=most_sets)
    return evaluate_tasks(rigged(now_and_then, context_length=context_length), suite, plan, sets=sets)


def by_set(evaluation, shots, tasks=("a", "b")):
    return list(np.mean([evaluation.accuracy(task, shots) for task in tasks], axis=0))


def test_as_many_sets_are_asked_as_the_mean_at_the_largest_shot_count_needs():
    first = by_set(staged(0.99), 2)
    assert len(first) == 4
    expected = {until: sets_needed(first, until, 12) for until in (0.4, 0.32, 0.26, 0.22, 0.02)}
    assert len(set(expected.values())) == 5
    assert expected[0.02] == 12
    for until, sets in expected.items():
        evaluation = staged(until)
        assert evaluation.sets == sets
        for cell in evaluation.cells.values():
            assert [item.set for item in cell] == [s for s in range(sets) for _ in range(5)]


def test_the_first_sets_are_the_same_however_many_follow():
    few, many = staged(0.99), staged(0.02)
    assert [item for item in many.items if item.set < 4] == few.items
    assert many.sets == 12


def test_no_question_is_asked_twice_in_the_second_stage_either():
    asked = [item.answer for item in staged(0.02).cells["a", 2]]
    assert len(set(asked)) == len(asked) == 12 * 5


def test_a_shot_count_that_does_not_fit_decides_nothing():
    assert staged(0.1).sets > 4
    evaluation = staged(0.1, context_length=20)  # zero-shot prompts alone, at which all sets are alike
    assert {n for _, n in evaluation.cells} == {0}
    assert evaluation.sets == 4
    assert staged(0.1, context_length=2).items == []


@pytest.mark.parametrize(("until", "sets"), [(0.1, 4), (0.06, 5), (0.04, 8), (0.01, 12)])
def test_sets_that_are_all_alike_are_not_the_end_while_few_questions_were_asked(until, sets):
    evaluation = evaluate_tasks(rigged(lambda text, shots: "no"), TWICE, replace(STAGED, until=until))
    assert evaluation.sets == sets
    if sets < 12:  # the interval is as narrow as was asked for, and would not be with a set less
        assert curve_points(evaluation, ["a", "b"])["2"]["high"] <= until
        assert sets == 4 or 3 / (2 * 5 * (sets - 1)) > until


def test_intervals_are_those_of_the_first_sets_spread_around_the_mean_of_all():
    first, many = staged(0.99), staged(0.02)
    for tasks in (["a", "b"], ["a"]):
        values = by_set(many, 2, tasks)
        half = stats.t.ppf(0.975, 3) * np.std(by_set(first, 2, tasks), ddof=1) / np.sqrt(12)
        point = curve_points(many, tasks)["2"]
        assert point["accuracy"] == pytest.approx(np.mean(values))
        assert (point["low"], point["high"]) == pytest.approx((np.mean(values) - half, np.mean(values) + half))
        assert point["n"] == 12 * 5 * len(tasks)
        assert abs(half - stats.t.ppf(0.975, 11) * np.std(values, ddof=1) / np.sqrt(12)) > 1e-3


def test_another_model_is_asked_as_many_sets_as_the_first():
    assert staged(0.99, sets=9).sets == 9
    assert staged(0.02, sets=9).sets == 9
    assert staged(0.02, sets=4).sets == 4
    assert staged(0.99, sets=9).items == [item for item in staged(0.02).items if item.set < 9]


def together(count, **settings):
    """Evaluations of as many processes, played by threads."""
    shared, barrier = {}, threading.Barrier(count)
    found, told = {}, {index: [] for index in range(count)}

    def gather(index):
        def exchange(mine):
            shared[index] = mine
            barrier.wait()
            lists = [shared[i] for i in range(count)]
            barrier.wait()
            return [unit for one in lists for unit in one]

        return exchange

    def run(index):
        processes = Processes(index, count, gather(index))
        subject = rigged(now_and_then, context_length=settings.get("context_length", 4096))
        plan = settings.get("plan", STAGED)
        found[index] = evaluate_tasks(
            subject, settings["suite"], plan, lambda *news: told[index].append(news), processes
        )

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[index] for index in range(count)], told


@pytest.mark.parametrize("count", [2, 3, 11])
@pytest.mark.parametrize("until", [None, 0.26])
def test_processes_that_share_the_work_have_the_whole(count, until):
    plan = replace(STAGED, until=until)
    alone, _ = together(1, suite=TWICE, plan=plan)
    found, told = together(count, suite=TWICE, plan=plan)
    for evaluation in found:
        assert evaluation.cells == alone[0].cells
        assert list(evaluation.cells) == list(alone[0].cells)
    done = sum(len(told[index]) for index in told)
    assert done == 2 * alone[0].sets, "every set is asked by one process only"
    assert max(len(told[i]) for i in told) < done


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_set_that_does_not_fit_in_one_process_is_null_in_all(count):
    uneven = Task("uneven", tuple(Example(str(i) * (1 + i % 7), str(i + 1)) for i in range(60)))
    sets = longest(uneven, 3, replace(PLAN, sets=5))
    found, _ = together(count, suite=Suite("s", (uneven,)), plan=replace(PLAN, sets=5), context_length=max(sets) - 1)
    assert sorted(sets)[-2] < max(sets)
    assert [set(evaluation.cells) for evaluation in found] == [{("uneven", 0), ("uneven", 1)}] * count


def evaluation_of(accuracies):
    """One shot count, four queries a set: accuracies in quarters by task and set, and the set's index as NLL."""
    cells = {
        (task, 1): tuple(
            Item(task, s, 1, q, "", "", (), "", float(q < 4 * value), float(s))
            for s, value in enumerate(values)
            for q in range(4)
        )
        for task, values in accuracies.items()
    }
    sets = len(next(iter(accuracies.values())))
    tasks = {task: replace(NEXT, name=task) for task in accuracies}
    return Evaluation("m", EvaluationPlan((1,), sets, 4), tasks, cells)


def test_the_points_of_a_curve_are_means_over_tasks_with_intervals_over_sets():
    evaluation = evaluation_of({"a": [0.5, 0.75, 0.25], "b": [0.5, 0.25, 0.5]})
    point = curve_points(evaluation, ["a", "b"])["1"]
    values = [0.5, 0.5, 0.375]
    interval = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert point == pytest.approx(
        {"accuracy": np.mean(values), "nll": 1.0, "low": interval.low, "high": interval.high, "n": 24}
    )
    assert curve_points(evaluation, ["a"])["1"]["accuracy"] == pytest.approx(0.5)
    assert curve_points(evaluation, [])["1"] is None


def test_intervals_stay_between_0_and_1_and_one_set_says_nothing():
    wide = curve_points(evaluation_of({"a": [0.0, 1.0]}), ["a"])["1"]
    single = curve_points(evaluation_of({"a": [0.75]}), ["a"])["1"]
    assert (wide["low"], wide["high"]) == (single["low"], single["high"]) == (0.0, 1.0)
    assert single["accuracy"] == 0.75


# Tasks that are asked zero-shot alone

TOLD = Task(
    "told",
    tuple(Example(str(i), str(i * 2), instruction="Double it.") for i in range(20)),
    group="instructed",
)


def test_what_an_instruction_asks_for_is_asked_without_demonstrations_alone():
    subject = rigged(lambda text, shots: str(int(text) * 2))
    found = evaluate_tasks(subject, Suite("s", (NEXT, TOLD)), PLAN)
    assert [n for task, n in found.cells if task == "told"] == [0]
    assert [n for task, n in found.cells if task == "next"] == [0, 1, 3]
    assert found.accuracy("told", 0) == [1.0, 1.0]
    prompts = [text_of(row)[0] for row in subject.backend.asked]
    assert sum(prompt.startswith("Double it.\n\nQ: ") for prompt in prompts) == 2 * 8
    assert few_shot_tasks(found.tasks.values()) == ["next"]


def test_without_zero_shot_questions_it_is_not_asked():
    found = evaluate_tasks(rigged(lambda text, shots: "1"), Suite("s", (NEXT, TOLD)), replace(PLAN, shots=(1, 3)))
    assert {task for task, _ in found.cells} == {"next"}


def test_it_has_no_say_in_how_many_sets_are_asked():
    """At 0 shots, the largest count that it has in common with the other, the sets differ; at 3 they do not."""
    plan = replace(PLAN, until=0.2, most_sets=7)

    def say(text, shots):
        return str(int(text) + 1) if shots == 3 or int(text) % 2 else ""

    found = [evaluate_tasks(rigged(say), Suite("s", tasks), plan).sets for tasks in ((NEXT,), (NEXT, TOLD))]
    assert found == [2, 2]
    assert evaluate_tasks(rigged(say), Suite("s", (NEXT,)), replace(plan, shots=(0,))).sets > 2
