"""Writes examples with their answers, row by row: lines, CSV, JSON Lines or Parquet. No torch."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from itertools import chain, islice
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from krona_tune.atomic_write import atomic_path
from krona_tune.data.example_files import ExampleRows, Row
from krona_tune.data.file_kinds import LINES, FileKind, file_kind, refuse_instead
from krona_tune.data.tasks import Task
from krona_tune.refusal import Refusal, refusing, told
from krona_tune.study.formatting import format_answer, plain

PREDICTION, PROBABILITY = "prediction", "probability_"
"""The column of the answer, and the beginning of the name of that of a label's probability."""
ROWS_WRITTEN = 1024
"""The rows that are written to a Parquet file at once."""
OF_LINES = ("", ".txt")
"""The endings of files of lines into which answers about a table are written."""
LINE_END = re.compile(r"\r\n|\r|\n")
LINES_INSTEAD = "write JSON Lines, such as answers.jsonl"
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
        kind, table = file_kind(path), examples.kind.text_writer != LINES.text_writer
        if table and kind.text_writer == LINES.text_writer and path.suffix.lower() not in OF_LINES:
            problem = f"{path.name} would get the answers alone, one a line, and none of the columns of --input"
            raise Refusal("--output", problem, "end its name in .csv, .jsonl or .parquet, or in .txt for lines")
        return kind
    if not examples.kind.text_writer:
        raise Refusal("--output", "Parquet is not printed", "name a file such as answers.parquet or answers.csv")
    return examples.kind


def refuse_unwritable(path: Path) -> None:
    """Refuses a file that is there, and a folder that is not."""
    if path.exists() or path.is_symlink():
        raise Refusal("--output", f"{path} is there already", "name a file that is not")
    if not path.parent.is_dir():
        raise Refusal("--output", f"there is no folder {path.parent}", "name a file in a folder that is there")


def refuse_same_columns(names: Iterable[str], added: Mapping[str, Any]) -> None:
    """Refuses columns of examples that the answers would have too."""
    if taken := next((name for name in names if name in added), None):
        raise Refusal("--input", f"it has a column {taken!r}, which the answers get", "rename that column")


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
        fix = "name a file in a writable folder with enough room" if isinstance(error, OSError) else LINES_INSTEAD
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
        text = format_answer(first) if isinstance(first, float) else LINE_END.sub(r"\\n", first)
        say("\t".join([text, *(f"{likely:.4f}" for likely in others)]) + "\n")

    yield write


@contextmanager
def write_csv(say: Say, examples: ExampleRows, added: Mapping[str, Any]) -> Iterator[Write]:
    """Writes a header, of the first row's columns if they are not known before, and a record of each row."""
    names: list[str] = [*examples.schema.names, *added] if examples.schema is not None else []

    def record(values: Sequence[Any]) -> None:
        text = StringIO()
        csv.writer(text, lineterminator="\r\n").writerow(values)  # with another one, a lone \r would get no quotes
        say(text.getvalue().removesuffix("\r\n") + "\n")

    def write(row: Row) -> None:
        if not names:
            names.extend(row)
            record(names)
        refuse_other_columns(row, names)
        record([_in_a_cell(row.get(name), rounded=name in added and name != PREDICTION) for name in names])

    if names:
        record(names)
    yield write


def refuse_other_columns(row: Row, names: Iterable[str]) -> None:
    """Refuses a row with a column that the header, of the first row's columns, lacks."""
    if odd := row.keys() - set(names):
        problem = f"a row has {sorted(odd)[0]!r}, which the first row lacks"
        raise Refusal("--output", problem, LINES_INSTEAD)


def _in_a_cell(value: Any, *, rounded: bool) -> Any:
    """Returns what a cell holds of a value; a likelihood has six digits, every other number its own."""
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
    """Writes batches of rows; where the types of columns are not known before, it reads all examples to find them."""
    schema = _with_answers(types_of(examples.rows()) if examples.schema is None else examples.schema, added)
    waiting: list[Row] = []
    with pq.ParquetWriter(path, schema) as file:

        def flush() -> None:
            file.write_table(pa.Table.from_pylist(waiting, schema))
            waiting.clear()

        def write(row: Row) -> None:
            refuse_other_columns(row, schema.names)
            waiting.append(row)
            if len(waiting) == ROWS_WRITTEN:
                flush()

        yield write
        flush()


def types_of(rows: Iterator[Row]) -> pa.Schema:
    """Returns the types that hold every row's values. Raises a Refusal if no type holds all values of a column."""
    found: dict[str, pa.DataType] = {}
    while some := list(islice(rows, ROWS_WRITTEN)):
        for name in dict.fromkeys(chain.from_iterable(some)):
            with refusing("--output", f"a file of Parquet can't hold the column {name!r}", LINES_INSTEAD):
                there = pa.array([row.get(name) for row in some]).type
                found[name] = _wider(found.get(name, there), there)
    return pa.schema(list(found.items()))


def _wider(kind: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Returns the type that holds the values of both, such as that of 2.5 for 2 and 2.5."""
    if kind == other:
        return kind
    both = [pa.schema([("", each)]) for each in (kind, other)]
    return pa.unify_schemas(both, promote_options="permissive").types[0]


def _with_answers(schema: pa.Schema, added: Mapping[str, pa.DataType]) -> pa.Schema:
    kept = [field for field in schema if field.name not in added]
    known = [pa.field(field.name, pa.string()) if pa.types.is_null(field.type) else field for field in kept]
    return pa.schema([*known, *added.items()])
