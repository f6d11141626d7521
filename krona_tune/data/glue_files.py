"""Says how GLUE keeps and divides each task, and finds its official files: TSV or the hub's parquet."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from krona_tune.data.file_kinds import file_kind
from krona_tune.data.tasks import TASKS, Task
from krona_tune.refusal import Refusal


class Split(StrEnum):
    """The way from labelled data to train, validation and test (the hidden official test set is never used).

    This is the convention of the Compacter code base, with the permutation seed 42.
    """

    HALVED = "halved"  # the official validation set is halved into validation and test
    HELD_OUT = "held_out"  # validation is 1,000 training examples, test the official validation set
    TWO_DEV = "two_dev"  # validation is validation_mismatched, test validation_matched


@dataclass(frozen=True, kw_only=True)
class GlueFiles:
    """Says how a task is divided, and which columns it has in the official TSV files, where quoting is off.

    `columns` maps our column names (the hub's) to header names, or to positions if there is no header. `label_words`
    maps the file's label texts to label indices; None: the text is already a number. A row with the label `unlabelled`
    has none (annotators disagreed) and is left out. `dev` are the official validation files; two of them are in the
    order validation, test.
    """

    split: Split
    columns: dict[str, str | int]
    header: bool = True
    label_words: dict[str, int] | None = None
    unlabelled: str | None = None
    dev: tuple[str, ...] = ("dev",)


_ENTAILMENT = {"entailment": 0, "not_entailment": 1}
_PAIR: dict[str, str | int] = {"sentence1": "sentence1", "sentence2": "sentence2", "label": "label"}
FILES: dict[str, GlueFiles] = {
    "cola": GlueFiles(split=Split.HALVED, columns={"sentence": 3, "label": 1}, header=False),
    "sst2": GlueFiles(split=Split.HELD_OUT, columns={"sentence": "sentence", "label": "label"}),
    "mrpc": GlueFiles(
        split=Split.HALVED, columns={"sentence1": "#1 String", "sentence2": "#2 String", "label": "Quality"}
    ),
    "qqp": GlueFiles(
        split=Split.HELD_OUT, columns={"question1": "question1", "question2": "question2", "label": "is_duplicate"}
    ),
    "stsb": GlueFiles(split=Split.HALVED, columns={**_PAIR, "label": "score"}),
    "mnli": GlueFiles(
        split=Split.TWO_DEV,
        columns={"premise": "sentence1", "hypothesis": "sentence2", "label": "gold_label"},
        label_words={"entailment": 0, "neutral": 1, "contradiction": 2},
        unlabelled="-",
        dev=("dev_mismatched", "dev_matched"),
    ),
    "qnli": GlueFiles(
        split=Split.HELD_OUT,
        columns={"question": "question", "sentence": "sentence", "label": "label"},
        label_words=_ENTAILMENT,
    ),
    "rte": GlueFiles(split=Split.HALVED, columns=_PAIR, label_words=_ENTAILMENT),
    "wnli": GlueFiles(split=Split.HALVED, columns=_PAIR),
}


class OfficialSizes(NamedTuple):
    """The examples of each part of a task's official files, as they are divided here, and the mean tokens of one."""

    train: int
    validation: int
    test: int
    tokens: int


OFFICIAL_SIZES = {
    "cola": OfficialSizes(8_551, 521, 522, 11),
    "sst2": OfficialSizes(66_349, 1_000, 872, 13),
    "mrpc": OfficialSizes(3_668, 204, 204, 53),
    "qqp": OfficialSizes(362_846, 1_000, 40_430, 31),
    "stsb": OfficialSizes(5_749, 750, 750, 28),
    "mnli": OfficialSizes(392_702, 9_832, 9_815, 40),
    "qnli": OfficialSizes(103_743, 1_000, 5_463, 51),
    "rte": OfficialSizes(2_490, 138, 139, 70),
    "wnli": OfficialSizes(635, 35, 36, 37),
}
"""Tokens are roughly those of BERT's word pieces: they only serve to say how long a study may take."""
_SHARD = re.compile(r"-(?P<index>\d+)-of-(?P<count>\d+)\.parquet$")


class Layout(StrEnum):
    """The way in which a folder keeps a task's official splits."""

    TSV = "tsv"
    PARQUET = "parquet"


@dataclass(frozen=True, kw_only=True)
class TaskFiles:
    """The files of a task's official splits; each split may have several. `dev` is in `GlueFiles.dev`'s order."""

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
            splits = [find(candidate, name) for name in ("train", *FILES[task.name].dev)]
            if all(splits):
                return TaskFiles(folder=candidate, layout=layout, train=splits[0], dev=tuple(splits[1:]))
    raise _nothing_found(task, folder, folders[0] if folders else folder, alone)


def _listing(folder: Path) -> list[Path]:
    if not folder.is_dir():
        if folder.is_file():
            if file_kind(folder).builder:
                fix = f"write --tasks {folder}:TEXT:LABEL with its columns"
            else:
                fix = f"describe it in a --tasks file: tasks: {{NAME: {{data: {folder}, text: COLUMN, label: COLUMN}}}}"
            raise Refusal(f"--data {folder}", "not a folder with GLUE's files", fix)
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
    tsv = ", ".join(f"{name}.tsv" for name in ("train", *FILES[task.name].dev))
    parquet = ", ".join(f"{hub_split(name)}-*.parquet" for name in ("train", *FILES[task.name].dev))
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
