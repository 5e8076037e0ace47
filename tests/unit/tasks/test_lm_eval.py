import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from keepshot.episodes import demonstration_set
from keepshot.errors import DataError
from keepshot.evaluation.asking import ask
from keepshot.models.load import load_model, load_tokenizer
from keepshot.prompts import VerbatimTemplate
from keepshot.runs.subjects import as_subject
from keepshot.tasks.example import Example, Wording
from keepshot.tasks.lm_eval import documents, lm_eval_task, load_task_file
from keepshot.tasks.lm_eval.source import Source
from keepshot.tasks.lm_eval.task_file import TaskFile
from keepshot.tasks.suite_files import read_suite

DOCS = Path(__file__).parents[3] / "docs/lm-eval.md"

ROWS = [
    {
        "question": f"What is {n} + {n}?",
        "hint": "half\n" if n % 2 else "",
        "options": [str(2 * n), str(2 * n + 1), f"not {n}"],
        "choices": {"text": [f"é{n}", "two words", "z"], "label": ["A", "B", "C"]},
        "key": "ABC"[n % 3],
        "label": n % 3,
        "even": n % 2 == 0,
        "answer": str(2 * n),
        "answers": [str(2 * n), f"{2 * n}.0"],
        "share": n / 2,
        "when": f"2024-05-{n + 1:02}",
    }
    for n in range(24)
]

DATA = """
dataset_path: json
dataset_kwargs: {data_files: {train: train.jsonl, test: test.jsonl}}
training_split: train
test_split: test
"""

READ = {
    "list and index": """
        output_type: multiple_choice
        doc_to_text: "Q: {{question}}\\nA:"
        doc_to_choice: ["no", "yes, it is", maybe]
        doc_to_target: label
    """,
    "columns": """
        output_type: multiple_choice
        doc_to_text: question
        doc_to_choice: options
        doc_to_target: answer
        target_delimiter: "\\n"
        fewshot_delimiter: "\\n###\\n"
        description: "Sums.\\n\\n"
        dataset_kwargs: {data_files: {test: test.jsonl}}
        training_split: null
    """,
    "nested values": """
        output_type: multiple_choice
        doc_to_text: "Question: {{question | upper}}\\nAnswer: "
        doc_to_choice: "{{choices.text}}"
        doc_to_target: "{{choices.label.index(key)}}"
        target_delimiter: ""
        metric_list: [{metric: acc_bytes}]
    """,
    "booleans, and a mapping of choices": """
        output_type: multiple_choice
        doc_to_text: "{{question}} {{hint}}"
        doc_to_choice: {a: " odd", b: " even"}
        doc_to_target: even
        target_delimiter: ""
        fewshot_split: test
    """,
    "a template that gives an index": """
        output_type: multiple_choice
        doc_to_text: "{% if even %}Even: {% endif %}{{question | regex_replace('[0-9]+', 'n')}}\\n"
        doc_to_choice: "{{['A', 'B', 'C']}}"
        doc_to_target: "{{label}}"
        description: "{{ 'Say ' + 'which.' }}\\n"
        target_delimiter: " -> "
    """,
    "numbers and dates as the data library types them": """
        output_type: multiple_choice
        doc_to_text: "{{share}} at {{when}}:"
        doc_to_choice: [x, y]
        doc_to_target: 1
        fewshot_config: {sampler: first_n, split: train, fewshot_delimiter: " | "}
    """,
    "demonstrations of its own": """
        output_type: multiple_choice
        doc_to_text: "{{question}}"
        doc_to_choice: "{{options}}"
        doc_to_target: 0
        training_split: null
        fewshot_config:
          sampler: first_n
          samples:
            - {question: "1 + 1?", options: ["2", "3"]}
            - {question: "2 + 2?", options: ["4", "3"]}
    """,
    "written answers": """
        doc_to_text: "Q: {{question}}\\nA:"
        doc_to_target: "{{answer}}"
    """,
    "several right answers": """
        output_type: generate_until
        doc_to_text: "{{question}}"
        doc_to_target: answers
        target_delimiter: "\\n\\n"
        fewshot_delimiter: "\\n"
        generation_kwargs: {until: ["\\n", "Q:"], max_gen_toks: 9, do_sample: false, temperature: 0}
        filter_list: [{name: none, filter: [{function: remove_whitespace}, {function: take_first}]}]
    """,
    "a list that a template writes": """
        doc_to_text: "{{question}}"
        doc_to_target: "{{answers}}"
        metric_list: [{metric: ter}, {metric: bleu, aggregation: bleu, higher_is_better: true}]
    """,
    "written choices": """
        doc_to_text: question
        doc_to_choice: options
        doc_to_target: label
    """,
}


