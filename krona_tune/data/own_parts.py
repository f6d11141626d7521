"""Holds a task of one's own with its examples."""

from dataclasses import dataclass

import pyarrow as pa

from krona_tune.data.tasks import Task


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """A task of one's own and its three whole parts: columns `*task.inputs` (text) and `label` (int64, float64 or
    text).

    `shares` are the labels' shares of all training examples, in the order of the labels; none without labels.
    `warnings` say what a person should know before training.
    """

    task: Task
    parts: dict[str, pa.Table]
    provenance: str
    shares: tuple[float, ...]
    warnings: tuple[str, ...]
