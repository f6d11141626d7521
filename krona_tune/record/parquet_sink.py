"""Writes the authoritative records: every event is on the disk as Parquet before the study continues."""

import logging
import re
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from krona_tune.atomic_write import atomic_path
from krona_tune.record.parquet_reader import (
    ORDER_KIND,
    REPORT_KIND,
    TABLE_KINDS,
    TRIAL_KIND,
    TableKind,
    Value,
    read,
    set_aside,
)
from krona_tune.record.sink import Sink
from krona_tune.refusal import Refusal, refusing, told
from krona_tune.study.order import Order
from krona_tune.study.result import Report, TrialResult

logger = logging.getLogger(__name__)

MOST_PARTS = 32
"""A table is compacted when it has this many parts, or later, when the parts are one to this many of its rows: so a
reader opens few files, and an event costs the writing of this many rows, however many there are."""
PART = re.compile(rf"(?:{'|'.join(kind.name for kind in TABLE_KINDS)})-(\d+)-")
"""The name of a table's part begins so, with its counter."""


@dataclass(kw_only=True)
class _Table:
    """A table's newest value of each key, the parts that hold what the compacted file lacks, the oldest first, and the
    number of parts at which it is compacted."""

    values: dict[Any, Any]
    parts: list[Path]
    due: int


class ParquetSink(Sink):
    """A sink that writes a small part for each event, and compacts the parts now and then and when the study ends.

    A trial's start writes its row as interrupted, so the records are right whenever the process is killed. What the
    disk had no room for is kept in memory and written before the next event, or when the study ends. Opened on existing
    records, it renames those that can't be read and continues after the others. One process writes at a time.

    `unreadable` are the files that it renamed.

    Args:
        why_lost: says why nothing may be written here any more; empty while it may.
    """

    name = "the records"

    def __init__(self, results: Path, why_lost: Callable[[], str] = str) -> None:
        """Raises a Refusal if nothing can be kept in this folder."""
        self._results, self._why_lost = results, why_lost
        self._parts = results / "parts"
        with refusing(str(results), "no records can be kept here", "make it a folder that can be written"):
            self._parts.mkdir(parents=True, exist_ok=True)
            for unfinished in (*results.glob(".*.tmp"), *self._parts.glob(".*.tmp")):
                unfinished.unlink()
        self.unreadable: list[Path] = []
        self._tables = {kind.name: self._opened(kind) for kind in TABLE_KINDS}
        self._count = max((_counter(path) for path in self._parts.iterdir()), default=0)
        self._unwritten: deque[tuple[TableKind[Any], Path, Any]] = deque()
        for kind in TABLE_KINDS:
            self._compact_if_due(kind)

    def trial_started(self, result: TrialResult) -> None:
        self._add(TRIAL_KIND, result)

    def reported(self, report: Report) -> None:
        self._add(REPORT_KIND, report)

    def trial_ended(self, result: TrialResult) -> None:
        self._add(TRIAL_KIND, result)

    def ordered(self, order: Order) -> None:
        self._add(ORDER_KIND, order)

    def study_ended(self, artifacts: Sequence[Path]) -> None:
        """Compacts the parts; the artifacts are in the study's folder already."""
        self._catch_up()
        for kind in TABLE_KINDS:
            self._compact(kind)

    def _opened(self, kind: TableKind[Any]) -> _Table:
        values = {kind.key(value): value for value in read(self._results, kind, self._set_aside)}
        return _Table(values=values, parts=kind.parts(self._results), due=MOST_PARTS)

    def _set_aside(self, path: Path, refusal: Refusal) -> None:
        set_aside(path, refusal)
        self.unreadable.append(path)

    def _add(self, kind: TableKind[Value], value: Value) -> None:
        self._count += 1
        part = self._parts / f"{kind.name}-{self._count:09d}-{secrets.token_hex(3)}.parquet"
        self._unwritten.append((kind, part, value))
        self._catch_up()
        self._compact_if_due(kind)

    def _catch_up(self) -> None:
        while self._unwritten:
            kind, part, value = self._unwritten[0]
            self._write(kind.table([value]), part)
            self._unwritten.popleft()
            held = self._tables[kind.name]
            held.values[kind.key(value)] = value
            held.parts.append(part)

    def _compact_if_due(self, kind: TableKind[Any]) -> None:
        """Compacts a table that has many parts; an error is only logged, because the parts have every row."""
        held = self._tables[kind.name]
        if len(held.parts) < held.due:
            return
        try:
            self._compact(kind)
        except Exception as error:
            logger.warning("%s can't be compacted now: %s", kind.compacted(self._results), told(error))
        held.due = len(held.parts) + max(MOST_PARTS, len(held.values) // MOST_PARTS)

    def _compact(self, kind: TableKind[Any]) -> None:
        """Compacts the parts, then removes the oldest first: one that survives a kill is never older than a removed
        one."""
        held = self._tables[kind.name]
        self._write(kind.table(held.values.values()), kind.compacted(self._results))
        for part in held.parts:
            part.unlink(missing_ok=True)
        held.parts.clear()

    def _write(self, table: pa.Table, path: Path) -> None:
        """Writes the whole file or nothing; it is on the disk before it gets its name. Raises an OSError if another
        driver may write here."""
        if why := self._why_lost():
            raise OSError(why)
        with atomic_path(path) as temporary:
            pq.write_table(table, temporary)


def _counter(path: Path) -> int:
    """Returns the counter in a part's name, even if the part was renamed; 0 for another file."""
    found = PART.match(path.name)
    return int(found[1]) if found else 0
