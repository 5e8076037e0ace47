import json
import sys

import pyarrow
import pytest
from datasets import Dataset as HubDataset
from datasets.exceptions import DatasetNotFoundError
from pyarrow import parquet

from keepshot.errors import DataError
from keepshot.tasks.rows import BadRow, RawRow, raw_rows


def rows_of(source):
    return list(raw_rows(source))


def write(folder, name, text):
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_jsonl_lines_are_counted_over_blank_lines_and_bad_lines(tmp_path):
    text = b'\xef\xbb\xbf{"input": "a"}\r\n\n[1]\n{"input": "\xff"}\n{"input": \n{"input": "z"}'
    rows = rows_of(write(tmp_path, "a.jsonl", text))
    assert rows[0] == RawRow(1, {"input": "a"})
    assert [(row.line, row.reason.split(":")[0]) for row in rows[1:4]] == [
        (3, "the row is a list, not an object"),
        (4, "not valid UTF-8 at byte 12 of the line"),
        (5, "not valid JSON"),
    ]
    assert rows[4] == RawRow(6, {"input": "z"})


def test_unicode_line_separators_do_not_end_a_jsonl_row(tmp_path):
    rows = rows_of(write(tmp_path, "a.jsonl", '{"input": "a\u2028b\u0085c"}\n'))
    assert rows == [RawRow(1, {"input": "a\u2028b\u0085c"})]


def test_json_that_only_python_reads_is_a_bad_row_not_a_crash(tmp_path):
    rows = rows_of(write(tmp_path, "a.jsonl", "[" * 200_000 + "\n" + "9" * 5000 + "\n"))
    assert [type(row) for row in rows] == [BadRow, BadRow]


@pytest.mark.parametrize(
    "text", ['[{"input": 1}, {"input": 2}]', '{"version": 2, "data": [{"input": 1},\n {"input": 2}]}']
)
def test_json_is_a_list_or_stands_under_data(tmp_path, text):
    assert rows_of(write(tmp_path, "a.json", text)) == [RawRow(1, {"input": 1}), RawRow(2, {"input": 2})]


def test_json_lines_in_a_json_file_are_read(tmp_path):
    rows = rows_of(write(tmp_path, "a.json", '{"input": 1}\n{"input": 2}\n'))
    assert [row.values["input"] for row in rows] == [1, 2]


@pytest.mark.parametrize("text", ['{"input": 1}', '"a"', "[1", '{"data": {}}'])
def test_other_json_is_refused_with_the_file_name(tmp_path, text):
    with pytest.raises(DataError, match=r"a\.json (holds|is not)"):
        rows_of(write(tmp_path, "a.json", text))


def test_csv_quotes_newlines_and_a_byte_order_mark(tmp_path):
    text = b'\xef\xbb\xbfinput, output\r\n"a, ""b""\nc",1\r\n\r\nd,2\r\ne\r\nf,3,4\r\ng,\xff\r\n'
    rows = rows_of(write(tmp_path, "a.csv", text))
    assert rows[:2] == [RawRow(2, {"input": 'a, "b"\nc', "output": "1"}), RawRow(5, {"input": "d", "output": "2"})]
    assert [(row.line, row.reason) for row in rows[2:]] == [
        (6, "1 fields where the header names 2"),
        (7, "3 fields where the header names 2"),
        (8, "not valid UTF-8"),
    ]


def test_csv_lists_are_json_or_separated_by_bars(tmp_path):
    text = 'input,output,options,aliases\na,b,b|c,\na,b,"[""b|d"", ""c""]",x\na,b,[b],\n'
    rows = rows_of(write(tmp_path, "a.csv", text))
    assert [(row.values["options"], row.values["aliases"]) for row in rows[:2]] == [
        (["b", "c"], []),
        (["b|d", "c"], ["x"]),
    ]
    assert rows[2].line == 4
    assert rows[2].reason.startswith("options begins with [ but is not a JSON list")


def test_an_open_quote_does_not_swallow_the_rest(tmp_path):
    path = write(tmp_path, "a.csv", 'input,output\na,b\n"c,d\n' + "e,f\n" * 50)
    with pytest.raises(DataError, match=r"a\.csv:3: not valid CSV"):
        rows_of(path)


