"""Loads a GLUE task's official splits from the hub or from a folder in either layout."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from krona_tune.data.glue import hub_datasets, layout, tsv
from krona_tune.data.glue.divide import divide
from krona_tune.data.glue.layout import Layout, TaskFiles
from krona_tune.data.tasks import TASKS, Task
from krona_tune.refusal import Refusal

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
        files = layout.locate(task, _folder_named(source), alone=len(tasks) == 1)
        for path in (*files.train, *(path for split in files.dev for path in split)):
            _CHECKS[files.layout](task, path)


def _folder_named(source: str) -> Path:
    try:
        return Path(source).expanduser()
    except RuntimeError:  # ~someone has no home folder here
        raise Refusal(f"--data {source}", "no such home folder", "give the folder's whole path") from None


_CHECKS = {Layout.TSV: tsv.check, Layout.PARQUET: hub_datasets.check}


def _hub(task: Task) -> Official:
    return *hub_datasets.download(task), f"{hub_datasets.REPOSITORY} ({task.name}) from the hub"


def _folder(task: Task, folder: Path) -> Official:
    files = layout.locate(task, folder)
    return _READERS[files.layout](task, files)


def _read_tsv(task: Task, files: TaskFiles) -> Official:
    paths = [*files.train, *(path for split in files.dev for path in split)]
    read = [tsv.read(task, path) for path in paths]
    notes = [
        f"{count} {kind} rows of {path.name} left out"
        for path, file in zip(paths, read, strict=True)
        for kind, count in (("malformed", file.malformed), ("unlabelled", file.unlabelled))
        if count
    ]
    train, *dev = (file.table for file in read)
    return train, tuple(dev), "; ".join([f"TSV files in {files.folder}", *notes])


def _read_parquet(task: Task, files: TaskFiles) -> Official:
    dev = tuple(hub_datasets.read(task, split) for split in files.dev)
    return hub_datasets.read(task, files.train), dev, f"parquet files in {files.folder}"


_READERS = {Layout.TSV: _read_tsv, Layout.PARQUET: _read_parquet}
