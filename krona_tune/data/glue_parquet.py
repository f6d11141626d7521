"""Reads GLUE as the hub keeps it: parquet shards in a folder, or `datasets.load_dataset`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from krona_tune.data.glue_files import FILES, hub_split
from krona_tune.data.tasks import Task
from krona_tune.refusal import Refusal, refusing

REPOSITORY = "nyu-mll/glue"


def read(task: Task, paths: Sequence[Path]) -> pa.Table:
    """Reads the shards of one official split as columns `*task.inputs` and `label`. A Refusal names file and row."""
    return pa.concat_tables([conform(task, _shard(path), str(path)) for path in paths])


def check(task: Task, path: Path) -> None:
    """Refuses what is not a parquet file or lacks a column; reads only the schema."""
    with refusing(str(path), "can't be read as a parquet file", "fetch it again"), pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
    _refuse_missing(task, names, str(path))


def download(task: Task) -> tuple[pa.Table, tuple[pa.Table, ...]]:
    """Returns the hub's train split and validation splits. Raises a Refusal if neither network nor cache has them."""
    fix = "give a folder that holds it with --data DIR, or take the generated miniature with --data mini"
    with refusing("--data hub", f"{REPOSITORY} ({task.name}) can't be fetched", fix):
        import datasets

        splits = datasets.load_dataset(REPOSITORY, task.name)
        names = ["train", *map(hub_split, FILES[task.name].tsv.dev)]
        tables = [splits[name].with_format("arrow")[:] for name in names]
    places = [f"{REPOSITORY}: {task.name}: {name}" for name in names]
    train, *dev = (conform(task, table, place) for table, place in zip(tables, places, strict=True))
    return train, tuple(dev)


def conform(task: Task, table: pa.Table, place: str) -> pa.Table:
    """Checks every value; returns columns `*task.inputs` (string) and `label` (int64, float64 for a regression)."""
    _refuse_missing(task, table.column_names, place)
    if not table.num_rows:
        raise Refusal(place, "no row", "fetch it again")
    texts = {name: _texts(table[name], f"{place}: {name}") for name in task.inputs}
    return pa.table({**texts, "label": _labels(task, table["label"], f"{place}: label")})


def _shard(path: Path) -> pa.Table:
    with refusing(str(path), "can't be read as a parquet file", "fetch it again"), pq.ParquetFile(path) as file:
        return file.read()


def _refuse_missing(task: Task, found: Sequence[str], place: str) -> None:
    for name in (*task.inputs, "label"):
        if name not in found:
            raise Refusal(place, f"no column {name!r}; found {', '.join(found)}", f"{task.title} has it on the hub")
        if found.count(name) > 1:
            raise Refusal(place, f"the column {name!r} appears {found.count(name)} times", "leave one of them")


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
        row = int(wrong[0])
        raise Refusal(
            f"{place}: row {row}",
            f"{values[row]} is not from {low:g} to {high:g}",
            "-1 marks GLUE's hidden test set; give the labelled splits",
        )
    return column.cast(wanted)
