"""Writes examples with their answers, row by row: lines, CSV, JSON Lines or Parquet. No torch."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from krona_tune.atomic_write import atomic_path
from krona_tune.data.example_files import ExampleRows, Row
from krona_tune.data.file_kinds import FileKind, file_kind, refuse_instead
from krona_tune.data.tasks import Task
from krona_tune.refusal import Refusal, told
from krona_tune.study.formatting import format_answer, plain

PREDICTION, PROBABILITY = "prediction", "probability_"
"""The column of the answer, and the beginning of the name of that of a label's probability."""
ROWS_WRITTEN = 1024
"""The rows that are written to a Parquet file at once."""
Write = Callable[[Row], object]
Say = Callable[[str], object]
"""Takes a text that is to be written, with its line end."""


def answer_columns(task: Task, *, scores: bool) -> dict[str, pa.DataType]:
    """Returns the names and types of the columns that the answers add."""
    kind = pa.float64() if task.is_regression else pa.string()
    likely = {f"{PROBABILITY}{label}": pa.float64() for label in task.labels} if scores else {}
    return {PREDICTION: kind, **likely}


def answer_kind(path: Path | None, examples: ExampleRows) -> FileKind:
    """Returns what answers are written as: what the ending of a file's name means, or as the examples are."""
    if path is not None:
        refuse_instead(path, "--output")
        return file_kind(path)
    if not examples.kind.text_writer:
        raise Refusal("--output", "Parquet is not printed", "name a file such as answers.parquet or answers.csv")
    return examples.kind


def refuse_unwritable(path: Path, examples: ExampleRows, added: Mapping[str, Any]) -> None:
    """Refuses a file that is there, a folder that is not, and columns of the examples with the answers' names."""
    if path.exists() or path.is_symlink():
        raise Refusal("--output", f"{path} is there already", "name a file that is not")
    if not path.parent.is_dir():
        raise Refusal("--output", f"there is no folder {path.parent}", "name a file in a folder that is there")
    refuse_same_columns(examples, added)


def refuse_same_columns(examples: ExampleRows, added: Mapping[str, Any]) -> None:
    """Refuses examples with a column that the answers would have too."""
    names = examples.schema.names if examples.schema is not None else next(iter(examples.rows()), {})
    if taken := [name for name in names if name in added]:
        raise Refusal("--input", f"it has a column {taken[0]!r}, which the answers get", "rename that column")


@contextmanager
def answers_into(
    path: Path | None, examples: ExampleRows, added: Mapping[str, pa.DataType], say: Say
) -> Iterator[Write]:
    """Yields what writes a row with its answer, to a file that is whole or not there at all, or as text to `say`.

    Args:
        added: the names and types of the answers' columns.
    """
    kind = answer_kind(path, examples)
    if path is None:
        with resolve_name(kind.text_writer)(say, examples, added) as write:
            yield write
        return
    try:
        with atomic_path(path) as built, _opened(kind, built, examples, added) as write:
            yield write
    except (OSError, pa.ArrowException, UnicodeError, OverflowError) as error:
        fix = "name a file in a writable folder with enough room"
        raise Refusal("--output", f"{path} can't be written ({told(error)})", fix) from error


@contextmanager
def _opened(kind: FileKind, path: Path, examples: ExampleRows, added: Mapping[str, pa.DataType]) -> Iterator[Write]:
    if kind.file_writer:
        with resolve_name(kind.file_writer)(path, examples, added) as write:
            yield write
        return
    write_text = resolve_name(kind.text_writer)
    with path.open("w", encoding="utf-8", newline="") as file, write_text(file.write, examples, added) as write:
        yield write


@contextmanager
def write_lines(say: Say, examples: ExampleRows, added: Mapping[str, Any]) -> Iterator[Write]:
    """Writes the answers alone: one a line, with tabs before its probabilities."""

    def write(row: Row) -> None:
        first, *others = (row[name] for name in added)
        text = format_answer(first) if isinstance(first, float) else first.replace("\n", "\\n")
        say("\t".join([text, *(f"{likely:.4f}" for likely in others)]) + "\n")

    yield write


@contextmanager
def write_csv(say: Say, examples: ExampleRows, added: Mapping[str, Any]) -> Iterator[Write]:
    """Writes a header, of the first row's columns if they are not known before, and a record of each row."""
    names: list[str] = [*examples.schema.names, *added] if examples.schema is not None else []

    def record(values: Sequence[Any]) -> None:
        text = StringIO()
        csv.writer(text, lineterminator="\n").writerow(values)
        say(text.getvalue())

    def write(row: Row) -> None:
        if not names:
            names.extend(row)
            record(names)
        _refuse_other_columns(row, names)
        record([_in_a_cell(row.get(name), rounded=name in added) for name in names])

    if names:
        record(names)
    yield write


def _refuse_other_columns(row: Row, names: Sequence[str]) -> None:
    if odd := row.keys() - set(names):
        problem = f"a row has {sorted(odd)[0]!r}, which the first row lacks"
        raise Refusal("--output", problem, "write JSON Lines, such as answers.jsonl")


def _in_a_cell(value: Any, *, rounded: bool) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return f"{value:.6g}" if rounded and isinstance(value, float) else value


@contextmanager
def write_json_lines(say: Say, examples: ExampleRows, added: Mapping[str, Any]) -> Iterator[Write]:
    """Writes each row as an object in a line."""
    yield lambda row: say(_as_json(row) + "\n")


def _as_json(row: Row) -> str:
    """Returns a row in one line, in ASCII if a text has half a character, and with null for what is no number."""
    text = json.dumps(plain(row), ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(plain(row))
    return text


@contextmanager
def write_parquet(path: Path, examples: ExampleRows, added: Mapping[str, pa.DataType]) -> Iterator[Write]:
    """Writes batches of rows; where the types of columns are not known before, the first batch decides them."""
    waiting: list[Row] = []
    with _ParquetFile(path, examples.schema, added) as file:

        def write(row: Row) -> None:
            waiting.append(row)
            if len(waiting) == ROWS_WRITTEN:
                file.write(waiting)
                waiting.clear()

        yield write
        file.write(waiting)


class _ParquetFile:
    """A Parquet file that is opened with its first rows."""

    def __init__(self, path: Path, schema: pa.Schema | None, added: Mapping[str, pa.DataType]) -> None:
        self._path, self._added = path, added
        self._schema = None if schema is None else self._with_answers(schema)
        self._writer: pq.ParquetWriter | None = None

    def _with_answers(self, schema: pa.Schema) -> pa.Schema:
        kept = [field for field in schema if field.name not in self._added]
        known = [pa.field(field.name, pa.string()) if pa.types.is_null(field.type) else field for field in kept]
        return pa.schema([*known, *(pa.field(name, kind) for name, kind in self._added.items())])

    def write(self, rows: Sequence[Row]) -> None:
        if self._schema is None:
            self._schema = self._with_answers(pa.Table.from_pylist(list(rows)).schema)
        for row in rows:
            _refuse_other_columns(row, self._schema.names)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, self._schema)
        self._writer.write_table(pa.Table.from_pylist(list(rows), self._schema))

    def __enter__(self) -> "_ParquetFile":
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._writer.close()