def write_task(folder, body, *, name="task.yaml", rows=ROWS):
    """The body goes before the keys of DATA."""
    for split, part in (("train", rows[:12]), ("test", rows)):
        lines = "".join(json.dumps(row) + "\n" for row in part)
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    (folder / "data.inc").write_text(DATA, encoding="utf-8")
    body = "\n".join(line.removeprefix("        ") for line in body.splitlines())
    (folder / name).write_text(f"task: {name.removesuffix('.yaml')}\ninclude: data.inc\n{body}\n", encoding="utf-8")
    return folder / name


@pytest.fixture(autouse=True)
def quiet_harness():
    logging.getLogger("lm_eval").setLevel(logging.CRITICAL)


def harness_task(path, cache):
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    config = load_yaml(path)
    files = config["dataset_kwargs"]["data_files"]
    files = {split: str(path.parent / file) for split, file in files.items()}
    config["dataset_kwargs"] = {"data_files": files, "cache_dir": str(cache)}
    return ConfigurableTask(config=config)


class Chosen:
    """Shows the harness's task the demonstrations that we chose."""

    def __init__(self, shown):
        self.shown = shown

    def sample(self, n, eval_doc=None):
        return self.shown[:n]


def harness_requests(task, shown, document):
    """What the harness would ask: context and continuation, or context and settings."""
    task.sampler = Chosen(shown)
    context = task.fewshot_context(document, num_fewshot=len(shown))
    requests = task.construct_requests(doc=document, ctx=context, metadata=("", 0, 1))
    return [request.args for request in (requests if isinstance(requests, list) else [requests])]


def assert_equal_prompts(task, harness, demonstrations, query):
    ours = [(task.pool or task.examples)[index] for index in demonstrations]
    documents = list(harness.fewshot_docs())
    theirs = harness_requests(harness, [documents[index] for index in demonstrations], harness.eval_docs[query])
    example, template = task.examples[query], VerbatimTemplate(task.wording)
    if task.scoring == "generate":
        [(context, settings)] = theirs
        prompt = template.render([*ours, example])
        assert prompt.text[: prompt.answers[-1][0]] == context
        assert list(task.stop) == settings["until"]
        assert task.max_new_tokens == settings.get("max_gen_toks", 256)
        return
    assert len(theirs) == len(example.options)
    for option, (context, continuation) in zip(example.options, theirs, strict=True):
        prompt = template.render([*ours, replace(example, output=option)])
        assert prompt.text == context + continuation
        start, end = prompt.answers[-1]
        # The harness moves white space from the context's end to the continuation; we do where all inputs have it.
        if not task.wording.delimiter.strip() and example.input == example.input.rstrip():
            assert (prompt.text[:start], end) == (context.rstrip(), len(prompt.text))


@pytest.mark.parametrize("body", READ.values(), ids=READ)
def test_prompts_are_those_of_the_harness(tmp_path, body):
    path = write_task(tmp_path, body)
    (task,) = read_suite(path).suite.tasks
    harness = harness_task(path, tmp_path / "cache")
    assert_equal_prompts(task, harness, [], 3)
    assert_equal_prompts(task, harness, [1, 0], 4)


