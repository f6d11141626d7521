"""Reads a study's Parquet records: what was compacted and the parts written since, the last written row winning."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from krona_tune.record.columns import REPORTS, TRIALS, report_of, trial_of
from krona_tune.study.result import Report, TrialResult

logger = logging.getLogger(__name__)

_ATTEMPTS = 5
"""How often a reader starts again because a study that is running compacted its parts meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One of the two tables: what a row is known by, and in which order rows are given."""

    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    order: tuple[str, ...]

    def compacted(self, results: Path) -> Path:
        return results / f"{self.name}.parquet"

    def parts(self, results: Path) -> list[Path]:
        """The parts in the order in which they were written."""
        return sorted((results / "parts").glob(f"{self.name}-*.parquet"))


TRIAL_KIND = Kind(name="trials", schema=TRIALS, key=("trial_id",), order=("started_at", "number", "trial_id"))
REPORT_KIND = Kind(name="reports", schema=REPORTS, key=("trial_id", "rung"), order=("trial_id", "rung"))
KINDS = (TRIAL_KIND, REPORT_KIND)


def trials_table(results: Path) -> pa.Table:
    """One row a trial, whatever became of it, in the order in which they started."""
    return merged(results, TRIAL_KIND)


def reports_table(results: Path) -> pa.Table:
    """One row a trial and rung."""
    return merged(results, REPORT_KIND)


def read_trials(results: Path) -> list[TrialResult]:
    """Every trial once, in the order in which they started; empty where nothing was recorded."""
    return [trial_of(row) for row in trials_table(results).to_pylist()]


def read_reports(results: Path) -> list[Report]:
    """Every report once, a trial's in the order of its rungs."""
    return [report_of(row) for row in reports_table(results).to_pylist()]


def merged(results: Path, kind: Kind) -> pa.Table:
    """The compacted file and the parts as one table: each key once, ordered."""
    return _settled(_tables(results, kind), kind)


def _tables(results: Path, kind: Kind) -> list[pa.Table]:
    """The compacted table, then the parts'. Again where a part went away meanwhile: it may be compacted by now."""
    tables: list[pa.Table] = []
    for _ in range(_ATTEMPTS):
        parts = kind.parts(results)
        newer = [_read(path) for path in parts]
        tables = [table for table in (_read(kind.compacted(results)), *newer) if table is not None]
        if set(parts) <= set(kind.parts(results)):
            break
    return tables


def _settled(tables: Sequence[pa.Table], kind: Kind) -> pa.Table:
    table = pa.concat_tables([kind.schema.empty_table(), *tables], promote_options="permissive")
    keys = zip(*(table[name].to_pylist() for name in kind.key), strict=True)
    last = {key: index for index, key in enumerate(keys)}
    kept = table.take(pa.array(last.values(), pa.int64()))
    return kept.sort_by([(name, "ascending") for name in kind.order])


def _read(path: Path) -> pa.Table | None:
    """The file's table; None where it is gone or corrupt."""
    try:
        with pq.ParquetFile(path) as file:
            return file.read()
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if getattr(error, "errno", None):  # the disk's refusal, not the file's content
            raise
        _set_aside(path, error)
        return None


def _set_aside(path: Path, error: Exception) -> None:
    aside = path.with_name(path.name + ".corrupt")
    logger.warning("%s can't be read (%s): set aside as %s, the rest is used", path, error, aside.name)
    try:
        path.replace(aside)
    except OSError as refused:
        logger.warning("%s could not be renamed: %s", path, refused)