@pytest.mark.parametrize(
    ("text", "message"), [("input;output\na;b\n", "separate columns with commas"), ("a,b,a\n", "'a' more than once")]
)
def test_csv_header_mistakes(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        rows_of(write(tmp_path, "a.csv", text))


def test_csv_fields_may_be_longer_than_the_default_limit(tmp_path):
    rows = rows_of(write(tmp_path, "a.csv", f"input,output\n{'x' * 200_000},y\n"))
    assert len(rows[0].values["input"]) == 200_000


def test_tsv_is_separated_by_tabs(tmp_path):
    assert rows_of(write(tmp_path, "a.tsv", "input\toutput\na, b\tc\n")) == [
        RawRow(2, {"input": "a, b", "output": "c"})
    ]


def test_parquet_rows_go_on_over_batches_and_bad_text_spoils_one_row(tmp_path):
    texts = [b"a%d" % number for number in range(1500)]
    texts[1200] = b"\xff"
    column = pyarrow.Array.from_buffers(pyarrow.string(), 1500, pyarrow.array(texts, pyarrow.binary()).buffers())
    parquet.write_table(pyarrow.table({"input": column}), tmp_path / "a.parquet")
    rows = rows_of(tmp_path / "a.parquet")
    assert [row.line for row in rows] == list(range(1, 1501))
    assert rows[1499] == RawRow(1500, {"input": "a1499"})
    assert [row for row in rows if isinstance(row, BadRow)] == [rows[1200]]
    assert str(rows[1200]).endswith("a.parquet, row 1201: not valid UTF-8")


def test_a_file_that_is_no_parquet(tmp_path):
    with pytest.raises(DataError, match="is not valid Parquet"):
        rows_of(write(tmp_path, "a.parquet", "input,output\n"))


def test_what_is_no_data_file(tmp_path):
    write(tmp_path, "a.txt", "a")
    with pytest.raises(DataError, match=r"a\.txt has the suffix \.txt; data files end in"):
        raw_rows(tmp_path / "a.txt")
    with pytest.raises(DataError, match="is a folder"):
        raw_rows(tmp_path)
    for missing in ("a.jsonl", "./data/a", "x/y/z", "a b"):
        with pytest.raises(DataError, match="does not exist"):
            raw_rows(missing)
    with pytest.raises(DataError, match="does not exist"):
        raw_rows(tmp_path / "a")


def test_symlinks_are_followed(tmp_path):
    write(tmp_path, "a.bin", '{"input": 1}\n')
    (tmp_path / "b.jsonl").symlink_to(tmp_path / "a.bin")
    assert rows_of(tmp_path / "b.jsonl") == [RawRow(1, {"input": 1})]


def test_hub_ids_name_config_and_split(monkeypatch):
    asked = []

    def load(name, config, *, split):
        asked.append((name, config, split))
        return HubDataset.from_list([{"input": "a", "output": "b"}])

    monkeypatch.setattr("datasets.load_dataset", load)
    for source in ("squad", "org/name", "org/na.me:en-fr", "org/name:all@test[:10%]"):
        assert rows_of(source) == [RawRow(1, {"input": "a", "output": "b"})]
    assert asked == [
        ("squad", None, "train"),
        ("org/name", None, "train"),
        ("org/na.me", "en-fr", "train"),
        ("org/name", "all", "test[:10%]"),
    ]


def test_a_path_wins_over_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: pytest.fail("asked the hub"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org").mkdir()
    (tmp_path / "org/name").write_text("{}")
    with pytest.raises(DataError, match="has the suffix"):
        raw_rows("org/name")


@pytest.mark.parametrize(
    "error", [ConnectionError("Couldn't reach it\nmore"), DatasetNotFoundError("none"), ValueError("Unknown split")]
)
def test_hub_errors_are_one_line(monkeypatch, error):
    def load(*_, **__):
        raise error

    monkeypatch.setattr("datasets.load_dataset", load)
    with pytest.raises(DataError, match="org/name is no file here, and as a hub data set") as caught:
        raw_rows("org/name")
    assert "\n" not in str(caught.value)


def test_without_the_datasets_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="pip install"):
        raw_rows("org/name")


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = write(tmp_path, "a.jsonl", json.dumps({}))

    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", deny)
    with pytest.raises(DataError, match=r"a\.jsonl cannot be read: Permission denied"):
        rows_of(path)


def test_blank_lines_before_a_header_of_two_lines(tmp_path):
    rows = rows_of(write(tmp_path, "a.csv", '\n\ninput,output,"a\nnote"\na,b,c\n'))
    assert rows == [RawRow(5, {"input": "a", "output": "b", "a\nnote": "c"})]
