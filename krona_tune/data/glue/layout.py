"""Finds a task's files in a folder: the official TSV layout, or the hub's parquet layout."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from krona_tune.data.glue.files import FILES
from krona_tune.data.tasks import TASKS, Task
from krona_tune.refusal import Refusal

_SHARD = re.compile(r"-(?P<index>\d+)-of-(?P<count>\d+)\.parquet$")


class Layout(StrEnum):
    """The way in which a folder keeps a task's official splits."""

    TSV = "tsv"
    PARQUET = "parquet"


@dataclass(frozen=True, kw_only=True)
class TaskFiles:
    """The files of a task's official splits; each split may have several. `dev` is in `TsvLayout.dev`'s order."""

    folder: Path
    layout: Layout
    train: tuple[Path, ...]
    dev: tuple[tuple[Path, ...], ...]


def hub_split(dev: str) -> str:
    """Returns the hub's word for an official dev file: `dev_matched` is `validation_matched`."""
    return dev.replace("dev", "validation", 1)


def locate(task: Task, folder: Path, *, alone: bool = True) -> TaskFiles:
    """Finds the task's files below `folder`, in a folder with the task's name in any spelling (SST-2, sst2).

    `alone`: the files may also be in `folder` itself, unless it has another task's name. Raises a Refusal that names
    what was looked for and what was found.
    """
    try:
        return _located(task, folder, alone)
    except OSError as error:
        raise Refusal(f"--data {folder}", f"can't be read ({error.strerror or error})") from error


def _located(task: Task, folder: Path, alone: bool) -> TaskFiles:
    inside = _listing(folder)
    folders = [path for path in inside if path.is_dir() and _plain(path.name) == task.name]
    own_name = _plain(folder.resolve().name)
    if alone and (own_name == task.name or own_name not in TASKS):
        folders.append(folder)
    for candidate in folders:
        for layout, find in _FINDERS.items():
            splits = [find(candidate, name) for name in ("train", *FILES[task.name].tsv.dev)]
            if all(splits):
                return TaskFiles(folder=candidate, layout=layout, train=splits[0], dev=tuple(splits[1:]))
    raise _nothing_found(task, folder, folders[0] if folders else folder, alone)


def _listing(folder: Path) -> list[Path]:
    if not folder.is_dir():
        problem = "not a folder" if folder.exists() else f"no such folder as {folder.absolute()}"
        raise Refusal(f"--data {folder}", problem, "give a folder with GLUE's files, or hub, or mini")
    return sorted(folder.iterdir())


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _tsv_files(folder: Path, split: str) -> tuple[Path, ...]:
    path = folder / f"{split}.tsv"
    return (path,) if path.is_file() else ()


def _parquet_files(folder: Path, split: str) -> tuple[Path, ...]:
    pattern = re.compile(rf"{hub_split(split)}(-.*)?\.parquet$")
    shards = tuple(path for path in _listing(folder) if pattern.match(path.name) and path.is_file())
    numbers = [match for path in shards if (match := _SHARD.search(path.name))]
    counts = {int(match["count"]) for match in numbers}
    if numbers and (len(counts) > 1 or len(numbers) != len(shards) or len(shards) != max(counts)):
        names = ", ".join(path.name for path in shards)
        raise Refusal(
            str(folder), f"the shards of {hub_split(split)} are incomplete or mixed: {names}", "fetch them again"
        )
    return shards


_FINDERS: dict[Layout, Callable[[Path, str], tuple[Path, ...]]] = {
    Layout.TSV: _tsv_files,
    Layout.PARQUET: _parquet_files,
}


def _nothing_found(task: Task, folder: Path, nearest: Path, alone: bool) -> Refusal:
    tsv = ", ".join(f"{name}.tsv" for name in ("train", *FILES[task.name].tsv.dev))
    parquet = ", ".join(f"{hub_split(name)}-*.parquet" for name in ("train", *FILES[task.name].tsv.dev))
    place = nearest if nearest != folder else folder / task.title
    names = [path.name + "/" * path.is_dir() for path in _listing(nearest)]
    found = ", ".join([*names[:12], *(["..."] if len(names) > 12 else [])]) or "nothing"
    fix = "give the folder above the tasks' folders" + (
        "" if alone else "; one task's own folder serves that task only"
    )
    return Refusal(
        f"--data {folder}",
        f"no data for {task.title}: looked in {place} for {tsv} or {parquet}, found in {nearest}: {found}",
        fix,
    )
