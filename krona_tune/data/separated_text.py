"""Reads separated text in UTF-8: its lines with their numbers, and the header and rows of a CSV or TSV file. No torch.

GLUE's files, one's own and the examples to predict are all read here; each reader adds only what it takes for a row.
"""

import csv
import re
import sys
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import BinaryIO, Literal

from krona_tune.data.tasks import Task
from krona_tune.refusal import Refusal, refusing, shown
from krona_tune.study.formatting import format_many

Quoting = Literal[0, 3]
"""csv.QUOTE_MINIMAL or csv.QUOTE_NONE."""
SEPARATORS = (",", ";", "\t", "|")
SEPARATOR_LINE = "sep="
"""Begins the line that a spreadsheet may write above the header."""
UNCLOSED = "unexpected end of data"
"""Marks a quote that is never closed, in what Python's strict reader says of it."""
LACKING = "no column"
"""Begins what is said of a column that is missing."""
CHUNK = 1 << 20
BYTE_ORDER_MARK = "\ufeff"
LONGEST_LINE = 1 << 20
"""The most bytes of a line that is an example, because an input without an end is none."""


def lines_of(file: BinaryIO, place: str, longest: int | None = None) -> Iterator[tuple[int, str]]:
    """Yields the number, from 1, and the text of each line, without its end and without the mark at a file's beginning.

    Only a newline ends a line: U+2028 and a lone carriage return are text.

    Args:
        file: is read line by line, so that it may be a pipe.
        place: names the file in messages.
        longest: the most bytes of a line.

    Raises:
        Refusal: a line can't be read, is too long, or is not UTF-8.
    """
    number = before = 0
    while raw := _raw_line(file, place, longest):
        number += 1
        if longest and len(raw) > longest:
            raise Refusal(f"{place}:{number}", f"the line is longer than {longest:,} bytes", "split it")
        yield number, _decoded(raw, before, f"{place}:{number}")
        before += len(raw)


def _raw_line(file: BinaryIO, place: str, longest: int | None) -> bytes:
    with refusing(place, "can't be read", "name a text file"):
        return file.readline(longest + 1 if longest else -1)


def _decoded(raw: bytes, before: int, place: str) -> str:
    """Returns the text of a line that begins after so many bytes of its file."""
    try:
        line = raw.decode()
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 text (byte {before + error.start + 1} of the file)"
        if not before and raw.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
            problem = "UTF-16 text, as some programs write Unicode"
        raise Refusal(place, problem, "save the file as UTF-8") from None
    text = line if before else line.removeprefix(BYTE_ORDER_MARK)
    return text.removesuffix("\n").removesuffix("\r")


def refuse_other_encoding(path: Path) -> None:
    """Refuses a file that is not UTF-8, with the line and the byte."""
    with refusing(str(path), "can't be read"):
        try:
            with path.open(encoding="utf-8", newline="") as text:
                while text.read(CHUNK):
                    pass
        except UnicodeDecodeError:
            with path.open("rb") as file:
                for _ in lines_of(file, str(path)):
                    pass


def refuse_lacking(found: Sequence[str], columns: Sequence[str], place: str, fix: str = "name one of them") -> None:
    """Refuses columns of which one that is asked is missing or appears twice."""
    for name in columns:
        if name not in found:
            names = ", ".join(each if each == each.strip() else repr(each) for each in found)
            raise Refusal(place, f"{LACKING} {name!r}; found {shown(names)[1:-1]}", fix)
        if found.count(name) > 1:
            raise Refusal(place, f"the column {name!r} appears {found.count(name)} times", "leave one of them")


@dataclass(frozen=True, kw_only=True)
class Separation:
    """Says how a file with a header is separated: `quoting` as in `csv`, `names` in its first line."""

    separator: str
    quoting: Quoting
    names: list[str]


