"""Reads GLUE's official splits, from TSV, parquet or the hub, and divides them alike for every seed of a study."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from textwrap import shorten

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from krona_tune.data.glue_files import FILES, Layout, Split, TaskFiles, hub_split, locate
from krona_tune.data.separated_text import lines_of, refuse_lacking
from krona_tune.data.tasks import TASKS, Task
from krona_tune.refusal import Refusal, refusing, shown, unknown

PERMUTATION_SEED = 42
HELD_OUT_EXAMPLES = 1_000


def divide(task: Task, train: pa.Table, dev: tuple[pa.Table, ...]) -> dict[str, pa.Table]:
    """Returns train, validation and test, as its row of `FILES` says; no row is in two of them.

    The permutation is numpy's `default_rng(42)`; Compacter's code takes torch's generator with seed 42, so the protocol
    is the same but the rows are not. Of an odd set, validation has the smaller half. A training set below 2,000 rows
    holds out half of itself instead of 1,000 rows. Raises a Refusal if a set is too small to be divided.
    """
    match FILES[task.name].split:
        case Split.HALVED:
            validation, test = _cut(task, dev[0], dev[0].num_rows // 2)
            return {"train": train, "validation": validation, "test": test}
        case Split.HELD_OUT:
            validation, rest = _cut(task, train, min(HELD_OUT_EXAMPLES, train.num_rows // 2))
            return {"train": rest, "validation": validation, "test": dev[0]}
        case Split.TWO_DEV:
            validation, test = dev
            return {"train": train, "validation": validation, "test": test}


def _cut(task: Task, table: pa.Table, first: int) -> tuple[pa.Table, pa.Table]:
    """Returns two tables of a permuted `table`: the first has `first` rows."""
    if not first:
        raise Refusal(task.title, f"{table.num_rows} row is too few to be divided", "give at least 2 in each file")
    order = np.random.default_rng(PERMUTATION_SEED).permutation(table.num_rows)
    return table.take(order[:first]), table.take(order[first:])


HUB = "hub"
Official = tuple[pa.Table, tuple[pa.Table, ...], str]
"""The official train split, the official validation splits, and where they are from."""


def read(task: Task, source: str) -> tuple[dict[str, pa.Table], str]:
    """Returns train, validation and test, and where they are from; `source` is "hub" or a folder.

    Raises a Refusal, with file and line, if the source is missing or holds what the task can't have.
    """
    train, dev, provenance = _hub(task) if source == HUB else _folder(task, _folder_named(source))
    return divide(task, train, dev), provenance


def check(source: str, names: Iterable[str]) -> None:
    """Refuses a folder that lacks one of the tasks or a column of it; reads first lines and schemas only."""
    tasks = [TASKS[name] for name in names]
    for task in tasks:
        files = locate(task, _folder_named(source), alone=len(tasks) == 1)
        for path in (*files.train, *(path for split in files.dev for path in split)):
            _CHECKS[files.layout](task, path)


def _folder_named(source: str) -> Path:
    try:
        return Path(source).expanduser()
    except RuntimeError:  # ~someone has no home folder here
        raise Refusal(f"--data {source}", "no such home folder", "give the folder's whole path") from None


def _hub(task: Task) -> Official:
    return *download_splits(task), f"{REPOSITORY} ({task.name}) from the hub"


def _folder(task: Task, folder: Path) -> Official:
    files = locate(task, folder)
    return _READERS[files.layout](task, files)


def _tsv_splits(task: Task, files: TaskFiles) -> Official:
    paths = [*files.train, *(path for split in files.dev for path in split)]
    read = [read_tsv(task, path) for path in paths]
    notes = [
        f"{count} {kind} rows of {path.name} left out"
        for path, file in zip(paths, read, strict=True)
        for kind, count in (("malformed", file.malformed), ("unlabelled", file.unlabelled))
        if count
    ]
    train, *dev = (file.table for file in read)
    return train, tuple(dev), "; ".join([f"TSV files in {files.folder}", *notes])


def _parquet_splits(task: Task, files: TaskFiles) -> Official:
    dev = tuple(read_parquet(task, split) for split in files.dev)
    return read_parquet(task, files.train), dev, f"parquet files in {files.folder}"


Row = tuple[int, list[str]]
MALFORMED_SHARE = 0.1  # QQP's train file has a handful in 364,000; a file with a tenth is wrong or damaged


@dataclass(frozen=True, kw_only=True)
class TsvFile:
    """The content of a file: columns `*task.inputs` (string) and `label` (int64, float64 for a regression)."""

    table: pa.Table
    malformed: int
    unlabelled: int


@dataclass(frozen=True, kw_only=True)
class _ColumnPositions:
    """The positions of a file's columns, for rows of exactly `width` columns."""

    width: int
    inputs: tuple[int, ...]
    label: int


def read_tsv(task: Task, path: Path) -> TsvFile:
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
    for number, fields in rows if FILES[task.name].header else chain([first], rows):
        if len(fields) != columns.width:
            malformed.append(number)
        elif fields[columns.label] == FILES[task.name].unlabelled:
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


