import inspect
import json
import re
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from keepshot.errors import ConfigError, DataError
from keepshot.tasks.example import Example
from keepshot.tasks.read import as_task, read_examples, read_task
from keepshot.tasks.suite_files import read_suite

DOCS = Path(__file__).parents[3] / "docs/data.md"


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_of(count, *, start=0, outputs=("x", "y")):
    return [{"input": f"in {n}", "output": outputs[n % len(outputs)]} for n in range(start, start + count)]


def test_all_file_kinds_give_the_same_examples(tmp_path):
    rows = [{"input": f"a,\n{n}", "output": "b", "options": ["b", "c"]} for n in range(30)]
    write_jsonl(tmp_path / "a.jsonl", rows)
    (tmp_path / "a.json").write_text(json.dumps({"data": rows}), encoding="utf-8")
    lines = [f'"{row["input"]}",b,b|c\n' for row in rows]
    (tmp_path / "a.csv").write_text("input,output,options\n" + "".join(lines), encoding="utf-8")
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    expected = tuple(Example(f"a,\n{n}", "b", options=("b", "c")) for n in range(30))
    for suffix in ("jsonl", "json", "csv", "parquet"):
        dataset = read_examples(tmp_path / f"a.{suffix}")
        assert (dataset.format, dataset.examples) == ("input/output", expected)


def test_a_bad_row_names_its_place_its_reason_and_the_way_out(tmp_path):
    path = write_jsonl(
        tmp_path / "a.jsonl", [*rows_of(25), {"input": "a", "output": ""}, *rows_of(2), {}, {"input": 1}]
    )
    with pytest.raises(DataError) as caught:
        read_examples(path)
    assert str(caught.value).startswith(f"{path}:26: output is empty; 2 further bad rows; ")
    assert "--on-bad-row skip (config: data.on_bad_row: skip)" in str(caught.value)
    dataset = read_examples(path, on_bad_row="skip")
    assert len(dataset.examples) == 27
    assert [row.line for row in dataset.skipped] == [26, 29, 30]


