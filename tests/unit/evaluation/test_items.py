from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from keepshot.errors import RunError
from keepshot.evaluation import Item, read_items, write_items

ITEM = Item("t", 7, 16, 39, "0f" * 8, "é\n😀", ("e", "", "é, 😀"), "", 1.0, 0.1234567890123)
ITEMS = [ITEM, replace(ITEM, query=0, score=1 / 3, nll=0.0), replace(ITEM, set=0, aliases=())]


def test_items_come_back_as_they_were(tmp_path):
    path = tmp_path / "items.parquet"
    write_items(path, ITEMS)
    assert read_items(path) == ITEMS
    write_items(path, [])
    assert read_items(path) == []
    assert [file.name for file in tmp_path.iterdir()] == ["items.parquet"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "items.parquet"
    write_items(path, ITEMS)

    def fails(table, aside):
        aside.write_bytes(b"PAR1")
        raise OSError("disk full")

    monkeypatch.setattr(pq, "write_table", fails)
    with pytest.raises(OSError, match="disk full"):
        write_items(path, ITEMS[:1])
    assert read_items(path) == ITEMS


@pytest.mark.parametrize(
    "columns",
    [{"a": [1, 2]}, {"task": ["t"], "set": [1]}, {"task": [1], "nll": ["x"]}],
    ids=["none of them", "some of them", "other types"],
)
def test_another_table_is_an_error_and_not_rows_of_nothing(tmp_path, columns):
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(RunError, match="not a file of evaluation items"):
        read_items(path)


def test_a_missing_or_broken_file_is_an_error(tmp_path):
    path = tmp_path / "items.parquet"
    with pytest.raises(RunError, match=r"items\.parquet"):
        read_items(path)
    path.write_bytes(b"no parquet")
    with pytest.raises(RunError, match=r"items\.parquet"):
        read_items(path)
