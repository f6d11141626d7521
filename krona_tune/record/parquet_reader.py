"""Reads a study's Parquet records: the compacted file and the parts written since. The last written row counts.

A writer puts the parts' rows into the compacted file, then removes the parts, the oldest first. So a reader opens the
parts first, the newest first, and the compacted file last: if a part is gone, so are those before it, and the compacted
file has their rows.

Reading changes nothing. A file that can't be read is refused, unless the caller gives another way to handle it.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from os.path import lexists
from pathlib import Path
from stat import S_ISLNK, S_ISREG
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from krona_tune.record.parquet_schema import (
    ORDERS,
    REPORTS,
    TRIALS,
    order_of,
    report_of,
    table_of,
    trial_of,
    typed,
)
from krona_tune.refusal import Refusal, refusing, told
from krona_tune.study.order import Order
from krona_tune.study.result import Report, TrialResult

logger = logging.getLogger(__name__)

ATTEMPTS = 5
"""How often a reader reads again because a running study compacted its parts meanwhile."""
CORRUPT = ".corrupt"
"""The end of the name of a file that was renamed because it can't be read."""

Value = TypeVar("Value", bound=TrialResult | Report | Order)
Unreadable = Callable[[Path, Refusal], None]
"""The handler of a file that can't be read; what the file held is missing then."""


@dataclass(frozen=True, kw_only=True)
class TableKind(Generic[Value]):
    """One of the three tables: the value that a row stands for, its key, and the order of the rows."""

    name: str
    schema: pa.Schema
    value_of: Callable[[Mapping[str, Any]], Value]
    key: Callable[[Value], Any]
    order: Callable[[Value], Any]

    def compacted(self, results: Path) -> Path:
        return results / f"{self.name}.parquet"

    def parts(self, results: Path) -> list[Path]:
        """Returns the parts in the order in which they were written."""
        return sorted((results / "parts").glob(f"{self.name}-*.parquet"))

    def table(self, values: Iterable[Value]) -> pa.Table:
        """Returns values as the rows of the compacted file."""
        return table_of([value.row() for value in sorted(values, key=self.order)], self.schema)


TRIAL_KIND = TableKind[TrialResult](
    name="trials",
    schema=TRIALS,
    value_of=trial_of,
    key=attrgetter("trial_id"),
    order=attrgetter("started_at", "number", "trial_id"),
)
REPORT_KIND = TableKind[Report](
    name="reports",
    schema=REPORTS,
    value_of=report_of,
    key=attrgetter("trial_id", "rung"),
    order=attrgetter("trial_id", "rung"),
)
ORDER_KIND = TableKind[Order](
    name="orders",
    schema=ORDERS,
    value_of=order_of,
    key=attrgetter("id"),
    order=attrgetter("given_at", "id"),
)
TABLE_KINDS: tuple[TableKind[Any], ...] = (TRIAL_KIND, REPORT_KIND, ORDER_KIND)


def refuse(path: Path, refusal: Refusal) -> None:
    """Refuses a file that can't be read, because what a reader says without it may be wrong."""
    raise refusal


def pass_over(path: Path, refusal: Refusal) -> None:
    """Goes on without a file that can't be read, where the study's driver sets it aside soon after."""


def set_aside(path: Path, refusal: Refusal) -> None:
    """Renames a file that can't be read, so that the rest can be used. Only the study's driver may do this."""
    taken = len(list(path.parent.glob(f"{path.name}{CORRUPT}*")))
    aside = path.with_name(f"{path.name}{CORRUPT}{f'-{taken + 1}' if taken else ''}")
    with refusing(str(path), "can't be read, and can't be renamed", "make its folder writable"):
        path.replace(aside)
    logger.warning("%s %s: renamed to %s, the rest is used", path, refusal.problem, aside.name)


def read_trials(results: Path, unreadable: Unreadable = refuse) -> list[TrialResult]:
    """Returns every trial once, in the order in which they started; empty if nothing was recorded.

    Raises:
        Refusal: a file can't be read.
    """
    return read(results, TRIAL_KIND, unreadable)


def read_reports(results: Path, unreadable: Unreadable = refuse) -> list[Report]:
    """Returns every report once, a trial's in the order of its rungs.

    Raises:
        Refusal: a file can't be read.
    """
    return read(results, REPORT_KIND, unreadable)


def read_orders(results: Path) -> list[Order]:
    """Returns every order that a driver has read once, in the order in which they were given.

    Raises:
        Refusal: a file can't be read.
    """
    return read(results, ORDER_KIND, refuse)


def read(results: Path, kind: TableKind[Value], unreadable: Unreadable) -> list[Value]:
    """Returns what the compacted file and the parts hold, each key once, ordered."""
    _refuse_no_folders(results)
    values = {kind.key(value): value for held in _held(results, kind, unreadable) for value in held}
    return sorted(values.values(), key=kind.order)


def _held(results: Path, kind: TableKind[Value], unreadable: Unreadable) -> list[list[Value]]:
    """Returns what the compacted file holds, then what the parts do, the oldest first.

    Reads again if a part was removed meanwhile, because some rows would be those of then and others those of now.
    """
    found: list[list[Value]] = []
    for _ in range(ATTEMPTS):
        parts = kind.parts(results)
        newest_first = [_read(path, kind, unreadable) for path in reversed(parts)]
        found = [_read(kind.compacted(results), kind, unreadable), *reversed(newest_first)]
        if set(parts) <= set(kind.parts(results)):
            break
    return found


def _refuse_no_folders(results: Path) -> None:
    for folder in (results, results / "parts"):
        if lexists(folder) and not folder.is_dir():
            raise Refusal(str(folder), "is no folder, so it can hold no records", "put the study's records back")


def _read(path: Path, kind: TableKind[Value], unreadable: Unreadable) -> list[Value]:
    """Returns what a file holds; nothing if it is missing, or if it can't be read and `unreadable` raises nothing.

    Raises:
        Refusal: the disk or the memory fails, which says nothing about the file.
    """
    try:
        return _values(path, kind)
    except FileNotFoundError:
        return []
    except Exception as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None):
            raise Refusal(str(path), f"can't be read now ({told(error)})", "look at the disk and the memory") from error
        fix = "resume the study: its driver renames the file and recovers what it can"
        unreadable(path, Refusal(str(path), f"can't be read ({told(error)})", fix))
        return []


def _values(path: Path, kind: TableKind[Value]) -> list[Value]:
    mode = path.lstat().st_mode
    if not (path.is_file() if S_ISLNK(mode) else S_ISREG(mode)):  # opening a pipe would wait for ever
        raise ValueError("it is no file")
    with pq.ParquetFile(path) as file:
        table = typed(file.read(), kind.schema)
    return [kind.value_of(row) for row in table.to_pylist()]
