"""Damages files of records in every way that a reader may meet."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from krona_tune.record.parquet_reader import TableKind, read, refuse


def parts(results: Path) -> list[Path]:
    return sorted((results / "parts").glob("*.parquet"))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def only_its_first_bytes(path: Path) -> None:
    path.write_bytes(b"PAR1")


def other_bytes(path: Path) -> None:
    path.write_bytes(b"nothing of the kind" * 9)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def column_twice(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.append_column("seed", table["seed"]), path)


def not_utf8(path: Path) -> None:
    table = pq.read_table(path)
    bad = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    pq.write_table(table.set_column(table.column_names.index("error"), "error", bad), path)


def unknown_status(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index("status"), "status", pa.array(["sleeping"])), path)


def unknown_kind(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index("kind"), "kind", pa.array(["serch"])), path)


def no_number(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index("score"), "score", pa.array(["high"])), path)


def no_id(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns(["trial_id"]), path)


def no_method(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns(["method"]), path)


def lists(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.append_column("shape", pa.array([[1]])), path)


def another_table(path: Path) -> None:
    pq.write_table(pa.table({"x": [1, 2]}), path)


BYTES = (empty, only_its_first_bytes, other_bytes, cut, a_folder, a_pipe)


TABLES = (column_twice, not_utf8, unknown_status, unknown_kind, no_number, no_id, no_method, lists, another_table)


def table_in(results: Path, kind: TableKind[Any]) -> pa.Table:
    return kind.table(read(results, kind, refuse))
