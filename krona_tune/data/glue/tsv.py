"""Reads one official GLUE TSV file: columns by header name, quoting off, odd rows counted."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from textwrap import shorten

import pyarrow as pa

from krona_tune.data.glue.files import FILES
from krona_tune.data.tasks import Task
from krona_tune.refusal import Refusal, shown, unknown

Row = tuple[int, list[str]]
MALFORMED_SHARE = 0.1  # QQP's train file has a handful in 364,000; a file with a tenth is wrong or damaged


@dataclass(frozen=True, kw_only=True)
class TsvFile:
    """The content of a file: columns `*task.inputs` (string) and `label` (int64, float64 for a regression)."""

    table: pa.Table
    malformed: int
    unlabelled: int


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """The positions of a file's columns, for rows of exactly `width` columns."""

    width: int
    inputs: tuple[int, ...]
    label: int


def read(task: Task, path: Path) -> TsvFile:
    """Returns the labelled rows of `path`, in the file's order.

    Rows with another number of columns than the first one are left out and counted, as are unlabelled ones. Raises a
    Refusal, with file and line, for a missing column, an unknown label, text that is not UTF-8, an empty file, or one
    in which a tenth of the rows are malformed.
    """
    first, rows = _open(path)
    columns = _columns(task, path, first)
    label_of = _label_reader(task)
    kept: list[list[str]] = []
    labels: list[float] = []
    malformed: list[int] = []
    unlabelled = 0
    for number, fields in rows if FILES[task.name].tsv.header else chain([first], rows):
        if len(fields) != columns.width:
            malformed.append(number)
        elif fields[columns.label] == FILES[task.name].tsv.unlabelled:
            unlabelled += 1
        else:
            labels.append(label_of(fields[columns.label], f"{path}:{number}"))
            kept.append(fields)
    _refuse_if_broken(path, columns.width, len(kept), malformed)
    texts = {
        name: pa.array([fields[at] for fields in kept], pa.string())
        for name, at in zip(task.inputs, columns.inputs, strict=True)
    }
    label = pa.array(labels, pa.float64() if task.is_regression else pa.int64())
    return TsvFile(table=pa.table({**texts, "label": label}), malformed=len(malformed), unlabelled=unlabelled)


def check(task: Task, path: Path) -> None:
    """Refuses an empty file and a missing column; reads only the first line."""
    first, _ = _open(path)
    _columns(task, path, first)


def _open(path: Path) -> tuple[Row, Iterator[Row]]:
    rows = _rows(path)
    first = next(rows, None)
    if first is None:
        raise Refusal(str(path), "the file is empty", "fetch it again")
    return first, rows


def _rows(path: Path) -> Iterator[Row]:
    """Yields line number and columns. Only a newline ends a line: U+2028 and a lone carriage return are text."""
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                line = _decode(raw, f"{path}:{number}", "utf-8-sig" if number == 1 else "utf-8")
                if line:
                    yield number, line.split("\t")
    except OSError as error:
        raise Refusal(str(path), f"can't be read ({error.strerror or error})") from error


def _decode(raw: bytes, place: str, encoding: str) -> str:
    try:
        return raw.decode(encoding).removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise Refusal(place, f"not UTF-8 text (byte {error.start + 1})", "save the file as UTF-8") from error


def _columns(task: Task, path: Path, first: Row) -> _Columns:
    number, fields = first
    header = {name.strip(): at for at, name in reversed(list(enumerate(fields)))}

    def position(name: str) -> int:
        column = FILES[task.name].tsv.columns[name]
        at = header.get(column) if isinstance(column, str) else column
        if at is not None and at < len(fields):
            return at
        wanted = repr(column) if isinstance(column, str) else str(column + 1)
        found = shorten(", ".join(map(repr, fields)), 200) if isinstance(column, str) else f"{len(fields)} columns"
        raise Refusal(
            f"{path}:{number}", f"no column {wanted} for {task.title}'s {name}; found {found}", "use the official file"
        )

    return _Columns(width=len(fields), inputs=tuple(map(position, task.inputs)), label=position("label"))


def _label_reader(task: Task) -> Callable[[str, str], float]:
    """Returns a function from text and place to a label: one of the task's words, or a number within the grid."""
    words = FILES[task.name].tsv.label_words or {str(index): index for index in range(len(task.labels))}

    def index(text: str, place: str) -> float:
        if text in words:
            return words[text]
        if text.strip() in words:
            raise Refusal(place, f"the {task.title} label {shown(text)} has blanks around it", "take them out")
        raise unknown(place, f"{task.title} label", text, words)

    def score(text: str, place: str) -> float:
        low, high = task.grid[0], task.grid[-1]
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise Refusal(place, f"{task.title} score {shown(text)} is not a number from {low:g} to {high:g}")
        return value

    return score if task.is_regression else index


def _refuse_if_broken(path: Path, width: int, kept: int, malformed: list[int]) -> None:
    if malformed and len(malformed) >= MALFORMED_SHARE * (kept + len(malformed)):
        raise Refusal(
            f"{path}:{malformed[0]}",
            f"{len(malformed)} of {kept + len(malformed)} rows have not {width} columns, this one is the first",
            "fetch the file again",
        )
    if not kept:
        raise Refusal(str(path), "no labelled row", "fetch the file again")
