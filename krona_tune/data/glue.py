"""Loads a GLUE task's official splits from the hub or a folder, and divides them alike for every seed of a study."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from krona_tune.data import glue_files, glue_parquet
from krona_tune.data.glue_files import FILES, Layout, Split, TaskFiles
from krona_tune.data.tasks import TASKS, Task
from krona_tune.refusal import Refusal

PERMUTATION_SEED = 42
HELD_OUT_EXAMPLES = 1_000


def divide(task: Task, train: pa.Table, dev: tuple[pa.Table, ...]) -> dict[str, pa.Table]:
    """Returns train, validation and test, as its row of `files` says; no row is in two of them.

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
        files = glue_files.locate(task, _folder_named(source), alone=len(tasks) == 1)
        for path in (*files.train, *(path for split in files.dev for path in split)):
            _CHECKS[files.layout](task, path)


def _folder_named(source: str) -> Path:
    try:
        return Path(source).expanduser()
    except RuntimeError:  # ~someone has no home folder here
        raise Refusal(f"--data {source}", "no such home folder", "give the folder's whole path") from None


_CHECKS = {Layout.TSV: glue_files.check, Layout.PARQUET: glue_parquet.check}


def _hub(task: Task) -> Official:
    return *glue_parquet.download(task), f"{glue_parquet.REPOSITORY} ({task.name}) from the hub"


def _folder(task: Task, folder: Path) -> Official:
    files = glue_files.locate(task, folder)
    return _READERS[files.layout](task, files)


def _read_tsv(task: Task, files: TaskFiles) -> Official:
    paths = [*files.train, *(path for split in files.dev for path in split)]
    read = [glue_files.read(task, path) for path in paths]
    notes = [
        f"{count} {kind} rows of {path.name} left out"
        for path, file in zip(paths, read, strict=True)
        for kind, count in (("malformed", file.malformed), ("unlabelled", file.unlabelled))
        if count
    ]
    train, *dev = (file.table for file in read)
    return train, tuple(dev), "; ".join([f"TSV files in {files.folder}", *notes])


def _read_parquet(task: Task, files: TaskFiles) -> Official:
    dev = tuple(glue_parquet.read(task, split) for split in files.dev)
    return glue_parquet.read(task, files.train), dev, f"parquet files in {files.folder}"


_READERS = {Layout.TSV: _read_tsv, Layout.PARQUET: _read_parquet}
