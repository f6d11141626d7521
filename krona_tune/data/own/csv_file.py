"""Says how a CSV or TSV file is read, and refuses one that would be misread."""

import codecs
import csv
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from krona_tune.refusal import Refusal, refusing, shown

Quoting = Literal[0, 3]
"""csv.QUOTE_MINIMAL or csv.QUOTE_NONE."""
SEPARATORS = (",", ";", "\t", "|")
CHUNK, LINE_END = 1 << 20, b"\n"


def csv_options(path: Path, columns: Sequence[str]) -> dict[str, Any]:
    """Returns how `datasets` reads this file: every column as text, so that 007 and NA stay what they are."""
    refuse_other_encoding(path)
    quoting: Quoting = csv.QUOTE_NONE if path.suffix.lower() == ".tsv" else csv.QUOTE_MINIMAL
    separator, header = _header(path, columns, quoting)
    refuse_lacking(header, columns, str(path))
    _refuse_wide_rows(path, separator, quoting, len(header))
    import datasets

    return {
        "sep": separator,
        "quoting": quoting,
        "encoding": "utf-8-sig",
        "keep_default_na": False,
        "usecols": list(dict.fromkeys(columns)),
        "features": datasets.Features({name: datasets.Value("string") for name in header if name in columns}),
    }


def _refuse_wide_rows(path: Path, separator: str, quoting: Quoting, width: int) -> None:
    """Refuses a row with more fields than the header, which is what a separator in a text without quotes makes."""
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=separator, quoting=quoting)
        with refusing(str(path), "can't be read"):
            for row in rows:
                if len(row) > width and any(row[width:]):
                    fix = "put a text that holds the separator in quotes"
                    raise Refusal(f"{path}:{rows.line_num}", f"{len(row)} fields, the header has {width}", fix)


def _header(path: Path, columns: Sequence[str], quoting: Quoting) -> tuple[str, list[str]]:
    """Returns the separator with which the first line has most of the columns, and the names in that line."""
    offered = ("\t",) if path.suffix.lower() == ".tsv" else SEPARATORS
    headers: dict[str, list[str]] = {}
    for separator in offered:
        with path.open(encoding="utf-8-sig", newline="") as file, suppress(csv.Error):
            headers[separator] = next(csv.reader(file, delimiter=separator, quoting=quoting), [])
    if not any(headers.values()):
        raise Refusal(str(path), "its first line holds no names of columns", "write them there")
    best = max(headers, key=lambda separator: len(set(headers[separator]) & set(columns)))
    return best, headers[best]


def refuse_other_encoding(path: Path) -> None:
    """Refuses a file that is not UTF-8, with the line and the byte."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    before = line = 0
    with refusing(str(path), "can't be read"), path.open("rb") as file:
        chunk = b"begin"
        while chunk:
            chunk = file.read(CHUNK)
            waiting = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                at = error.start - waiting
                place, byte = f"{path}:{line + chunk[: max(0, at)].count(LINE_END) + 1}", before + at + 1
                raise Refusal(place, f"not UTF-8 text (byte {byte} of the file)", "save the file as UTF-8") from None
            before, line = before + len(chunk), line + chunk.count(LINE_END)


def refuse_lacking(found: Sequence[str], columns: Sequence[str], place: str) -> None:
    """Refuses columns of which one that is asked is missing or appears twice."""
    for name in columns:
        if name not in found:
            names = shown(", ".join(found))[1:-1]
            raise Refusal(place, f"no column {name!r}; found {names}", "name one of them")
        if found.count(name) > 1:
            raise Refusal(place, f"the column {name!r} appears {found.count(name)} times", "leave one of them")
