"""Reads the columns' names and the examples of a file: lines, CSV, JSON Lines or Parquet. No torch.

Examples are read one by one, with all that stands beside them; the names from a file's beginning.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from krona_tune.data.file_kinds import FILE_KINDS, LINES, FileKind, endings_of, file_kind, refuse_instead
from krona_tune.data.own_files import object_of_json
from krona_tune.data.separated_text import (
    BYTE_ORDER_MARK,
    LONGEST_LINE,
    SEPARATORS,
    example_lines,
    find_separation,
    lines_of,
    records,
    refuse_lacking,
    refuse_misshapen,
)
from krona_tune.data.tasks import Task
from krona_tune.hub import refuse_unreadable
from krona_tune.refusal import Refusal, refusing, shown, unknown

Row = dict[str, Any]
"""The values of an example by their columns, its texts among them."""
ROWS_READ = 1024
"""The rows of a Parquet file that are read at once."""
MOST_COLUMNS = 500
"""The most columns that are named."""
MOST_OBJECTS = 100
"""How many objects of JSON Lines are looked at: not every one has all keys."""


class ExampleRows(Protocol):
    """The examples of a file or a pipe. `rows` begins anew at each call, unless it is a pipe.

    `columns` hold the texts of the task's inputs, in their order, and `schema` the types of all columns, if they are
    known before the rows are read.
    """

    @property
    def kind(self) -> FileKind: ...

    @property
    def columns(self) -> Sequence[str]: ...

    @property
    def schema(self) -> pa.Schema | None: ...

    @property
    def repeatable(self) -> bool: ...

    def rows(self) -> Iterator[Row]: ...


@dataclass(frozen=True, kw_only=True)
class LinesOfExamples:
    """Examples of which each is a line, whose texts a tab separates."""

    file: BinaryIO
    place: str
    task: Task
    kind: FileKind = LINES
    begin: int = field(init=False)
    """Where the file stands, if it can be read again from there."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "begin", self.file.tell() if self.repeatable else 0)

    @property
    def columns(self) -> Sequence[str]:
        return self.task.inputs

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([(name, pa.string()) for name in self.columns])

    @property
    def repeatable(self) -> bool:
        return self.file.seekable()

    def rows(self) -> Iterator[Row]:
        if self.repeatable:
            self.file.seek(self.begin)
        for texts in example_lines(self.file, self.place, self.task):
            yield dict(zip(self.columns, texts, strict=True))


@dataclass(frozen=True, kw_only=True)
class TableOfExamples:
    """Examples in a table, whose texts are in `columns`."""

    path: Path
    kind: FileKind
    columns: Sequence[str]
    task: Task
    schema: pa.Schema | None
    repeatable: bool = True

    def rows(self) -> Iterator[Row]:
        """Yields each row. Raises a Refusal that names one whose texts are none."""
        for place, row in resolve_name(self.kind.rows)(self.path, self.columns):
            if empty := next((name for name in self.columns if not str(row[name]).strip()), ""):
                raise Refusal(place, f"{empty} is empty", "write a text there, or take the row out")
            texts_of(row, self.columns, self.task, place)
            yield row


def texts_of(row: Mapping[str, Any], columns: Sequence[str], task: Task, place: str) -> list[str]:
    """Returns the texts of an example, which are in these columns. Raises a Refusal that names one that is none."""
    texts = [row[name] for name in columns if name in row]
    for name, text in zip(columns, texts, strict=False):
        if not isinstance(text, str):
            raise Refusal(place, f"{name} is {shown(text)}, not a text", "write it in quotes, or take it out")
    refuse_misshapen(texts, task, place)
    return texts


def table_examples(path: Path, task: Task, columns: Sequence[str] = ()) -> TableOfExamples | None:
    """Returns the examples of a table, or None for a file of lines.

    Args:
        path: its ending says what it is; a file .tsv is a table if columns are named.
        columns: those that hold the task's inputs, in their order; without them, those of the inputs' names.

    Raises:
        Refusal: it can't be read, is empty, is JSON that is no JSON Lines, lacks a column, or is no table although
            columns are named.
    """
    refuse_instead(path, "--input")
    kind = file_kind(path)
    if path.is_file() and not path.stat().st_size:
        raise Refusal(str(path), "the file is empty", "give it rows, or name another")
    if columns and kind.where_named:
        kind = kind.where_named
    if columns and len(columns) != len(task.inputs):
        inputs = " and ".join(task.inputs)
        raise Refusal("--columns", f"{len(columns)} named, {task.title} takes {inputs}", "name one for each, in order")
    if columns and (twice := [name for name, count in Counter(columns).items() if count > 1]):
        raise Refusal("--columns", f"{shown(twice[0])} is named twice", "name one for each text")
    if not kind.rows:
        refuse_header(path, kind, task)
        if columns:
            problem = f"{path.name} holds lines, which have no columns"
            tables = endings_of(kind for kind in FILE_KINDS if kind.rows or kind.where_named)
            raise Refusal("--columns", problem, f"give one of {', '.join(tables)}, or leave it out")
        return None
    asked = tuple(columns or task.inputs)
    with refusing("--input", f"{path} can't be read", "name a file that can be read"):
        refuse_unreadable(path)
        path.open("rb").close()
    schema = resolve_name(kind.schema)(path, asked) if kind.schema else None
    return TableOfExamples(path=path, kind=kind, columns=asked, task=task, schema=schema)


