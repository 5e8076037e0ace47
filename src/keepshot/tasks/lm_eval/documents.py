"""Documents of lm-evaluation-harness tasks: the rows of a file as the harness's data library would hold them.

What a prompt shows of a value depends on its type: a whole number in a column with a fraction is written 1.0, a date in
JSON lines 2024-05-01 00:00:00. So files are read through Arrow, with the types that `datasets` gives them.
"""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet
from pyarrow import json as arrow_json

from keepshot.errors import DataError
from keepshot.tasks.lm_eval.source import FILE_KINDS, Document, Source

# What pandas, which reads CSV for `datasets`, takes as missing; `None` and `<NA>` are not among pyarrow's own.
_MISSING = ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"]
_MISSING += ["NA", "NULL", "NaN", "None", "n/a", "nan", "null"]


def read_documents(source: Source, split: str) -> list[Document]:
    """All documents of a split, in order; each has every column.

    Raises:
        DataError: There is no such split, it is empty, or it cannot be read.
    """
    if source.path not in FILE_KINDS:
        rows = _from_hub(source, split)
    elif split not in source.files:
        raise DataError(f"there is no split {split!r}; dataset_kwargs.data_files names {', '.join(source.files)}")
    else:
        tables = [_table(source.path, file) for file in source.files[split]]
        try:
            rows = pa.concat_tables(tables, promote_options="permissive").to_pylist()
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise DataError(f"the files of split {split!r} do not go together: {_first_line(error)}") from None
    if not rows:
        raise DataError(f"split {split!r} is empty")
    return rows


def _table(path: str, file: Path) -> pa.Table:
    try:
        return _READERS[path](file)
    except (OSError, ValueError, pa.ArrowException) as error:  # ArrowInvalid and bad UTF-8 are ValueErrors
        raise DataError(f"{file} cannot be read as {path}: {_first_line(error)}") from None


def _json_table(file: Path) -> pa.Table:
    data = file.read_bytes().removeprefix(b"\xef\xbb\xbf")
    if data.lstrip().startswith(b"["):
        rows = [row if isinstance(row, dict) else {"text": row} for row in json.loads(data)]
        data = "\n".join(json.dumps(row) for row in rows).encode()
    # One block, however long: types must not depend on where a block ends.
    table = arrow_json.read_json(io.BytesIO(data), arrow_json.ReadOptions(block_size=len(data) + 1))
    nested = [column.name for column in table.schema if pa.types.is_nested(column.type)]
    if nested:
        try:
            given = [json.loads(line) for line in data.splitlines() if line.strip()]
        except ValueError:
            raise ValueError("it is neither one object a line nor a list of objects") from None
        for raw, row in zip(given, table.select(nested).to_pylist(), strict=True):
            for name in nested:
                if raw.get(name) is not None and not _same_keys(raw[name], row[name]):
                    # `datasets` leaves such columns untyped, or refuses them; Arrow fills in nulls.
                    raise ValueError(f"the objects in column {name!r} have different keys; give all of them all keys")
    return table


def _same_keys(raw: object, typed: object) -> bool:
    if isinstance(raw, dict) and isinstance(typed, dict):
        return raw.keys() == typed.keys() and all(_same_keys(raw[key], typed[key]) for key in raw)
    if isinstance(raw, list) and isinstance(typed, list):
        return all(_same_keys(*pair) for pair in zip(raw, typed, strict=True))
    return True


def _csv_table(file: Path) -> pa.Table:
    def read(types: Mapping[str, pa.DataType]) -> pa.Table:
        return csv.read_csv(
            file,
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=types,
                null_values=_MISSING,
                strings_can_be_null=True,
                true_values=["True", "TRUE", "true"],
                false_values=["False", "FALSE", "false"],
            ),
        )

    table = read({})
    # pandas leaves dates as text, and has no whole numbers in a column with gaps.
    types = {column.name: pa.string() for column in table.schema if pa.types.is_temporal(column.type)}
    for column in table.schema:
        if pa.types.is_integer(column.type) and table[column.name].null_count:
            types[column.name] = pa.float64()
    return read(types) if types else table


def _parquet_table(file: Path) -> pa.Table:
    return parquet.read_table(file)


def _text_table(file: Path) -> pa.Table:
    lines = io.StringIO(file.read_text(encoding="utf-8"))  # splits at newlines only
    return pa.table({"text": pa.array([line.rstrip("\n") for line in lines], pa.string())})


def _from_hub(source: Source, split: str) -> list[Document]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise DataError(
            f"dataset_path {source.path} is a hub data set, which needs the datasets library: "
            "pip install 'keepshot[hub]'"
        ) from None
    try:
        # From version 4 on, which the extra asks for, datasets runs no code that comes with the data.
        rows = load_dataset(source.path, source.config, split=split, **source.options)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"dataset_path {source.path} cannot be loaded: {_first_line(error)}") from None
    return rows.with_format("arrow")[:].to_pylist()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


_READERS: dict[str, Callable[[Path], pa.Table]] = {
    "json": _json_table,
    "csv": _csv_table,
    "parquet": _parquet_table,
    "text": _text_table,
}