@pytest.mark.parametrize(
    "splits",
    [
        "training_split: train\nvalidation_split: dev\ntest_split: test",
        "training_split: train\nvalidation_split: dev",
        "validation_split: dev\ntest_split: test",
        "validation_split: dev",
        "test_split: test",
        "training_split: train\ntest_split: test\nfewshot_split: dev",
        "training_split: train\ntest_split: test\nfewshot_split: test",
        "test_split: test\nfewshot_split: train\nfewshot_config: {split: dev}",
    ],
)
def test_splits_are_those_of_the_harness(tmp_path, splits):
    names = ("train", "dev", "test")
    for name in names:
        lines = lines_of(*({"question": f"{name} {n}", "answer": "x"} for n in range(20)))
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    files = ", ".join(f"{name}: {name}.jsonl" for name in names)
    path = tmp_path / "task.yaml"
    head = f"task: task\ndataset_path: json\ndataset_kwargs: {{data_files: {{{files}}}}}\n"
    path.write_text(head + WRITTEN + splits, encoding="utf-8")
    (task,) = read_suite(path).suite.tasks
    harness = harness_task(path, tmp_path / "cache")
    assert [example.input for example in task.examples] == list(harness.eval_docs["question"])
    shown = [example.input for example in task.pool or task.examples]
    assert shown == [document["question"] for document in harness.fewshot_docs()]


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@given(
    texts=st.lists(TEXTS.filter(str.strip), min_size=3, max_size=3),
    options=st.lists(TEXTS.filter(bool), min_size=2, max_size=4, unique=True),
    label=st.integers(0, 1),
    delimiters=st.tuples(TEXTS, TEXTS),
)
@settings(max_examples=60)
def test_prompts_are_those_of_the_harness_whatever_documents_hold(texts, options, label, delimiters):
    from datasets import Dataset, DatasetDict
    from lm_eval.api.task import ConfigurableTask

    rows = [{"question": text, "options": options, "label": label} for text in texts]

    class Harness(ConfigurableTask):
        def download(self, dataset_kwargs=None):
            self.dataset = DatasetDict({"test": Dataset.from_list(rows)})

    config = {
        "task": "t",
        "output_type": "multiple_choice",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": __file__}},
        "test_split": "test",
        "doc_to_text": "{{question}}:",
        "doc_to_choice": "{{options}}",
        "doc_to_target": "label",
        "target_delimiter": delimiters[0],
        "fewshot_delimiter": delimiters[1],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "read_documents", lambda source, split: rows)
        task, bad = lm_eval_task(TaskFile(Path("t.yaml"), dict(config)))
    assert not bad
    assert_equal_prompts(task, Harness(config=dict(config)), [0, 1], 2)


def test_what_a_task_says_of_scoring(tmp_path):
    (task,) = read_suite(write_task(tmp_path, READ["list and index"])).suite.tasks
    assert (task.name, task.scoring, task.metric) == ("task", "options", "sum")
    assert (len(task.examples), len(task.pool), task.labels) == (24, 12, ("no", "yes, it is", "maybe"))
    assert task.wording == Wording(" ", "\n\n", "")
    assert task.examples[1] == Example("Q: What is 1 + 1?\nA:", "yes, it is", options=("no", "yes, it is", "maybe"))

    (task,) = read_suite(write_task(tmp_path, READ["columns"])).suite.tasks
    assert (task.pool, task.labels) == ((), ())

    (task,) = read_suite(write_task(tmp_path, READ["nested values"])).suite.tasks
    assert (task.metric, task.wording.delimiter, task.examples[0].input[-7:]) == ("per_byte", " ", "Answer:")

    (task,) = read_suite(write_task(tmp_path, READ["several right answers"])).suite.tasks
    assert (task.scoring, task.metric, task.stop, task.max_new_tokens) == ("generate", "exact", ("\n", "Q:"), 9)
    assert task.examples[2] == Example("What is 2 + 2?", "4", aliases=("4.0",))

    (task,) = read_suite(write_task(tmp_path, READ["a list that a template writes"])).suite.tasks
    assert (task.metric, task.stop, task.max_new_tokens) == ("bleu", ("\n\n",), 256)

    (task,) = read_suite(write_task(tmp_path, READ["written choices"])).suite.tasks
    assert (task.examples[2].output, task.examples[2].options) == ("not 2", ())


