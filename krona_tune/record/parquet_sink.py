"""Writes the authoritative records: every event is on the disk as Parquet before the study continues."""

import os
import re
import secrets
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from krona_tune.atomic_write import atomic_path
from krona_tune.record.parquet_reader import KINDS, ORDER_KIND, REPORT_KIND, TRIAL_KIND, Kind, merged, read, set_aside
from krona_tune.record.parquet_schema import table_of
from krona_tune.refusal import Refusal, refusing
from krona_tune.study.order import Order
from krona_tune.study.result import Report, TrialResult


class ParquetSink:
    """A sink that writes a small part for each event and compacts the parts when the study ends.

    A trial's start writes its row as interrupted, so the records are right whenever the process is killed. What the
    disk had no room for is kept in memory and written before the next event, or when the study ends. Opened on existing
    records, it renames those that can't be read and continues after the others. One process writes at a time.

    `unreadable` are the files that it renamed.
    """

    def __init__(self, results: Path) -> None:
        """Raises a Refusal if nothing can be kept in this folder."""
        self._results = results
        self._parts = results / "parts"
        with refusing(str(results), "no records can be kept here", "make it a folder that can be written"):
            self._parts.mkdir(parents=True, exist_ok=True)
            for unfinished in (*results.glob(".*.tmp"), *self._parts.glob(".*.tmp")):
                unfinished.unlink()
        self.unreadable: list[Path] = []
        for kind in KINDS:
            read(results, kind, self._set_aside)
        self._count = max((_counter(path) for path in self._parts.iterdir()), default=0)
        self._unwritten: deque[tuple[Path, pa.Table]] = deque()

    def trial_started(self, result: TrialResult) -> None:
        self._add(TRIAL_KIND, table_of([result.row()], TRIAL_KIND.schema))

    def reported(self, report: Report) -> None:
        self._add(REPORT_KIND, table_of([report.row()], REPORT_KIND.schema))

    def trial_ended(self, result: TrialResult) -> None:
        self._add(TRIAL_KIND, table_of([result.row()], TRIAL_KIND.schema))

    def ordered(self, order: Order) -> None:
        self._add(ORDER_KIND, table_of([order.row()], ORDER_KIND.schema))

    def study_ended(self, artifacts: Sequence[Path]) -> None:
        """Compacts the parts; the artifacts are in the study's folder already."""
        self._catch_up()
        for kind in KINDS:
            self._compact(kind)

    def _set_aside(self, path: Path, refusal: Refusal) -> None:
        set_aside(path, refusal)
        self.unreadable.append(path)

    def _add(self, kind: Kind[Any], table: pa.Table) -> None:
        self._count += 1
        part = self._parts / f"{kind.name}-{self._count:09d}-{secrets.token_hex(3)}.parquet"
        self._unwritten.append((part, table))
        self._catch_up()

    def _catch_up(self) -> None:
        while self._unwritten:
            part, table = self._unwritten[0]
            _write(table, part)
            self._unwritten.popleft()

    def _compact(self, kind: Kind[Any]) -> None:
        """Compacts the parts, then removes the oldest first: one that survives a kill is never older than a removed
        one."""
        parts = kind.parts(self._results)
        _write(merged(self._results, kind, self._set_aside), kind.compacted(self._results))
        for part in parts:
            part.unlink(missing_ok=True)


def _counter(path: Path) -> int:
    """Returns the counter in a part's name, even if the part was renamed; 0 for another file."""
    found = re.match(r"(?:trials|reports|orders)-(\d+)-", path.name)
    return int(found[1]) if found else 0


def _write(table: pa.Table, path: Path) -> None:
    """Writes the whole file or nothing; it is on the disk before it gets its name."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        pq.write_table(table, file)
        file.flush()
        os.fsync(file.fileno())
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
