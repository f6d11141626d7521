"""Reads and writes learning curves that somebody contributes: one Parquet file with its provenance, and no text."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from krona_tune.atomic_write import atomic_path
from krona_tune.backbones.geometry import Stack
from krona_tune.record.recorded_curves import COLUMNS
from krona_tune.refusal import Refusal, refusing, shown
from krona_tune.study.frozen_value import FrozenValue
from krona_tune.study.kinds import TrialKind
from krona_tune.study.manifest import Depth
from krona_tune.study.request.metric_table import bounds_of
from krona_tune.study.request.search_spec import CURVE_FILE
from krona_tune.study.result import Status, is_score

CURVES_FORMAT: Final = 1
"""The format of a file of curves that this version writes and reads."""
PROVENANCE = b"krona_tune"
"""The key of the file's metadata under which its provenance stands, as JSON."""
AGAIN = "write the file again with krona-tune contribute"
_WORDS = {"task", "kind", "status", "scaling", "roles", "layers", "layer_norms"}
_WHOLE = {"number", "seed", "examples", "step"}
SCHEMA = pa.schema(
    [(name, pa.string() if name in _WORDS else pa.int64() if name in _WHOLE else pa.float64()) for name in COLUMNS]
)
"""One row per report of a trial; a trial without a report has one row."""
POINT = COLUMNS[COLUMNS.index("a_out") :]
"""The columns of a point: rows of one number have the same values there on every task."""
WHOLE_KNOBS = ("a_out", "a_in", "terms", "batch_size")
MAY_LACK = {"epochs", "score", "train_loss", "dropout"}
"""The columns that may be empty: of a trial without a report, where training diverged, for the model's own dropout."""


LARGEST = 2**53
"""The largest number in a file of curves."""
MEASURED = {"score", "train_loss"}
"""The columns that may hold any number, but a score what its metrics can have: training may diverge."""
ROUNDING = 1e-6
"""How far beyond the bounds of its metrics a score may be."""
OF_TRIAL = ("kind", "seed", "status")
"""The columns that are the same in all rows of a trial."""


class CurvesModel(FrozenValue):
    """Holds what is known of the backbone whose adapters were trained: a hash of its weights, and its sizes."""

    fingerprint: str
    model_type: str
    parameters: int = Field(ge=1, le=LARGEST)
    width: int = Field(ge=1, le=2**20)
    depths: dict[Stack, Depth] = Field(min_length=1)


class CurvesTask(FrozenValue):
    """Holds what is known of a task's data: `contents`, the hash of all texts and labels; how it is scored; sizes.

    `budget` is a full training in examples, `constant_score` that of the best constant answer. `compared_by_loss`: a
    score is the loss of the targets, negated, whatever the metrics.
    """

    contents: str
    synthetic: bool
    metrics: tuple[str, ...] = Field(min_length=1)
    compared_by_loss: bool = False
    constant_score: float
    train_examples: int = Field(ge=1, le=LARGEST)
    validation_examples: int = Field(ge=1, le=LARGEST)
    budget: int = Field(ge=1, le=LARGEST)


class Provenance(FrozenValue):
    """Says where curves are from."""

    format: int = CURVES_FORMAT
    krona_tune: str
    versions: dict[str, str]
    model: CurvesModel
    tasks: dict[str, CurvesTask] = Field(min_length=1)


@dataclass(frozen=True, kw_only=True)
class ContributedCurves:
    """The rows of a file by COLUMNS, and their provenance."""

    rows: tuple[dict[str, Any], ...]
    provenance: Provenance


def is_curve_file(named: str) -> bool:
    """Returns whether the place of a warm start is a file of curves, and no study."""
    return named.endswith(CURVE_FILE)


def write_curves(path: Path, rows: Sequence[Mapping[str, Any]], provenance: Provenance) -> None:
    """Writes curves as one file. Raises a Refusal if there is one already, or it can't be written."""
    if path.exists():
        raise Refusal("--output", f"{path} is there already", "choose another name")
    table = pa.Table.from_pylist([dict(row) for row in rows], SCHEMA)
    whole = table.replace_schema_metadata({PROVENANCE: provenance.model_dump_json()})
    fix = "name a file in a folder that can be written"
    with refusing("--output", f"{path} can't be written", fix), atomic_path(path) as built:
        pq.write_table(whole, built)


def read_curves(path: Path) -> ContributedCurves:
    """Reads a file of curves, and checks all of it.

    Raises:
        Refusal: it is no such file, of another format, or holds what no finished study leaves.
    """
    place = str(path)
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except FileNotFoundError:
        raise Refusal(place, "there is no such file", "name a file that krona-tune contribute wrote") from None
    except (OSError, ValueError, pa.ArrowException):  # a name of a column may be no text
        raise Refusal(place, "is no Parquet file", "name a file that krona-tune contribute wrote") from None
    provenance = _provenance(place, (table.schema.metadata or {}).get(PROVENANCE))
    rows = tuple(_typed(place, table).to_pylist())
    for problem in _problems(rows, provenance):
        raise Refusal(place, problem, AGAIN)
    return ContributedCurves(rows=rows, provenance=provenance)


