"""Tests that the columns of each kind of file are read from its beginning, and that other files are refused."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from krona_tune.data.data_columns import MOST_COLUMNS, column_names
from krona_tune.data.separated_text import LONGEST_LINE
from krona_tune.refusal import Refusal


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("a.csv", '\ufefftext,"a, b",label\n1,2\n', ["text", "a, b", "label"]),
        ("a.csv", "text;label;more, or less\n", ["text", "label", "more, or less"]),
        ("A.CSV", "text|label\n", ["text", "label"]),
        ("a.csv", "text\n1\n", ["text"]),
        ("a.tsv", '"text\tlabel, or not\n', ['"text', "label, or not"]),
        ("a.jsonl", '\n{"text": "x", "label": 1}\n{"label": 2, "more": null}\n', ["text", "label", "more"]),
        ("a.ndjson", '{"text": "x"}', ["text"]),
    ],
)
def test_the_columns_stand_in_the_first_lines(name: str, content: str, columns: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert column_names(tmp_path / name) == columns


def test_the_columns_of_parquet_are_those_of_its_schema(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["x"], "label": [1]}), tmp_path / "a.parquet")
    assert column_names(tmp_path / "a.parquet") == ["text", "label"]


def test_only_the_beginning_is_read_and_a_line_that_it_cuts_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x"}\n' + f'{{"late": "{"é" * LONGEST_LINE}"}}\n')
    assert column_names(path) == ["text"]
    os.truncate(path, 1 << 40)
    assert column_names(path) == ["text"]
    path.with_suffix(".csv").write_text(",".join(f"c{n}" for n in range(2 * MOST_COLUMNS)))
    assert len(column_names(path.with_suffix(".csv"))) == MOST_COLUMNS


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"", "its beginning names no column"),
        ("a.jsonl", b"[1]\n", "its columns can't be read"),
        ("a.jsonl", b"null\n", "its columns can't be read"),
        ("a.jsonl", b"\n\n", "names no column"),
        ("a.csv", b"caf\xe9,label\n", "can't be read .*; save it as UTF-8"),
        ("a.parquet", b"PAR1 but no more", "can't be read"),
        ("a.csv", b"x" * (LONGEST_LINE + 1), "names no column"),
        ("a.txt", b"text,label\n", "unknown ending '.txt'"),
        ("a.csv", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ],
)
def test_a_file_without_readable_columns_is_refused(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refusal, match=said) as refused:
        column_names(tmp_path / name)
    assert str(tmp_path / name) in str(refused.value)


def test_a_fifo_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(Refusal, match="is no file"):
        column_names(tmp_path / "a.csv")