def find_separation(path: Path, columns: Sequence[str], fix: str = "name one of them") -> Separation:
    """Returns how a file is separated: by a tab without quotes if its ending is .tsv, else by what gives it the most of
    the columns.

    Raises:
        Refusal: it is not UTF-8, has no header, lacks a column, or has a row with more fields than the header.
    """
    refuse_other_encoding(path)
    found = _separation(path, columns)
    if len(found.names) < 3 and found.names[0].lower().startswith(SEPARATOR_LINE):
        raise Refusal(f"{path}:1", f"the line {shown(found.names[0])} names no column", "take that line out")
    refuse_lacking(found.names, columns, str(path), fix)
    _refuse_odd_rows(path, found)
    return found


def _separation(path: Path, columns: Sequence[str]) -> Separation:
    """Returns the separator with which the first line has most of the columns, and the names in that line."""
    is_tsv = path.suffix.lower() == ".tsv"
    quoting: Quoting = csv.QUOTE_NONE if is_tsv else csv.QUOTE_MINIMAL
    headers: dict[str, list[str]] = {}
    for separator in ("\t",) if is_tsv else SEPARATORS:
        with suppress(csv.Error):
            _, headers[separator] = next(records(path, separator, quoting), (0, []))
    if not any(headers.values()):
        raise Refusal(str(path), "its first line holds no names of columns", "write them there")
    best = max(headers, key=lambda separator: len(set(headers[separator]) & set(columns)))
    return Separation(separator=best, quoting=quoting, names=headers[best])


def _refuse_odd_rows(path: Path, found: Separation) -> None:
    """Refuses a row with more fields than the header, which is what a separator in a text without quotes makes; and a
    quote without an end, or that ends in the middle of a later row. Where quotes are not read, it refuses a row with
    fewer fields that ends in a quoted text with a line break, and a file in which each text with a quote is quoted, and
    some with quotes inside, as programs write CSV.

    Further fields that are empty are what separators at the end make, but then of every row. After an empty line that a
    carriage return alone ends, pandas passes over a separator."""
    width, rows, last = len(found.names), 0, list[str]()
    longer: tuple[int, list[str]] | None = None
    others = lone = False
    quoted, plain = 0, False
    with refusing(str(path), "can't be read"):
        for rows, (line, row) in enumerate(records(path, found.separator, found.quoting, last)):
            if len(row) > width and any(row[width:]):
                raise _longer(path, line, row, width)
            longer = longer or ((line, row) if len(row) > width else None)
            others |= rows > 0 and 0 < len(row) <= width
            if found.quoting != csv.QUOTE_NONE and (len(last) > 1 or '\\"' in last[0]):
                _refuse_loose_quotes(path, line, last, found)
            if lone and last[0].startswith(found.separator):
                problem = "the empty line before it ends in a carriage return alone"
                raise Refusal(f"{path}:{line}", problem, "end all lines alike, or take that line out")
            lone = last == ["\r"]
            if found.quoting == csv.QUOTE_NONE:
                if 0 < len(row) < width and row[-1][:1] == '"':
                    raise _unread_quotes(path, line)
                with_quotes = [field for field in row if '"' in field]
                quoted = quoted or line * any('""' in field[1:-1] and _is_quoted(field) for field in with_quotes)
                plain |= not all(map(_is_quoted, with_quotes))
    if quoted and not plain:
        raise _unread_quotes(path, quoted)
    if longer and others:
        raise _longer(path, *longer, width)
    if found.quoting != csv.QUOTE_NONE and _goes_on(last, found.separator):
        problem = f"a quote that opens in row {rows} is never closed"
        raise Refusal(str(path), problem, "close it, or write a quote within a text twice")


def _goes_on(lines: Sequence[str], separator: str) -> bool:
    """Returns whether the last record of a file would go on in a further line."""
    further = [*lines[:-1], *(line.rstrip("\r\n") + "\n" for line in lines[-1:]), "next\n"]
    return len(list(csv.reader(further, delimiter=separator))) < min(len(lines), 1) + 1