def _provenance(place: str, written: bytes | None) -> Provenance:
    if written is None:
        raise Refusal(place, "does not say where its curves are from", AGAIN)
    try:
        said = json.loads(written)
        found = said.get("format") if isinstance(said, dict) else None
        if found != CURVES_FORMAT:
            problem = f"has the format {shown(found)}, this version reads {CURVES_FORMAT}"
            raise Refusal(place, problem, "install the version that wrote it, or contribute the study with this one")
        return Provenance.model_validate(said)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise Refusal(place, f"its provenance is damaged at {where}", AGAIN) from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, Refusal):
            raise
        raise Refusal(place, "its provenance is damaged", AGAIN) from None


def _typed(place: str, table: pa.Table) -> pa.Table:
    """Returns the columns that are read, in their types."""
    for name in COLUMNS:
        if table.column_names.count(name) != 1:
            problem = f"has no column {name}" if name not in table.column_names else f"has two columns {name}"
            raise Refusal(place, problem, AGAIN)
    found = table.select(COLUMNS)
    for field in SCHEMA:
        try:
            found[field.name].cast(field.type)
        except pa.ArrowException:
            raise Refusal(place, f"the column {field.name} does not hold {field.type}", AGAIN) from None
    return found.cast(SCHEMA)


def _is_beyond(value: Any) -> bool:
    """Returns whether a value is a number that no study has: none at all, infinite, or beyond LARGEST."""
    return isinstance(value, float | int) and not abs(value) <= LARGEST


def _is_lacking(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not isfinite(value))


def _problems(rows: Sequence[Mapping[str, Any]], provenance: Provenance) -> Iterator[str]:
    """Yields what no finished study leaves, the first of which is told."""
    points: dict[int, tuple[Any, ...]] = {}
    trials: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for at, row in enumerate(rows):
        yield from (f"row {at} {problem}" for problem in _problems_of_row(row, provenance))
        point = tuple(row[name] for name in POINT)
        if points.setdefault(row["number"], point) != point:
            yield f"row {at} has other values than another row of the point {row['number']}"
        trials.setdefault((row["task"], row["number"]), []).append(row)
    for (task, number), own in trials.items():
        yield from (f"the point {number} of {task} {problem}" for problem in _problems_of_trial(own))
    if unscored := sorted(provenance.tasks.keys() - {row["task"] for row in rows if is_score(row["score"])}):
        yield f"no trial of {unscored[0]} has a score"
    if max(map(len, trials.values()), default=0) < 2:
        yield "no point has more than one report, which is no curve"


def _problems_of_row(row: Mapping[str, Any], provenance: Provenance) -> Iterator[str]:
    if lacking := [name for name in COLUMNS if _is_lacking(row[name]) and name not in MAY_LACK]:
        yield f"has no {lacking[0]}"
    if beyond := [name for name in COLUMNS if name not in MEASURED and _is_beyond(row[name])]:
        yield f"has an impossible {beyond[0]}: {shown(row[beyond[0]])}"
    if broken := [name for name in WHOLE_KNOBS if not row[name].is_integer()]:
        yield f"has no whole number as its {broken[0]}"
    if row["task"] not in provenance.tasks:
        yield f"is of the task {shown(row['task'])}, which its provenance lacks"
    if row["kind"] != TrialKind.SEARCH:
        yield f"is of another kind than {TrialKind.SEARCH}: {shown(row['kind'])}"
    if row["status"] not in set(Status) - {Status.INTERRUPTED}:
        yield f"is of a trial that has not ended: {shown(row['status'])}"
    score, status, reported = row["score"], Status(row["status"]), row["epochs"] is not None
    must = status in {Status.COMPLETED, Status.STOPPED_EARLY} or (status.stopped and reported)
    if (must or score is not None) and not is_score(score):
        yield "has no number as its score"
    of_task = provenance.tasks[row["task"]]
    bounds = None if of_task.compared_by_loss else bounds_of(of_task.metrics)
    if bounds and score is not None and not bounds[0] - ROUNDING <= score <= bounds[1] + ROUNDING:
        metrics = " and ".join(of_task.metrics)
        yield f"has a score that {metrics} can't have: {score:g}"
    if reported and min(row["epochs"], row["examples"], row["step"]) <= 0:
        yield "is a report after no training"


def _problems_of_trial(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if other := [name for name in OF_TRIAL if len({row[name] for row in rows}) > 1]:
        yield f"has more than one {other[0]}"
    epochs = [row["epochs"] for row in rows]
    if None in epochs and len(rows) > 1:
        yield "has a row without a report beside others"
    elif None not in epochs:
        found = sorted((row["epochs"], row["examples"]) for row in rows)
        if same := next((a for a, b in pairwise(found) if a[0] == b[0] or a[1] >= b[1]), None):
            yield f"has no later examples after {same[0]:g} epochs"