def check_tsv(task: Task, path: Path) -> None:
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
    """Yields line number and columns of each line that is not empty."""
    try:
        with path.open("rb") as file:
            yield from ((number, line.split("\t")) for number, line in lines_of(file, str(path)) if line)
    except OSError as error:
        raise Refusal(str(path), f"can't be read ({error.strerror or error})") from error


def _columns(task: Task, path: Path, first: Row) -> _ColumnPositions:
    number, fields = first
    header = {name.strip(): at for at, name in reversed(list(enumerate(fields)))}

    def position(name: str) -> int:
        column = FILES[task.name].columns[name]
        at = header.get(column) if isinstance(column, str) else column
        if at is not None and at < len(fields):
            return at
        wanted = repr(column) if isinstance(column, str) else str(column + 1)
        found = shorten(", ".join(map(repr, fields)), 200) if isinstance(column, str) else f"{len(fields)} columns"
        raise Refusal(
            f"{path}:{number}", f"no column {wanted} for {task.title}'s {name}; found {found}", "use the official file"
        )

    return _ColumnPositions(width=len(fields), inputs=tuple(map(position, task.inputs)), label=position("label"))


def _label_reader(task: Task) -> Callable[[str, str], float]:
    """Returns a function from text and place to a label: one of the task's words, or a number within the grid."""
    words = FILES[task.name].label_words or {str(index): index for index in range(len(task.labels))}

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


REPOSITORY = "nyu-mll/glue"


def read_parquet(task: Task, paths: Sequence[Path]) -> pa.Table:
    """Reads the shards of one official split as columns `*task.inputs` and `label`. A Refusal names file and row."""
    return pa.concat_tables([conform(task, _shard(path), str(path)) for path in paths])


def check_parquet(task: Task, path: Path) -> None:
    """Refuses what is not a parquet file or lacks a column; reads only the schema."""
    with refusing(str(path), "can't be read as a parquet file", "fetch it again"), pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
    _refuse_lacking(task, names, str(path))


def download_splits(task: Task) -> tuple[pa.Table, tuple[pa.Table, ...]]:
    """Returns the hub's train split and validation splits. Raises a Refusal if neither network nor cache has them."""
    fix = "give a folder that holds it with --data DIR, or take the generated miniature with --data mini"
    with refusing("--data hub", f"{REPOSITORY} ({task.name}) can't be fetched", fix):
        import datasets

        splits = datasets.load_dataset(REPOSITORY, task.name)
        names = ["train", *map(hub_split, FILES[task.name].dev)]
        tables = [splits[name].with_format("arrow")[:] for name in names]
    places = [f"{REPOSITORY}: {task.name}: {name}" for name in names]
    train, *dev = (conform(task, table, place) for table, place in zip(tables, places, strict=True))
    return train, tuple(dev)


def conform(task: Task, table: pa.Table, place: str) -> pa.Table:
    """Checks every value; returns columns `*task.inputs` (string) and `label` (int64, float64 for a regression)."""
    _refuse_lacking(task, table.column_names, place)
    if not table.num_rows:
        raise Refusal(place, "no row", "fetch it again")
    texts = {name: _texts(table[name], f"{place}: {name}") for name in task.inputs}
    return pa.table({**texts, "label": _labels(task, table["label"], f"{place}: label")})


def _shard(path: Path) -> pa.Table:
    with refusing(str(path), "can't be read as a parquet file", "fetch it again"), pq.ParquetFile(path) as file:
        return file.read()


def _refuse_lacking(task: Task, found: Sequence[str], place: str) -> None:
    refuse_lacking(found, (*task.inputs, "label"), place, f"{task.title} has it on the hub")


def _texts(column: pa.ChunkedArray, place: str) -> pa.ChunkedArray:
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise Refusal(place, f"holds {column.type}, not text")
    if column.null_count:
        raise Refusal(place, f"{column.null_count} rows have no text")
    with refusing(place, "not UTF-8 text", "write the texts in UTF-8"):
        column.validate(full=True)
        return column.cast(pa.string())


def _labels(task: Task, column: pa.ChunkedArray, place: str) -> pa.ChunkedArray:
    low, high = (task.grid[0], task.grid[-1]) if task.is_regression else (0, len(task.labels) - 1)
    wanted = pa.float64() if task.is_regression else pa.int64()
    numeric = pa.types.is_floating(column.type) if task.is_regression else pa.types.is_integer(column.type)
    if not numeric or column.null_count:
        raise Refusal(place, f"holds {column.type} with {column.null_count} gaps, not a {wanted} in every row")
    values = column.to_numpy()
    wrong = np.flatnonzero(~((values >= low) & (values <= high)))
    if len(wrong):
        first = int(wrong[0])
        raise Refusal(
            f"{place}: row {first + 1}",
            f"{values[first]} is not from {low:g} to {high:g}",
            "-1 marks GLUE's hidden test set; give the labelled splits",
        )
    return column.cast(wanted)


_CHECKS = {Layout.TSV: check_tsv, Layout.PARQUET: check_parquet}
_READERS = {Layout.TSV: _tsv_splits, Layout.PARQUET: _parquet_splits}
