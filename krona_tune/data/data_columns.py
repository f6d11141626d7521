"""Reads the names of a data file's columns from its beginning, without the rest of the file. No torch."""

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq

from krona_tune.data.separated_text import BYTE_ORDER_MARK, LONGEST_LINE, SEPARATORS
from krona_tune.hub import refuse_unreadable
from krona_tune.refusal import Refusal, refusing, unknown

MOST_COLUMNS = 500
"""The most columns that are named."""
MOST_OBJECTS = 100
"""How many objects of JSON Lines are looked at: not every one has all keys."""


def column_names(path: Path) -> list[str]:
    """Returns the names of a file's columns, or the keys of its first objects, in their order.

    Raises:
        Refusal: it is no such file, can't be read, or names no column.
    """
    refuse_unreadable(path)
    read = KINDS_WITH_COLUMNS.get(path.suffix.lower())
    if read is None:
        raise unknown(str(path), "ending", path.suffix, KINDS_WITH_COLUMNS)
    with refusing(str(path), "its columns can't be read", "save it as UTF-8 text, or as Parquet"):
        names = list(dict.fromkeys(name for name in read(path) if name))
    if not names:
        raise Refusal(str(path), "its beginning names no column", "write their names there")
    return names[:MOST_COLUMNS]


def _of_csv(path: Path) -> list[str]:
    """Returns the names that the separator gives which finds the most of them."""
    text = _beginning(path)
    return max((_first_record(text, each, csv.QUOTE_MINIMAL) for each in SEPARATORS), key=len)


def _of_tsv(path: Path) -> list[str]:
    return _first_record(_beginning(path), "\t", csv.QUOTE_NONE)


def _first_record(text: str, separator: str, quoting: int) -> list[str]:
    return next(csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting), [])  # type: ignore[arg-type]


def _of_json_lines(path: Path) -> list[str]:
    lines = [line for line in _beginning(path).split("\n") if line.strip()]
    return [str(name) for line in lines[:MOST_OBJECTS] for name in dict(json.loads(line))]


def _of_parquet(path: Path) -> list[str]:
    return [str(name) for name in pq.read_schema(path).names]


def _beginning(path: Path) -> str:
    """Returns the whole lines at a file's beginning."""
    with path.open("rb") as file:
        raw = file.read(LONGEST_LINE)
    whole = raw if len(raw) < LONGEST_LINE else raw[: raw.rfind(b"\n") + 1]
    return whole.decode().removeprefix(BYTE_ORDER_MARK)


KINDS_WITH_COLUMNS = {
    ".csv": _of_csv,
    ".tsv": _of_tsv,
    ".jsonl": _of_json_lines,
    ".ndjson": _of_json_lines,
    ".parquet": _of_parquet,
}
"""What reads the names of the columns, by the ending of a file's name; these are files that name them at once."""
