"""Reads a study's rows and reports together, each trial up to its last report, and what its model expects of knobs."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import reduce
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from krona_tune.atomic_write import atomic_path
from krona_tune.record.parquet_reader import Unreadable, read_orders, read_reports, read_trials, refuse
from krona_tune.study.order import Order
from krona_tune.study.result import CurvePoint, Report, TrialResult, grouped
from krona_tune.study.study_state import running_trials

logger = logging.getLogger(__name__)
FILE = "effects.parquet"


@dataclass(frozen=True, kw_only=True)
class Effect:
    """The score expected of a knob's value: the mean over the other knobs at the full budget, with one deviation down
    and up. `number` is the value if it is a number."""

    task: str
    knob: str
    value: str
    number: float | None
    expected: float
    low: float
    high: float


_TYPES = {"task": pa.string(), "knob": pa.string(), "value": pa.string()}
SCHEMA = pa.schema([(field.name, _TYPES.get(field.name, pa.float64())) for field in fields(Effect)])


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


CHOICES = pa.schema([(field.name, pa.string()) for field in fields(TaskChoice)])


def write_effects(results: Path, effects: Sequence[Effect]) -> None:
    """Writes the effects in place of earlier ones."""
    _write(results / FILE, effects, SCHEMA)


def write_choices(results: Path, choices: Sequence[TaskChoice]) -> None:
    """Writes what is chosen of each task, and what has won, in place of earlier choices."""
    _write(results / "choices.parquet", choices, CHOICES)


def _write(path: Path, rows: Sequence[Effect] | Sequence[TaskChoice], schema: pa.Schema) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(list(map(asdict, rows)), schema), temporary)


def read_effects(results: Path) -> list[Effect]:
    """Returns the effects, none if they were not written or can't be read: they can be computed again."""
    try:
        return [Effect(**row) for row in pq.read_table(results / FILE, schema=SCHEMA).to_pylist()]
    except FileNotFoundError:
        return []
    except (OSError, pa.ArrowException) as error:
        logger.warning("%s can't be read: %s", results / FILE, error)
        return []


@dataclass(frozen=True, kw_only=True)
class Records:
    """Every trial once, in the order in which they started, and every report once, a trial's by rung.

    `running` are the ids of the trials that run now, `effects` those of the knobs, if a model of the study has written
    them, `orders` those that a driver has read.
    """

    trials: tuple[TrialResult, ...] = ()
    reports: tuple[Report, ...] = ()
    running: frozenset[str] = frozenset()
    effects: tuple[Effect, ...] = ()
    orders: tuple[Order, ...] = ()

    def of(self, task: str) -> "Records":
        return Records(
            trials=tuple(trial for trial in self.trials if trial.task == task),
            reports=tuple(report for report in self.reports if report.task == task),
            running=self.running,
            effects=tuple(effect for effect in self.effects if effect.task == task),
        )

    def training_curves(self) -> Mapping[str, list[CurvePoint]]:
        """Returns the curve of each trial by its id: the points of its reports, then those after the last one."""
        found: dict[str, list[CurvePoint]] = defaultdict(list)
        for report in self.reports:
            found[report.trial_id] += report.curve
        for trial in self.trials:
            found[trial.trial_id] += trial.curve
        return found


def read_records(results: Path, *, runs: bool = False) -> Records:
    """Returns what a study has recorded so far, nothing if there is no folder; `runs`: another process runs it."""
    if not results.exists():
        return Records()
    reports = tuple(read_reports(results))
    trials = tuple(_so_far(read_trials(results), reports))
    running = running_trials(trials) if runs else frozenset()
    return Records(
        trials=trials,
        reports=reports,
        running=running,
        effects=tuple(read_effects(results)),
        orders=tuple(read_orders(results)),
    )


def read_trials_so_far(results: Path, unreadable: Unreadable = refuse) -> list[TrialResult]:
    """Returns every trial once, as far as it has reported; reads no reports if each trial has ended.

    Raises:
        Refusal: a file can't be read.
    """
    trials = read_trials(results, unreadable)
    if all(trial.ended for trial in trials):
        return trials
    return list(_so_far(trials, read_reports(results, unreadable)))


def _so_far(trials: Iterable[TrialResult], reports: Iterable[Report]) -> Iterator[TrialResult]:
    by_trial = grouped(reports, lambda report: report.trial_id)
    return (as_far_as_reported(trial, by_trial[trial.trial_id]) for trial in trials)


def as_far_as_reported(trial: TrialResult, reports: Sequence[Report]) -> TrialResult:
    """Returns a trial without a known end, with the score of its last report and the seconds of all its reports.

    Its row is written when it starts and when it ends, so a killed driver leaves a row without them.
    """
    if trial.ended or not reports or (trial.rung or 0) > reports[-1].rung:
        return trial
    train = max(trial.train_seconds, sum(report.train_seconds for report in reports))
    evaluation = max(trial.evaluation_seconds, sum(report.evaluation_seconds for report in reports))
    return reduce(TrialResult.with_report, reports, trial.with_seconds(train, evaluation))
