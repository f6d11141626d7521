"""Tests that the table of data files is whole: an ending means one kind, and what is named is there."""

from dataclasses import fields
from pathlib import Path
from pkgutil import resolve_name

import pytest

from krona_tune.data.file_kinds import CSV, FILE_KINDS, JSON, JSON_LINES, LINES, PARQUET, TSV, FileKind, file_kind

NAMED = [field.name for field in fields(FileKind) if field.name not in {"endings", "where_named", "instead"}]
EVERY_KIND = pytest.mark.parametrize("kind", [LINES, *FILE_KINDS], ids=lambda kind: "".join(kind.endings) or "lines")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.csv", CSV),
        ("A.TSV", TSV),
        ("a.json", JSON),
        ("a.jsonl", JSON_LINES),
        ("a.ndjson", JSON_LINES),
        ("a.b.parquet", PARQUET),
        ("a.txt", LINES),
        ("csv", LINES),
    ],
)
def test_an_ending_means_a_kind_and_any_other_means_lines(name: str, kind: FileKind) -> None:
    assert file_kind(Path(name)) is kind


@EVERY_KIND
def test_what_reads_and_writes_a_kind_is_there(kind: FileKind) -> None:
    named = [place for name in NAMED if (place := getattr(kind, name))]
    assert all(callable(resolve_name(place)) for place in named)


@EVERY_KIND
def test_answers_are_written_in_one_way_and_a_table_is_read_whole(kind: FileKind) -> None:
    assert bool(kind.text_writer) != bool(kind.file_writer)
    assert not kind.schema or kind.rows
    assert not kind.rows or (kind.columns and kind.builder)


def test_no_two_kinds_share_an_ending() -> None:
    endings = [ending for kind in FILE_KINDS for ending in kind.endings]
    assert len(set(endings)) == len(endings)
