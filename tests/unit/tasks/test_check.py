import json

import pytest

from keepshot.errors import DataError
from keepshot.tasks.check import Lengths, check_data
from keepshot.tasks.formats import NUMBERS, STRIPPED


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def messy(tmp_path):
    rows = [
        {"input": "a", "output": "x ", "id": 1},
        {"input": "a", "output": "x", "id": 2},
        {"input": "a", "output": "y", "source": "web"},
        {"input": "A", "output": "x"},
        {"input": "bbb", "output": 7},
        {"input": "c", "output": ""},
    ]
    return write_jsonl(tmp_path / "train.jsonl", rows)


def test_the_findings(messy):
    check = check_data(messy)
    assert (check.detection.format, check.rows, [row.line for row in check.bad]) == ("input/output", 6, [6])
    # "A" asks something else than "a": to the letter, since some tasks are about letters.
    assert (check.duplicates, check.conflicts) == (1, 1)
    assert (check.distinct_outputs, check.majority, check.labels) == (3, ("x", 0.6), ())
    assert (check.input_characters, check.output_characters) == (Lengths(1.0, 3), Lengths(1.0, 1))
    assert check.extra_columns == ("id", "source")
    assert dict(check.changes) == {STRIPPED: 1, NUMBERS: 1}
    assert not check.usable


def test_rows_that_stand_in_the_test_file_but_for_case_and_white_space(messy, tmp_path):
    test = write_jsonl(tmp_path / "test.jsonl", [{"input": " a", "output": "z"}, {"input": "d", "output": "x"}, {}])
    overlap = check_data(messy, test=test).test
    assert (overlap.rows, len(overlap.bad), overlap.shared) == (2, 1, 4)


def test_bad_rows_of_the_test_file_make_the_data_unusable(tmp_path):
    train = write_jsonl(tmp_path / "train.jsonl", [{"input": "a", "output": "x"}])
    test = write_jsonl(tmp_path / "test.jsonl", [{"input": "b", "output": "x"}, {}])
    assert check_data(train).usable
    assert not check_data(train, test=test).usable


def test_labels_are_those_that_a_run_would_use(tmp_path):
    rows = [{"input": str(n), "output": ["no", "yes"][n % 2]} for n in range(10)]
    check = check_data(write_jsonl(tmp_path / "a.jsonl", rows))
    assert (check.labels, check.scoring) == (("no", "yes"), "exact_match")
    assert "2 labels, scored by exact match" in "\n".join(check.lines())


def test_the_lines_say_all_of_it_and_never_flood(messy, tmp_path):
    text = "\n".join(check_data(messy, test=messy).lines())
    for part in (
        "6 rows, 5 usable, 1 bad",
        "format: input/output (the first rows have input and output)",
        "outputs: 3 distinct, the most frequent 'x' in 60.0%; open answers",
        "repeated rows: 1; inputs with more than one output: 1",
        "columns not used: id, source",
        f"changed: {STRIPPED} (1 rows)",
        "5 of the rows above stand in it too",
        f"bad row: {messy}:6: output is empty",
    ):
        assert part in text
    long = write_jsonl(tmp_path / "b.jsonl", [{"input": "a\nb" * 99, "output": "x\ny" * 99}] * 3 + [{}] * 100)
    lines = check_data(long).lines()
    assert len(lines) < 20
    assert all("\n" not in line and len(line) < 300 for line in lines)
    assert lines[-1].startswith("bad row: … and 90 more in")


def test_no_usable_row_is_an_error_with_a_reason(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"input": "a", "output": ""}] * 3)
    with pytest.raises(
        DataError, match=r"all 3 rows are bad as input/output, the first: .*a\.jsonl:1: output is empty"
    ):
        check_data(path)