CHOICE = 'output_type: multiple_choice\ndoc_to_text: "{{question}}"\ndoc_to_choice: options\ndoc_to_target: label\n'
WRITTEN = "doc_to_text: question\ndoc_to_target: answer\n"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (CHOICE + "process_docs: !function utils.process", "process_docs changes documents with Python code"),
        (CHOICE + "process_results: !function utils.score", "process_results scores with Python code"),
        (CHOICE.replace("options", "!function utils.f"), "doc_to_choice is Python code (!function utils.f)"),
        (CHOICE + "metric_list: [{metric: acc, aggregation: !function m.f}]", "metric_list is Python code"),
        (CHOICE + "group: some", "group makes it a group of tasks"),
        (CHOICE + "gen_prefix: So", "gen_prefix begins the model's answer"),
        (CHOICE + "doc_to_txt: x", "doc_to_txt is no key that the harness knows"),
        (CHOICE.replace("multiple_choice", "loglikelihood"), "output_type is loglikelihood; only"),
        (CHOICE.replace("multiple_choice", "loglikelihood_rolling"), "output_type is loglikelihood_rolling; only"),
        (CHOICE.replace("doc_to_choice: options\n", ""), "doc_to_choice is missing"),
        (CHOICE.replace("doc_to_target: label\n", ""), "doc_to_target is null"),
        (CHOICE.replace("{{question}}", "{{question"), "doc_to_text is no Jinja template"),
        (CHOICE.replace('"{{question}}"', "label"), "doc_to_text gives a number: an input for every option"),
        (CHOICE.replace("{{question}}", "{{label}}"), "doc_to_text gives a number: an input for every option"),
        (CHOICE.replace("{{question}}", "{{questoin}}"), "doc_to_text: 'questoin' is undefined"),
        (CHOICE.replace("{{question}}", "{{''.__class__.__mro__}}"), "access to attribute '__class__'"),
        (CHOICE.replace("label", "answers"), "doc_to_target gives ['0', '0.0'], which is not one of the 3 choices"),
        (
            CHOICE.replace("label", '"{{answers}}"'),
            "doc_to_target gives ['0', '0.0'], which is not one of the 3 choices",
        ),
        (CHOICE.replace("label", "question"), "doc_to_target gives 'What is 0 + 0?', which is not one"),
        (CHOICE.replace("label", "-1"), "doc_to_target gives -1, which is not one"),
        (CHOICE.replace("label", "3"), "doc_to_target gives 3, which is not one"),
        (CHOICE.replace("options", "answer"), "doc_to_choice gives '0', not a list of texts"),
        (CHOICE.replace("options", "[true, false]"), "doc_to_choice gives [True, False], not a list of texts"),
        (CHOICE.replace("options", "[x, x, y]"), "doc_to_choice gives ['x', 'x', 'y']; it must give two texts"),
        (CHOICE + 'description: "{{question}}"', "description differs from document to document"),
        (CHOICE + "target_delimiter: 3", "target_delimiter is a number; it must be text"),
        (CHOICE + "metric_list: [{metric: mcc}]", "metric_list has mcc; for multiple_choice there are acc,"),
        (CHOICE + "target_delimiter: ' > '\nmetric_list: [{metric: acc_norm}]", "target_delimiter has more than"),
        (CHOICE + "description: x\nmetric_list: [{metric: acc_mutual_info}]", "description would stand before"),
        (
            CHOICE.replace("options", '"{{choices.text}}"') + "metric_list: [{metric: acc_norm}, {metric: acc}]",
            "metric_list has acc_norm first, which counts characters",
        ),
        (
            CHOICE.replace("}}", "}} {{hint}}") + "metric_list: [{metric: acc_bytes}]",
            "doc_to_text ends with white space",
        ),
        (CHOICE + "test_split: null", "test_split is missing, and so is validation_split"),
        (CHOICE + "test_split: dev", "there is no split 'dev'; dataset_kwargs.data_files names train, test"),
        (CHOICE + "fewshot_config: {sampler: balanced}", "fewshot_config.sampler is balanced"),
        (CHOICE + "fewshot_config: {doc_to_text: other}", "fewshot_config.doc_to_text is another than the query's"),
        (CHOICE + "fewshot_config: {target_delimiter: ''}", "fewshot_config.target_delimiter is another"),
        (CHOICE + "fewshot_config: {fewshot_indices: [1]}", "fewshot_config.fewshot_indices is not supported"),
        (CHOICE + "dataset_path: 5", "dataset_path is a number"),
        (CHOICE + "dataset_kwargs: {data_files: {test: none.jsonl}}", "dataset_kwargs.data_files names none.jsonl"),
        (CHOICE + "dataset_kwargs: {data_files: test.jsonl, field: x}", "dataset_kwargs.field is not supported"),
        (WRITTEN + "filter_list: [{name: a, filter: [{function: regex}]}]", "filter_list has the filter regex"),
        (WRITTEN + "metric_list: [{metric: exact_match, ignore_case: true}]", "gives exact_match ignore_case"),
        (WRITTEN + "metric_list: [{metric: acc}]", "metric_list has acc; for generate_until there are exact_match"),
        (WRITTEN + "target_delimiter: ' so '", "target_delimiter has more than white space"),
        (WRITTEN + "generation_kwargs: {do_sample: true}", "generation_kwargs asks for sampling"),
        (WRITTEN + "generation_kwargs: {temperature: 0.7}", "generation_kwargs asks for sampling"),
        (WRITTEN + "generation_kwargs: {num_beams: 4}", "generation_kwargs.num_beams is not supported"),
        (WRITTEN + "generation_kwargs: {until: []}", "generation_kwargs.until must say in texts"),
        (WRITTEN + "generation_kwargs: {max_gen_toks: many}", "generation_kwargs has 'many' as the most tokens"),
        (WRITTEN.replace("answer", "label"), 'not the answer\'s text; write "{{column}}"'),
        (WRITTEN.replace("answer", "hint"), "doc_to_target gives '', not the answer's text"),
        (WRITTEN.replace("question", "hint"), "doc_to_text gives '';"),
    ],
)
def test_what_is_not_supported_is_refused_in_one_line(tmp_path, body, message):
    path = write_task(tmp_path, body)
    with pytest.raises(DataError) as caught:
        read_suite(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_key_without_effect_or_without_value_is_no_reason_to_refuse(tmp_path):
    extra = "tag: [x]\ntask_alias: y\nmetadata: {version: 2}\nshould_decontaminate: true\nnum_fewshot: 5\nrepeats: 2\n"
    code = "doc_to_decontamination_query: !function utils.f\nprocess_docs: null\ndescription: ''\n"
    (task,) = read_suite(write_task(tmp_path, CHOICE + extra + code)).suite.tasks
    (same,) = read_suite(write_task(tmp_path, CHOICE)).suite.tasks
    assert task == same


def test_bad_documents_are_an_error_or_listed(tmp_path):
    rows = [*ROWS, {**ROWS[0], "label": 7}, {**ROWS[0], "label": None}]
    path = write_task(tmp_path, CHOICE, rows=rows)
    with pytest.raises(DataError, match=r"split test, row 25: doc_to_target gives 7, .*; 1 further bad row; mend"):
        read_suite(path)
    files = read_suite(path, on_bad_row="skip")
    assert len(files.suite.tasks[0].examples) == 24
    assert [(row.file, row.line) for row in files.skipped] == [(f"{path}, split test", 25), (f"{path}, split test", 26)]


def test_a_folder_holds_task_files_beside_data_files(tmp_path):
    write_task(tmp_path, CHOICE, name="sums.yaml")
    (tmp_path / "template.yaml").write_text("learning_rate: 1e-4\n", encoding="utf-8")
    lines = "".join(json.dumps({"input": str(n), "output": "x"}) + "\n" for n in range(20))
    (tmp_path / "other.jsonl").write_text(lines, encoding="utf-8")
    files = read_suite(tmp_path)
    assert [(task.name, task.scoring) for task in files.suite.tasks] == [("other", "exact_match"), ("sums", "options")]
    skipped = {Path(row.file).name: row.reason for row in files.skipped}
    assert skipped == {"template.yaml": "names no task; other task files may include it", "data.inc": "not a data file"}

    (tmp_path / "third.yaml").write_text("task: other\ninclude: sums.yaml\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"third\.yaml and .*other\.jsonl would both be task 'other'"):
        read_suite(tmp_path)
    (tmp_path / "third.yaml").write_text("task: sums\ninclude: sums.yaml\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"sums\.yaml and .*third\.yaml would both be task 'sums'"):
        read_suite(tmp_path)


def test_task_files_that_cannot_be_used_are_left_out_if_asked(tmp_path):
    write_task(tmp_path, CHOICE, name="good.yaml")
    write_task(tmp_path, CHOICE + "group: g", name="group.yaml")
    (tmp_path / "few.yaml").write_text("task: few\ninclude: good.yaml\ntest_split: train\n", encoding="utf-8")
    (tmp_path / "torn.yaml").write_text("task: [\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"torn\.yaml:2: "):
        read_suite(tmp_path)
    files = read_suite(tmp_path, on_bad_row="skip")
    assert [task.name for task in files.suite.tasks] == ["good"]
    reasons = {Path(row.file).name: row.reason for row in files.skipped}
    assert reasons["group.yaml"].startswith("task 'group' left out: group makes it a group")
    assert reasons["few.yaml"] == "task 'few' left out: 12 usable rows, and a task of a suite needs 20"
    assert reasons["torn.yaml"].startswith("left out: ")


def test_includes(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "first").write_text("description: first\ntarget_delimiter: '1'\ntask: x\n", encoding="utf-8")
    (inner / "second").write_text("include: first\ntarget_delimiter: '2'\ntag: [a]\n", encoding="utf-8")
    path = tmp_path / "task.yaml"
    path.write_text("include: [inner/first, inner/second]\ntask: mine\n", encoding="utf-8")
    expected = {"description": "first", "target_delimiter": "2", "task": "mine", "tag": ["a"]}
    assert load_task_file(path).config == expected
    (inner / "first").write_text("include: second", encoding="utf-8")
    with pytest.raises(DataError, match=r"(first|second): include leads back to the file itself"):
        load_task_file(path)
    path.write_text("include: nowhere", encoding="utf-8")
    with pytest.raises(DataError, match="nowhere cannot be read: "):
        load_task_file(path)
    path.write_text("- task", encoding="utf-8")
    with pytest.raises(DataError, match="is no task file: it must be a mapping"):
        load_task_file(path)


WORDS = st.one_of(
    st.text("0123456789+-._:eExobnyY", min_size=1, max_size=6),
    st.sampled_from(
        ["yes", "No", "on", "y", "True", "null", "~", "012", "1_0", "12:30", "1e3", "1.5e+3", ".inf", "-.5"]
    ),
)


@given(word=WORDS)
@settings(max_examples=400)
def test_a_plain_word_means_what_it_means_to_the_harness_or_is_refused(tmp_path_factory, word):
    import yaml

    path = tmp_path_factory.getbasetemp() / "word.yaml"
    path.write_text(f"description: {word}\n", encoding="utf-8")
    try:
        file = load_task_file(path)
        file.check_keys()
    except DataError:
        return
    ours = file.config["description"]
    theirs = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)["description"]
    assert repr(ours) == repr(theirs)


def test_words_that_mean_two_things_are_refused_unless_quoted(tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text("task: t\ndoc_to_choice: [no, yes]\n", encoding="utf-8")
    with pytest.raises(DataError, match=r'task\.yaml: doc_to_choice has the word no, .*; write "no" in quotes'):
        load_task_file(path).check_keys()
    for word in ("yes", "No", "on", "OFF", "012", "0o7", "1_0", "12:30", "1e3", "-.5"):
        path.write_text(f"task: t\ntest_split: {word}\n", encoding="utf-8")
        with pytest.raises(DataError, match=f"test_split has the word {word}, "):
            load_task_file(path).check_keys()
    path.write_text("task: t\nfewshot_config: {on: 1}\n", encoding="utf-8")
    with pytest.raises(DataError, match="fewshot_config has the word on"):
        load_task_file(path).check_keys()
    path.write_text("task: 012\n", encoding="utf-8")
    with pytest.raises(DataError, match="task has the word 012"):
        _ = load_task_file(path).name
    path.write_text("task: t\ndoc_to_choice: ['no', \"yes\"]\nmetadata: {on: 06:00}\n", encoding="utf-8")
    file = load_task_file(path)
    file.check_keys()
    assert file.config["doc_to_choice"] == ["no", "yes"]


def lines_of(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("json", lines_of({"a": "2024-05-01", "b": 1}, {"a": "2024-05-02 10:00:00", "b": 2.5}, {"b": None})),
        ("json", json.dumps([{"q": "é", "c": {"t": ["a"], "l": [1]}}, {"q": "", "c": {"t": [], "l": [2]}}], indent=1)),
        ("json", json.dumps(["a", "b {"])),
        ("json", lines_of({"q": [{"r": "u"}, None]}, {"q": [], "w": True})),
        ("csv", 'q,n,f,b,s\n"a ""x"", y",1,1.5,True,NA\n"l\nm",2,2,False,None\né,007,3e2,true,yes\n'),
        ("csv", "d,m,t\n2024-05-01,1,12:30\n2024-05-02,,12:40\n"),
        ("csv", "\ufeffq,a\r\nx,1\r\n\r\ny,true\r\n z ,0\r\n"),
        ("csv", "q,a\n1,\n12:30,\n"),
        ("text", "one\r\ntwo\n\nfour \x0b x"),
        ("parquet", pyarrow.table({"a": [1, None], "b": ["x", "y"], "c": [["p"], []], "d": [{"e": 1}, {"e": None}]})),
    ],
)  # fmt: skip
def test_documents_are_those_of_the_data_library(tmp_path, path, text):
    from datasets import load_dataset

    file = tmp_path / "data"
    if path == "parquet":
        parquet.write_table(text, file)
    else:
        file.write_bytes(text.encode())
    theirs = load_dataset(path, data_files={"test": str(file)}, cache_dir=str(tmp_path / "cache"))["test"]
    ours = documents.read_documents(Source(path, files={"test": (file,)}), "test")
    assert repr([dict(row) for row in ours]) == repr(list(theirs))


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("json", lines_of({"c": {"x": 1}}, {"c": {"y": 2}}), "the objects in column 'c' have different keys"),
        ("json", lines_of({"c": [{"x": 1}]}, {"c": [{"x": 2}, {"y": 2}]}), "the objects in column 'c' have different"),
        ("json", lines_of({"q": 1}, {"q": "x"}), "changed from number to string"),
        ("json", json.dumps({"data": [{"q": 1}]}, indent=1), "neither one object a line nor a list of objects"),
        ("json", "", "split 'test' is empty|Empty JSON file"),
        ("csv", "a,b\n1\n", "Expected 2 columns, got 1"),
        ("parquet", "no", "cannot be read as parquet"),
    ],
)
def test_documents_without_types_are_refused(tmp_path, path, text, message):
    file = tmp_path / "data"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        documents.read_documents(Source(path, files={"test": (file,)}), "test")


def test_several_files_of_a_split_are_one(tmp_path):
    for number in (1, 2):
        (tmp_path / f"{number}.jsonl").write_text(lines_of({"a": number / 2}), encoding="utf-8")
    source = Source("json", files={"test": (tmp_path / "2.jsonl", tmp_path / "1.jsonl")})
    assert documents.read_documents(source, "test") == [{"a": 1.0}, {"a": 0.5}]


def test_a_data_file_is_looked_for_in_the_working_folder_too(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = write_task(elsewhere, CHOICE)
    moved = tmp_path / "task.yaml"
    moved.write_text(path.read_text(encoding="utf-8").replace("data.inc", "elsewhere/data.inc"), encoding="utf-8")
    with pytest.raises(DataError, match="neither beside it nor in the working folder"):
        read_suite(moved)
    monkeypatch.chdir(elsewhere)
    assert read_suite(moved).suite.tasks == read_suite(path).suite.tasks


def test_hub_data_sets(tmp_path, monkeypatch):
    import datasets

    asked = []

    def load_dataset(path, name, **options):
        asked.append((path, name, options))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    hub = "dataset_path: org/name\ndataset_name: some\ndataset_kwargs: {trust_remote_code: true, revision: v1}\n"
    (task,) = read_suite(write_task(tmp_path, CHOICE + hub)).suite.tasks
    assert len(task.examples) == len(task.pool) == 24
    assert asked == [("org/name", "some", {"split": split, "revision": "v1"}) for split in ("test", "train")]

    def fail(path, name, **options):
        raise ValueError("no such split\nand more")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=r"task\.yaml: dataset_path org/name cannot be loaded: no such split$"):
        read_suite(tmp_path / "task.yaml")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(DataError, match=r"org/name is a hub data set, .* pip install 'keepshot\[hub\]'"):
        read_suite(tmp_path / "task.yaml")


def test_the_documented_task_is_read(tmp_path):
    page = DOCS.read_text(encoding="utf-8")
    [(yaml, rows, prompt)] = re.findall(
        r"```yaml\n(.*?)```.*?```jsonl\n(.*?)```.*?```text\n(.*?)\n```", page, re.DOTALL
    )
    (tmp_path / "colours.yaml").write_text(yaml, encoding="utf-8")
    (tmp_path / "colours.jsonl").write_text(rows * 10, encoding="utf-8")
    (task,) = read_suite(tmp_path).suite.tasks
    assert (task.name, task.labels) == ("colours", ("cold", "warm"))
    assert VerbatimTemplate(task.wording).render(task.examples[:2]).text == prompt


INPUTS = ["lemon", "tulip", "horse", "cabin", "radio", "piano", "ocean", "tiger", "maple", "night", "sugar", "stone"]
INPUTS += ["bread", "chair", "cloud", "river", "smoke", "grape"]

SCORED = {
    "acc": 'doc_to_text: "{{word}} ->"\ndoc_to_choice: [vowel, consonant]\ndoc_to_target: second',
    "acc_bytes": 'doc_to_text: "In: {{word}}\\nOut: "\ntarget_delimiter: ""\ndoc_to_choice: made\ndoc_to_target: 0',
    "acc_norm": 'doc_to_text: "{{word}}"\ntarget_delimiter: "\\n"\ndoc_to_choice: made\ndoc_to_target: 0',
    "acc_mutual_info": 'doc_to_text: "In: {{word}}\\nOut:"\ndoc_to_choice: made\ndoc_to_target: 0',
    "exact_match": 'doc_to_text: "Q: {{word}}\\nA:"\ndoc_to_target: "{{word | upper}}"\nfewshot_delimiter: "\\n"',
}


@pytest.fixture(scope="module")
def mini():
    return load_model("mini"), load_tokenizer("mini")


@pytest.mark.parametrize("metric", SCORED)
def test_scores_are_those_of_the_harness(tmp_path, mini, metric):
    huggingface = pytest.importorskip("lm_eval.models.huggingface")
    from lm_eval.api.instance import Instance

    model, tokenizer = mini
    rows = [
        {"word": word, "second": int(word[1] not in "aeiou"), "made": [word.upper(), word[::-1], word + "s", "x"]}
        for word in INPUTS
    ]
    kind = "generate_until" if metric == "exact_match" else "multiple_choice"
    path = write_task(
        tmp_path, f"{SCORED[metric]}\noutput_type: {kind}\nmetric_list: [{{metric: {metric}}}]", rows=rows
    )
    task, _ = lm_eval_task(load_task_file(path))
    harness = harness_task(path, tmp_path / "cache")
    theirs = huggingface.HFLM(
        pretrained=model, tokenizer=tokenizer, dtype="float32", add_bos_token=True, batch_size=4, device="cpu"
    )
    drawn = demonstration_set(task, 0, sets=1, shots=3, queries=9, seed=0)
    shown = [list(harness.fewshot_docs())[task.pool.index(example)] for example in drawn.demonstrations]
    for item in ask(as_subject(model, tokenizer, "plain", "mini"), task, drawn, (3,))[3]:
        document = harness.eval_docs[task.examples.index(drawn.queries[item.query])]
        requests = [
            Instance(request_type=kind, doc=document, arguments=arguments, idx=index, metadata=("", 0, 1))
            for index, arguments in enumerate(harness_requests(harness, shown, document))
        ]
        if kind == "generate_until":
            (written,) = theirs.generate_until(requests, disable_tqdm=True)
            assert written.strip() == item.predicted
            results = [written.strip()]
        else:
            results = theirs.loglikelihood(requests, disable_tqdm=True)
        assert harness.process_results(document, results)[metric] == item.score
