"""Finds what makes a task's scores mean little, although its data can be read."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from krona_tune.data.corpus import TaskData
from krona_tune.data.splits import PARTS
from krona_tune.data.tasks import Task
from krona_tune.refusal import shown


def find_warnings(data: TaskData) -> Iterator[str]:
    """Yields what was noticed in reading, and what is odd in a part: only empty texts, or only one label."""
    yield from data.warnings
    for part in PARTS:
        table = getattr(data, part)
        which = f"the {table.num_rows} {part} examples of {data.task.title}"
        yield from (f"{which} have no {name}: all are empty" for name in data.task.inputs if _is_empty(table[name]))
        labels = table["label"].unique().to_pylist()
        if len(labels) == 1:
            yield f"{which} all have the {_said(data.task, labels[0])}"


def _is_empty(texts: pa.ChunkedArray) -> bool:
    return bool(pc.max(pc.utf8_length(pc.utf8_trim_whitespace(texts))).as_py() == 0)


def _said(task: Task, label: Any) -> str:
    if task.generation:
        return "same target"
    return f"score {label:g}" if task.is_regression else f"label {shown(task.labels[int(label)])}"