def refuse_header(path: Path, kind: FileKind, task: Task) -> None:
    """Refuses a file of lines whose ending may mean a table and whose first line names the task's inputs."""
    if kind.where_named and path.is_file():
        with path.open("rb") as file:
            first = next(lines_of(file, str(path)), (1, ""))[1].split("\t")
        if {*task.inputs} <= {*first}:
            fix = f"add --columns {','.join(task.inputs)}, or take that line out"
            raise Refusal(f"{path}:1", "the line holds the names of columns, and would be answered", fix)


def column_names(path: Path) -> list[str]:
    """Returns the names of a file's columns, or the keys of its first objects, in their order.

    Raises:
        Refusal: it is no such file, can't be read, or names no column.
    """
    refuse_unreadable(path)
    kind = file_kind(path)
    if not kind.columns:
        raise unknown(str(path), "ending", path.suffix, endings_of(kind for kind in FILE_KINDS if kind.columns))
    with refusing(str(path), "its columns can't be read", "save it as UTF-8 text, or as Parquet"):
        names = list(dict.fromkeys(name for name in resolve_name(kind.columns)(path) if name))
    if not names:
        raise Refusal(str(path), "its beginning names no column", "write their names there")
    return names[:MOST_COLUMNS]


BLANKS = " \t\r\n"
"""What a line may hold that is passed over."""
NAME_COLUMNS = "name the columns of the texts with --columns"


def columns_of_csv(path: Path) -> list[str]:
    """Returns the names that the separator gives which finds the most of them."""
    text = _beginning(path)
    return max((_first_record(text, each, csv.QUOTE_MINIMAL) for each in SEPARATORS), key=len)


def columns_of_tsv(path: Path) -> list[str]:
    return _first_record(_beginning(path), "\t", csv.QUOTE_NONE)


def _first_record(text: str, separator: str, quoting: int) -> list[str]:
    return next(csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting), [])  # type: ignore[arg-type]


def columns_of_json_lines(path: Path) -> list[str]:
    lines = [line for line in _beginning(path).split("\n") if line.strip()]
    return [str(name) for line in lines[:MOST_OBJECTS] for name in dict(json.loads(line))]


def columns_of_parquet(path: Path) -> list[str]:
    return [str(name) for name in pq.read_schema(path).names]


def _beginning(path: Path) -> str:
    """Returns the whole lines at a file's beginning."""
    with path.open("rb") as file:
        raw = file.read(LONGEST_LINE)
    whole = raw if len(raw) < LONGEST_LINE else raw[: raw.rfind(b"\n") + 1]
    return whole.decode().removeprefix(BYTE_ORDER_MARK)


def _named(names: Sequence[str]) -> list[str]:
    """Returns the names of columns without those that a spreadsheet ends each line with, which have none."""
    named = [number for number, name in enumerate(names, 1) if name]
    return list(names[: max(named, default=0)])


def schema_of_csv(path: Path, columns: Sequence[str]) -> pa.Schema:
    names = _named(find_separation(path, columns, NAME_COLUMNS).names)
    refuse_lacking(names, names, str(path))
    return pa.schema([(name, pa.string()) for name in names])


def schema_of_parquet(path: Path, columns: Sequence[str]) -> pa.Schema:
    with refusing(str(path), "can't be read as Parquet", "name a file that is Parquet"):
        schema = pq.read_schema(path)
    refuse_lacking(schema.names, columns, str(path), NAME_COLUMNS)
    refuse_lacking(schema.names, schema.names, str(path))
    return schema.remove_metadata()


def rows_of_csv(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, Row]]:
    found = find_separation(path, columns, NAME_COLUMNS)
    names = _named(found.names)
    with refusing(str(path), "can't be read as CSV", "put texts that hold the separator or line ends in quotes"):
        last: list[str] = []
        for number, (line, fields) in enumerate(records(path, found.separator, found.quoting, last)):
            blank = len(fields) == 1 < len(names) and not "".join(last).strip(BLANKS)  # training skips it, too
            if number and fields and not blank:
                if unnamed := next(filter(str.strip, fields[len(names) : len(found.names)]), ""):
                    problem = f"{shown(unnamed)} is in a column without a name"
                    raise Refusal(f"{path}:{line}", problem, "name it in the first line")
                padded = [*fields, *[""] * (len(names) - len(fields))]
                yield f"{path}:{line}", dict(zip(names, padded, strict=False))


def rows_of_json_lines(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, Row]]:
    with path.open("rb") as file:
        for number, line in lines_of(file, str(path)):
            if not line.strip():
                continue
            place = f"{path}:{number}"
            try:
                row = json.loads(line, object_pairs_hook=object_of_json)
            except (ValueError, RecursionError) as error:
                raise Refusal(place, f"is no JSON ({error})", "write one object a line") from None
            if not isinstance(row, Mapping):
                raise Refusal(place, f"{shown(row)} is no object", "write one object a line")
            refuse_lacking(list(row), columns, place, NAME_COLUMNS)
            yield place, dict(row)


def rows_of_parquet(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, Row]]:
    with refusing(str(path), "can't be read as Parquet", "write it again"), pq.ParquetFile(path) as file:
        number = 0
        for batch in file.iter_batches(batch_size=ROWS_READ):
            for row in batch.to_pylist():
                number += 1
                yield f"{path}: row {number}", row
