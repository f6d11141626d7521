"""Writes a study to Ray's metrics, which Prometheus reads from the cluster and the dashboard `grafana.json` draws."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ray.util.metrics import Counter, Gauge

from krona_tune.study.result import TrialResult
from krona_tune.study.standings import Standings
from krona_tune.study.study_state import TrialStates

READ_SECONDS = 1.0
"""The least time between two readings: each goes over all rows, and Ray exports only every few seconds."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One metric. A count only grows. Where Prometheus reads it, Ray puts `ray_` before its name, and `_total` behind
    that of a count."""

    kind: Literal["value", "count"]
    about: str
    tags: tuple[str, ...] = ("study", "task")


RAY_CLASSES: dict[str, type[Gauge | Counter]] = {"value": Gauge, "count": Counter}
MEASURES: dict[str, Measure] = {
    "krona_trials": Measure(kind="value", about="Trials by status, or running.", tags=("study", "task", "status")),
    "krona_best_score": Measure(kind="value", about="The best validation score of the search so far."),
    "krona_head_only_score": Measure(kind="value", about="The validation score of the head alone."),
    "krona_examples_per_second": Measure(kind="value", about="Training examples a second of the trials that run."),
    "krona_examples": Measure(kind="count", about="Training examples seen."),
    "krona_device_hours": Measure(kind="count", about="Hours of devices used: of GPUs, or of CPU cores without them."),
}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A metric's value now, without the study's tag."""

    name: str
    value: float
    tags: Mapping[str, str]


def readings(
    rows: Collection[TrialResult], running: Collection[str], tasks: Sequence[str], shared_by: tuple[str, ...] = ()
) -> Iterator[Reading]:
    """Yields the metrics' values, computed from the rows.

    Args:
        running: the ids of the trials that run.
        tasks: the study's tasks; each has readings from the start.
        shared_by: the tasks that share their configurations, if they do.
    """
    standings = Standings(list(rows), shared_by)
    for task in tasks:
        own = [row for row in rows if row.task == task]
        for state, count in TrialStates.of(own, running).by_state.items():
            yield Reading(name="krona_trials", value=count, tags={"task": task, "status": state})
        active = [row for row in own if row.trial_id in running and row.train_seconds]
        values = {
            "krona_best_score": _score(standings.best(task)),
            "krona_head_only_score": _score(standings.baseline(task)),
            "krona_examples_per_second": sum(row.own_examples / row.train_seconds for row in active),
            "krona_examples": sum(row.own_examples for row in own),
            "krona_device_hours": sum(row.device_seconds for row in own) / 3600,
        }
        for name, value in values.items():
            if value is not None:
                yield Reading(name=name, value=value, tags={"task": task})


def _score(row: TrialResult | None) -> float | None:
    return row.score if row else None


class StudyMetrics:
    """The metrics of one study in Ray, which must have been started or joined.

    Args:
        read: returns the current readings.
    """

    def __init__(self, study: str, read: Callable[[], Iterator[Reading]]) -> None:
        self._study, self._read, self._read_at = study, read, -READ_SECONDS
        self._metrics = {name: RAY_CLASSES[each.kind](name, each.about, each.tags) for name, each in MEASURES.items()}
        self._counted: dict[tuple[str, ...], float] = {}

    def changed(self, *, last: bool = False) -> None:
        """Passes the readings to Ray after an event of the study, unless the last time was less than READ_SECONDS ago.

        Args:
            last: no event follows, so the readings are passed in any case.
        """
        if not last and time.monotonic() - self._read_at < READ_SECONDS:
            return
        self._read_at = time.monotonic()
        for reading in self._read():
            tags = {"study": self._study, **reading.tags}
            match self._metrics[reading.name]:
                case Gauge() as value:
                    value.set(reading.value, tags)
                case count:
                    self._count(count, reading, tags)

    def _count(self, count: Counter, reading: Reading, tags: dict[str, str]) -> None:
        """Adds to a count what it has grown by."""
        key = (reading.name, *tags.values())
        grown = reading.value - self._counted.get(key, 0.0)
        if grown > 0:
            count.inc(grown, tags)
            self._counted[key] = reading.value
