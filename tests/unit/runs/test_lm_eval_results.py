import json
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepshot.errors import RunError
from keepshot.evaluation import Evaluation, EvaluationPlan, Item
from keepshot.runs.lm_eval_results import lm_eval_results, write_lm_eval_results
from keepshot.tasks.example import Example, Task, Wording

CHOOSE = Task("choose", (Example("a", "x", options=("x", "y")),) * 9, scoring="options", metric="per_byte")
WRITE = Task(
    "write", (Example("a", "the cat sat on the mat"),), scoring="generate", metric="bleu",
    wording=Wording("\n", "###", "Say:"), stop=("\n",), max_new_tokens=7,
)  # fmt: skip
OPEN = Task("open", (Example("a", "x"),))


def cell(task, shots, *sets):
    """Items of a task; in every set one per score."""
    return tuple(
        Item(
            task=task.name, set=index, shots=shots, query=query, prompt="", answer=task.examples[0].output, aliases=(),
            predicted=task.examples[0].output if score else "dog", score=float(score), nll=1.0,
        )
        for index, scores in enumerate(sets)
        for query, score in enumerate(scores)
    )  # fmt: skip


def evaluation_of(*cells, model="org/model", sets=3):
    tasks = {task.name: task for task in (CHOOSE, WRITE, OPEN)}
    plan = EvaluationPlan((0, 2, 8), sets, 2, seed=5)
    return Evaluation(model, plan, tasks, {(items[0].task, items[0].shots): items for items in cells})


CURVE = evaluation_of(
    cell(CHOOSE, 0, [1, 0], [0, 0], [1, 1]),
    cell(CHOOSE, 2, [1, 1], [1, 0], [1, 1]),
    cell(WRITE, 2, [1, 1], [0, 0], [1, 1]),
    cell(OPEN, 2, [1, 1], [1, 1], [1, 1]),
)


def test_values_are_means_over_sets_with_their_standard_error():
    results = lm_eval_results(CURVE, 0)["results"]
    assert results == {
        "choose": {
            "name": "choose",
            "alias": "choose",
            "sample_len": 6,
            "acc_bytes,none": 0.5,
            "acc_bytes_stderr,none": pytest.approx(0.5 / math.sqrt(3)),
        }
    }
    results = lm_eval_results(CURVE, 2)["results"]
    assert list(results) == ["choose", "write", "open"]
    assert results["choose"]["acc_bytes,none"] == pytest.approx(2.5 / 3)
    assert results["write"]["bleu,none"] == pytest.approx(200 / 3)
    assert results["write"]["bleu_stderr,none"] == pytest.approx(100 / 3)
    assert results["open"]["exact_match,none"] == 1.0


def test_of_two_stages_the_first_gives_the_spread():
    sets = [[1, 0], [0, 0], [1, 1], [1, 1]]
    two = lm_eval_results(evaluation_of(cell(CHOOSE, 0, *sets), sets=3), 0)["results"]["choose"]
    assert two["acc_bytes,none"] == pytest.approx(2.5 / 4)
    assert two["acc_bytes_stderr,none"] == pytest.approx(0.5 / math.sqrt(4))


def test_a_single_set_has_no_standard_error():
    results = lm_eval_results(evaluation_of(cell(CHOOSE, 0, [1, 0]), sets=1), 0)["results"]
    assert results["choose"]["acc_bytes_stderr,none"] == "N/A"


@pytest.mark.parametrize(
    ("scoring", "metric", "name"),
    [
        ("options", "", "acc"),
        ("options", "sum", "acc"),
        ("options", "pmi", "acc_mutual_info"),
        ("options", "per_token", "acc_per_token"),
        ("exact_match", "", "exact_match"),
        ("generate", "", "exact_match"),
        ("generate", "exact", "exact_match"),
        ("generate", "f1", "f1"),
        ("generate", "math:isclose", "isclose"),
    ],
)
def test_metrics_have_the_names_of_the_harness(scoring, metric, name):
    task = Task("t", (Example("a", "x", options=("x", "y")),), scoring=scoring, metric=metric)
    found = Evaluation("m", EvaluationPlan((0,), 2, 2), {"t": task}, {("t", 0): cell(task, 0, [1, 0], [1, 1])})
    results = lm_eval_results(found, 0)
    assert results["results"]["t"][f"{name},none"] == 0.75
    assert results["higher_is_better"] == {"t": {name: True}}


