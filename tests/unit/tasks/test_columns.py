"""Files that call their columns otherwise than a format does."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from keepshot.cli.reading import named_columns
from keepshot.config import load_config
from keepshot.errors import ConfigError, DataError
from keepshot.runs.data import load_suites, load_target
from keepshot.tasks.check import check_data
from keepshot.tasks.example import Example
from keepshot.tasks.read import read_examples

ASKED = {"input": "question", "output": "answer", "options": "choices"}
ROWS = [{"id": n, "question": f"{n} + 1", "answer": str(n + 1), "choices": [str(n + 1), "0"]} for n in range(30)]
EXAMPLES = tuple(Example(f"{n} + 1", str(n + 1), options=(str(n + 1), "0")) for n in range(30))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def test_every_kind_of_file_is_read_under_the_formats_names(path, tmp_path):
    (tmp_path / "sums.json").write_text(json.dumps(ROWS), encoding="utf-8")
    lines = [f"{row['id']},{row['question']},{row['answer']},{'|'.join(row['choices'])}\n" for row in ROWS]
    (tmp_path / "sums.csv").write_text("id,question,answer,choices\n" + "".join(lines), encoding="utf-8")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "sums.parquet")
    for suffix in ("jsonl", "json", "csv", "parquet"):
        found = read_examples(path.with_suffix(f".{suffix}"), columns=ASKED)
        assert (found.format, found.examples, found.unused) == ("input/output", EXAMPLES, ("id",)), suffix


@given(st.permutations(["a", "b", "input", "output"]))
def test_names_may_be_exchanged_and_none_is_lost(names):
    """Whatever the file's own columns are called, the two named ones are read and the others stand aside."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "x.jsonl")
        file.write_text(json.dumps({name: f"text of {name}" for name in names}), encoding="utf-8")
        found = read_examples(file, columns={"input": names[0], "output": names[1]})
    assert found.examples == (Example(f"text of {names[0]}", f"text of {names[1]}"),)
    assert len(found.unused) == 2
    assert {name.removesuffix(" (its own)") for name in found.unused} == set(names[2:])


def test_a_column_that_no_row_has_is_named(path):
    with pytest.raises(
        DataError, match=r"output stands in 'anwser'; .* the columns 'id', 'answer', 'choices', 'question'"
    ):
        read_examples(path, columns={"input": "question", "output": "anwser"})


def test_a_name_that_no_format_has_is_refused_and_so_is_one_that_this_format_has_not(path):
    with pytest.raises(ConfigError, match=r"says where 'label' stands; rows have input, output, .*conversations"):
        read_examples(path, columns={"label": "answer"})
    with pytest.raises(ConfigError, match=r"rows of the format messages have messages$"):
        read_examples(path, format="messages", columns={"input": "question"})


def test_the_named_columns_tell_between_formats(tmp_path):
    row = {"messages": [], "q": "2 + 2", "a": "4", "prompt": "x", "completion": "y"}
    path = tmp_path / "both.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(DataError, match=r"choose one with data\.format"):
        read_examples(path)
    assert read_examples(path, columns={"input": "q", "output": "a"}).examples == (Example("2 + 2", "4"),)


def test_a_bad_row_keeps_its_place(path):
    path.write_text(path.read_text() + '{"question": "7"}\n{"question": \n', encoding="utf-8")
    bad = read_examples(path, columns={"input": "question", "output": "answer"}, on_bad_row="skip").skipped
    assert [(row.line, row.reason[:17]) for row in bad] == [(31, "output is missing"), (32, "not valid JSON: E")]


def test_the_check_reads_the_test_file_in_the_same_way(path):
    found = check_data(path, columns=ASKED, test=path)
    assert found.usable
    assert found.test.shared == 30
    assert found.extra_columns == ("id",)


def test_a_runs_config_names_them_and_its_report_what_is_not_used(path):
    config = load_config(
        {"model": "mini", "data": {"train": str(path), "columns": ASKED}, "sources": {"icl": [{"path": "x"}]}},
        ["data.columns.options=choices", "sources.general=[{path: g, columns: {input: question}}]"],
    )
    target = load_target(config.data, 0)
    assert {*target.train, *target.validation, *target.task.examples} == set(EXAMPLES)
    assert f"Columns of {path} that are not used: id." in target.notes
    assert config.sources.general[0].columns == {"input": "question"}
    with pytest.raises(ConfigError, match=r"config key data\.columns: columns says where 'question' stands"):
        load_config({"model": "mini", "data": {"train": str(path), "columns": {"question": "input"}}})


def test_turns_that_are_left_out_are_noted(tmp_path):
    def row(n, turns):
        roles = ("user", "assistant", "user")[:turns]
        return json.dumps({"messages": [{"role": role, "content": f"{role} {n}"} for role in roles]}) + "\n"

    path = tmp_path / "chats.jsonl"
    path.write_text("".join(row(n, 2 + n % 2) for n in range(60)), encoding="utf-8")
    config = load_config({"model": "mini", "data": {"train": str(path)}})
    assert f"Turns after the last assistant turn left out: 30 rows of {path}." in load_target(config.data, 0).notes


def test_a_suites_files_may_be_named_otherwise_too(path):
    suite, _ = load_suites(str(path.parent), columns=ASKED)
    assert suite.tasks[0].examples == EXAMPLES


def test_the_command_lines_form():
    assert named_columns(None) == {}
    assert named_columns(["input=a=b", "output=c"]) == {"input": "a=b", "output": "c"}
    for given_, message in (
        (["input"], "not of the form"),
        (["=a"], "not of the form"),
        (["input=a", "input=b"], "twice"),
        (["question=input"], "says where 'question' stands"),
    ):
        with pytest.raises(ConfigError, match=message):
            named_columns(given_)
