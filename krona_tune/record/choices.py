"""Writes which trial is chosen of each task, and which one has won, beside the records: a row a task."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from krona_tune.atomic_write import atomic_path

FILE = "choices.parquet"


@dataclass(frozen=True, kw_only=True)
class TaskChoice:
    """The choice of a task: the trial whose adapter is in `adapters/TASK` (unless its state was gone), why, and which
    trial won.

    Without finals both are the best trial of the search.
    """

    task: str
    chosen: str
    winner: str
    reason: str


SCHEMA = pa.schema([(name, pa.string()) for name in TaskChoice.__dataclass_fields__])


def write_choices(results: Path, choices: Sequence[TaskChoice]) -> None:
    """Writes the choices in place of earlier ones."""
    results.mkdir(parents=True, exist_ok=True)
    with atomic_path(results / FILE) as temporary:
        pq.write_table(pa.Table.from_pylist([asdict(choice) for choice in choices], SCHEMA), temporary)