def test_a_shot_count_without_results_is_an_error(tmp_path):
    with pytest.raises(RunError, match=r"no task was asked with 8 demonstrations; shot counts with results: \[0, 2\]"):
        lm_eval_results(CURVE, 8)
    with pytest.raises(RunError, match="no shot count fits a task"):
        write_lm_eval_results(evaluation_of(), tmp_path)


def test_the_keys_are_those_of_the_harness(tmp_path):
    evaluator = pytest.importorskip("lm_eval.evaluator")
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.dummy import DummyLM

    (tmp_path / "test.jsonl").write_text(json.dumps({"q": "a", "a": "b"}) + "\n", encoding="utf-8")
    options = {"data_files": {"test": str(tmp_path / "test.jsonl")}, "cache_dir": str(tmp_path / "cache")}
    config = {"task": "write", "dataset_path": "json", "dataset_kwargs": options, "test_split": "test"}
    written = {"doc_to_text": "q", "doc_to_target": "a", "num_fewshot": 0, "description": "x"}
    written |= {"metric_list": [{"metric": "bleu", "aggregation": "bleu", "higher_is_better": True}]}
    task = ConfigurableTask(config=config | written)
    task.set_fewshot_seed(0)
    theirs = evaluator.evaluate(DummyLM(), {"write": task}, bootstrap_iters=0, log_samples=False)
    ours = lm_eval_results(CURVE, 2)
    for key in theirs.keys() - {"group_subtasks"}:
        if isinstance(theirs[key]["write"], dict):
            assert ours[key]["write"].keys() <= theirs[key]["write"].keys(), key
        else:
            assert type(ours[key]["write"]) is type(theirs[key]["write"]), key
    assert ours["group_subtasks"] == theirs["group_subtasks"] == {}


def test_files_stand_where_the_tools_of_the_harness_look(tmp_path):
    utils = pytest.importorskip("lm_eval.utils")
    paths = write_lm_eval_results(CURVE, tmp_path)
    again = write_lm_eval_results(CURVE, tmp_path)
    assert [path.name[:15] for path in paths] == ["results_0-shot_", "results_2-shot_"]
    assert {path.parent for path in paths} == {tmp_path / "org__model"}
    names = [str(path) for path in (*paths, *again)]
    assert len(set(names)) == 4
    assert utils.get_results_filenames(names) == names
    assert utils.get_latest_filename(names) in names[2:]
    assert [json.loads(path.read_text())["n-shot"]["choose"] for path in paths] == [0, 2]


def test_the_table_of_the_harness_shows_our_numbers(tmp_path):
    utils = pytest.importorskip("lm_eval.utils")
    paths = write_lm_eval_results(CURVE, tmp_path)
    table = utils.make_table(json.loads(paths[1].read_text(encoding="utf-8")))
    rows = [re.split(r"\s*\|\s*", line)[1:-1] for line in table.splitlines()[2:]]
    assert [[row[0], *row[3:5], row[6], row[8]] for row in rows] == [
        ["choose", "2", "acc_bytes", "0.8333", "0.1667"],
        ["open", "2", "exact_match", "1.0000", "0.0000"],
        ["write", "2", "bleu", "66.6667", "33.3333"],
    ]


@given(st.text(max_size=12))
@settings(max_examples=30)
def test_models_are_folders_of_the_same_name(name):
    utils = pytest.importorskip("lm_eval.utils")
    results = lm_eval_results(evaluation_of(cell(OPEN, 0, [1]), model=name, sets=1), 0)
    assert results["model_name_sanitized"] == utils.sanitize_model_name(name)