@pytest.mark.parametrize("on_bad_row", ["raise", "skip"])
def test_nothing_usable_is_an_error_however_bad_rows_are_treated(tmp_path, on_bad_row):
    (tmp_path / "a.jsonl").write_text("\n\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds no rows"):
        read_examples(tmp_path / "a.jsonl", on_bad_row=on_bad_row)
    (tmp_path / "b.jsonl").write_text("x\ny\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"all 2 rows are bad, the first \(.*b.jsonl:1\) because: not valid JSON"):
        read_examples(tmp_path / "b.jsonl", on_bad_row=on_bad_row)
    write_jsonl(tmp_path / "c.jsonl", [{"input": "a", "output": None}])
    with pytest.raises(DataError, match="all 1 rows are bad"):
        read_examples(tmp_path / "c.jsonl", on_bad_row=on_bad_row)


def test_the_format_can_be_given(tmp_path):
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    path = write_jsonl(tmp_path / "a.jsonl", [{"input": "i", "output": "o", "messages": turns}])
    assert read_examples(path, format="messages").examples == (Example("q", "a"),)
    assert read_examples(path, format="input/output").examples == (Example("i", "o"),)
    with pytest.raises(DataError, match=r"a\.jsonl: the first rows fit the formats"):
        read_examples(path)


def test_unknown_choices(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", rows_of(1))
    with pytest.raises(ConfigError, match="choose raise or skip"):
        inspect.unwrap(read_examples)(path, on_bad_row="ignore")  # Outside tests no type checker stands before it.
    with pytest.raises(ConfigError, match="'csv' is not known"):
        read_examples(path, format="csv")


def test_scoring_and_labels():
    two, other = ("a", "b"), ("b", "a")
    same = as_task("t", [Example("1", "a", options=two), Example("2", "b", options=other)])
    assert (same.scoring, same.labels) == ("options", two)
    differing = as_task("t", [Example("1", "a", options=two), Example("2", "c", options=("c", "b"))])
    assert (differing.scoring, differing.labels) == ("options", ())
    some = as_task("t", [Example("1", "a", options=two), Example("2", "b")])
    assert some.scoring == "exact_match"
    assert as_task("t", [Example(str(n), "xyz"[n % 3]) for n in range(15)]).labels == ("x", "y", "z")
    assert as_task("t", [Example(str(n), "xyz"[n % 3]) for n in range(14)]).labels == ()
    assert as_task("t", [Example(str(n), "x") for n in range(50)]).labels == ()


def test_labels_of_a_pair_come_from_both_parts():
    pool = [Example(str(n), "xyz"[n % 3]) for n in range(30)]
    task = as_task("t", [Example("a", "x"), Example("b", "y")], pool)
    assert task.labels == ("x", "y", "z")
    assert task.pool == tuple(pool)


def test_a_task_is_named_after_its_file(tmp_path):
    path = write_jsonl(tmp_path / "colours.v2.train.jsonl", rows_of(10))
    assert read_task(path).name == "colours.v2"
    assert read_task(path, name="other").name == "other"


def test_a_suite_of_a_folder(tmp_path):
    write_jsonl(tmp_path / "b.jsonl", rows_of(20))
    write_jsonl(tmp_path / "a.train.jsonl", rows_of(30, start=19))
    write_jsonl(tmp_path / "a.test.jsonl", rows_of(20))
    (tmp_path / "README.md").write_text("about", encoding="utf-8")
    (tmp_path / "inner").mkdir()
    files = read_suite(tmp_path)
    first, second = files.suite.tasks
    assert (files.suite.name, first.name, second.name) == (tmp_path.name, "a", "b")
    assert (len(first.examples), len(second.examples), second.pool) == (20, 20, ())
    # Row 19 stands in both parts: as a demonstration it would give its own answer away.
    assert [example.input for example in first.pool] == [f"in {n}" for n in range(20, 49)]
    assert {(Path(row.file).name, row.reason) for row in files.skipped} == {
        ("README.md", "not a data file"),
        ("inner", "a folder"),
        ("a.train.jsonl", f"1 rows also stand in {tmp_path / 'a.test.jsonl'}"),
    }


def test_a_lone_part_is_a_task_and_a_single_file_a_suite(tmp_path):
    path = write_jsonl(tmp_path / "a.train.jsonl", rows_of(20))
    for source in (tmp_path, path):
        (task,) = read_suite(source).suite.tasks
        assert (task.name, len(task.examples), task.pool) == ("a", 20, ())


def test_a_short_or_unreadable_task_is_an_error_or_listed(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", rows_of(19))
    write_jsonl(tmp_path / "b.jsonl", [{"text": "x"}])
    write_jsonl(tmp_path / "c.jsonl", [*rows_of(20), {}])
    with pytest.raises(DataError, match=r"a\.jsonl: 19 usable rows, and a task of a suite needs 20; remove it"):
        read_suite(tmp_path)
    files = read_suite(tmp_path, on_bad_row="skip")
    assert [task.name for task in files.suite.tasks] == ["c"]
    assert [(Path(row.file).name, row.line) for row in files.skipped] == [
        ("a.jsonl", 0),
        ("b.jsonl", 0),
        ("c.jsonl", 21),
    ]
    assert files.skipped[0].reason == "task 'a' left out: 19 usable rows, and a task of a suite needs 20"


def test_a_suite_needs_tasks_with_names_of_their_own(tmp_path):
    with pytest.raises(DataError, match="holds no task; data files end in"):
        read_suite(tmp_path)
    write_jsonl(tmp_path / "a.jsonl", rows_of(20))
    (tmp_path / "a.csv").write_text("input,output\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.csv and .*a\.jsonl would both be task 'a'"):
        read_suite(tmp_path)


@pytest.mark.parametrize("block", re.findall(r"```(jsonl|csv)\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL))
def test_the_documented_formats_are_read(tmp_path, block):
    suffix, text = block
    (tmp_path / f"a.{suffix}").write_text(text, encoding="utf-8")
    dataset = read_examples(tmp_path / f"a.{suffix}")
    assert len(dataset.examples) == len(text.strip().splitlines()) - (suffix == "csv")