def _refuse_loose_quotes(path: Path, end: int, lines: Sequence[str], found: Separation) -> None:
    """Refuses a record whose quotes close where no field ends: of several lines, for two texts that begin with a quote
    make one of all rows between them, or with backslashes before quotes. Blanks after a quote are no harm.

    Args:
        end: the number of the last of its lines.
    """
    closed = re.sub(rf'" +(?={re.escape(found.separator)}|\r?\n|$)', '"', "".join(lines))
    try:
        list(csv.reader(StringIO(closed, newline=""), delimiter=found.separator, strict=True))
    except csv.Error as error:
        if UNCLOSED not in str(error):  # the last record's own, which is refused with the number of its row
            problem = f"a quote that opens here closes in the middle of line {end}"
            fix = "close it, or write a quote within a text twice"
            if '\\"' in closed:
                problem, fix = "has quotes with a backslash before them", "write a quote within a text twice instead"
            raise Refusal(f"{path}:{end - len(lines) + 1}", problem, fix) from None


def _unread_quotes(path: Path, line: int) -> Refusal:
    fix = "save it as CSV, or without quotes and line breaks in texts"
    return Refusal(f"{path}:{line}", "this TSV has quotes, which are not read", fix)


def _is_quoted(field: str) -> bool:
    """Returns whether a field may be a text in quotes, in which each other quote is written twice, as CSV has it."""
    return len(field) > 1 and field[0] == field[-1] == '"' and '"' not in field[1:-1].replace('""', "")


def _longer(path: Path, line: int, row: Sequence[str], width: int) -> Refusal:
    fix = "put a text that holds the separator in quotes"
    return Refusal(f"{path}:{line}", f"{len(row)} fields, the header has {width}", fix)


def records(
    path: Path, separator: str, quoting: Quoting, lines: list[str] | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Yields the number of the last line and the fields of each record; one in quotes may have several lines.

    Args:
        lines: holds the lines of the record that was yielded last.
    """
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as file:
        taken = list[str]()

        def kept() -> Iterator[str]:
            for line in file:
                taken.append(line)
                yield line

        records = csv.reader(file if lines is None else kept(), delimiter=separator, quoting=quoting)
        for fields in records:
            if lines is not None:
                lines[:] = taken
                taken.clear()
            yield records.line_num, fields


def example_lines(file: BinaryIO, place: str, task: Task) -> Iterator[tuple[str, ...]]:
    """Yields the texts of each line, which a tab separates; a file without any line has one that is empty.

    Raises:
        Refusal: a line is no text, or has too many texts or too few.
    """
    number = 0
    for number, line in lines_of(file, place, LONGEST_LINE):
        yield _example(line, task, f"{place}:{number}")
    if not number:
        yield _example("", task, f"{place}:1")


def _example(line: str, task: Task, place: str) -> tuple[str, ...]:
    texts = tuple(line.split("\t"))
    refuse_misshapen(texts, task, place)
    return texts


def refuse_misshapen(texts: Sequence[str], task: Task, place: str, how: str = "separated by a tab") -> None:
    """Refuses an example that has another number of texts than the task, or a text that is empty or not in UTF-8; `how`
    two texts are to be given."""
    for text in texts:
        with refusing(place, "it is no text in UTF-8", "write its characters whole"):
            text.encode()
    wanted = f"{task.title} takes {' and '.join(task.inputs)}"
    if not any(text.strip() for text in texts):
        raise Refusal(place, "it is empty", wanted)
    if len(texts) != len(task.inputs):
        problem = f"{format_many(len(texts), 'text')} instead of {len(task.inputs)}"
        raise Refusal(place, problem, wanted + f", {how}" * (len(task.inputs) > 1))
    if empty := [name for name, text in zip(task.inputs, texts, strict=True) if not text.strip()]:
        raise Refusal(place, f"{empty[0]} is empty", wanted)
