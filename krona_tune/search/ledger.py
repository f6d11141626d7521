"""The study's state in the driver: every trial's row as it stands, handed on to the sinks at each change."""

import logging
import time
from copy import copy
from dataclasses import replace
from typing import Any

from krona_tune.adapters.placement import count
from krona_tune.glue.tasks import TASKS
from krona_tune.record.sink import Sink
from krona_tune.search.door import trial_of
from krona_tune.study.average import SharedConfiguration, shared_ranking
from krona_tune.study.finals import Finals, finals
from krona_tune.study.front import front_of
from krona_tune.study.geometry import Geometry
from krona_tune.study.result import LastLook, Report, Status, TrialResult

logger = logging.getLogger(__name__)


class Ledger:
    """Rows by trial id. A row is interrupted from its start until its end is known.

    `shared_by` names the tasks that share their configurations, if they do. `lost` are the task and number of searched
    trials that have no row and whose id is taken. A ledger without a geometry is looked at
    only.
    """

    def __init__(
        self, geometry: Geometry | None, sink: Sink, earlier: list[TrialResult], *, shared_by: tuple[str, ...] = ()
    ) -> None:
        self._geometry, self._sink, self._shared_by = geometry, sink, shared_by
        self.rows = {row.trial_id: row for row in earlier}
        self.running: set[str] = set()
        self.lost: frozenset[tuple[str, int]] = frozenset()

    def started(self, config: dict[str, Any]) -> None:
        """A trial begins, or goes on where it was interrupted."""
        earlier = self.rows.get(config["trial_id"])
        row = _continued(earlier, time.time()) if earlier else self._row(config)
        self.running.add(row.trial_id)
        self._set(row)
        logger.info("%s begins: %s", row.trial_id, row.params)
        self._sink.trial_started(row)

    def reported(self, report: Report, checkpoint: str) -> None:
        row = self.rows[report.trial_id]
        if row.rung is not None and report.rung <= row.rung:
            self._set(replace(row, checkpoint=checkpoint))
            return  # a trial that was taken up again repeats what it last reported
        self._set(
            replace(
                row,
                score=report.score,
                rung=report.rung,
                epochs=report.epochs,
                examples=report.examples,
                metrics=report.metrics,
                train_seconds=row.train_seconds + report.train_seconds,
                evaluation_seconds=row.evaluation_seconds + report.evaluation_seconds,
                peak_memory_bytes=max(row.peak_memory_bytes, report.peak_memory_bytes),
                checkpoint=checkpoint,
            )
        )
        logger.info("%s at rung %d: score %.4f", report.trial_id, report.rung, report.score)
        self._sink.reported(report)

    def looked(self, trial_id: str, look: LastLook) -> None:
        """A finalist's one evaluation on the test half; its end hands the row on."""
        self._set(
            replace(
                self.rows[trial_id],
                test_score=look.score,
                test_examples=look.examples,
                test_metrics=look.metrics,
                test_resampled=tuple(look.resampled),
            )
        )

    def ended(self, trial_id: str, status: Status, error: str = "") -> None:
        """What became of a trial. A second end of the same trial changes nothing."""
        if trial_id not in self.running:
            return
        self.running.discard(trial_id)
        row = self.rows[trial_id]
        soonest = _end_by_its_seconds(row)  # the clock may have been set back
        self._set(replace(row, status=status, error=error, ended_at=max(time.time(), soonest)))
        logger.info("%s ended: %s %s", trial_id, status, error)
        self._sink.trial_ended(self.rows[trial_id])

    def best(self, task: str) -> TrialResult | None:
        """The searched trial with the highest validation score; of equals the one with fewer parameters.

        Where tasks share their configurations, the trial of the one with the highest average.
        """
        if shared := self.shared():
            return shared[0].rows[task]
        return max(self._searched(task), key=lambda r: (r.score or 0.0, -r.trainable_parameters), default=None)

    def front(self, task: str) -> list[TrialResult]:
        """The task's searched trials that none beats with as few parameters, from few to many."""
        return front_of(self._searched(task), lambda row: row.point)

    def shared(self) -> list[SharedConfiguration]:
        """Where tasks share their configurations: those that were trained on every task, the best average first."""
        return shared_ranking(list(self.rows.values()), self._shared_by) if self._shared_by else []

    def finals(self, task: str) -> Finals:
        """The task's finalists as far as they have ended."""
        return finals(row for row in list(self.rows.values()) if row.task == task)

    def winner(self, task: str) -> TrialResult | None:
        """The trial to take away: of the winning finalist the seed with the highest validation score; without
        finalists the best of the search."""
        final = self.finals(task).winner
        return final.best_row if final else self.best(task)

    def baseline(self, task: str) -> float | None:
        """The best score of the head alone."""
        scores = [
            r.score for r in self.rows.values() if r.task == task and r.kind == "baseline" and r.score is not None
        ]
        return max(scores, default=None)

    def snapshot(self) -> "Ledger":
        """The ledger as it stands: another thread can go through it while this one changes."""
        taken = copy(self)
        taken.rows, taken.running = dict(self.rows), set(self.running)
        return taken

    def settled(self, report: Report) -> bool:
        """Whether a searched trial's report won't come again: a trial that goes on repeats its last one."""
        row = self.rows[report.trial_id]
        return row.kind == "search" and (row.status is not Status.INTERRUPTED or report.rung != row.rung)

    def _searched(self, task: str) -> list[TrialResult]:
        """The task's searched trials that have a score."""
        return [row for row in list(self.rows.values()) if row.task == task and row.kind == "search" and row.scored]

    def _row(self, config: dict[str, Any]) -> TrialResult:
        assert self._geometry is not None, "this ledger is looked at only"
        trial = trial_of(config)
        outputs = max(len(TASKS[trial.task].labels), 1)
        counted = count(self._geometry, trial.adapter, outputs)
        return TrialResult(
            trial_id=config["trial_id"],
            task=trial.task,
            kind=trial.kind,
            number=config["number"],
            seed=trial.seed,
            fingerprint=trial.fingerprint,
            params=config["params"],
            of=config.get("of", ""),
            adapter_parameters=counted.adapter,
            norm_parameters=counted.norms,
            head_parameters=counted.head,
            trainable_parameters=counted.trainable,
            trainable_percent=counted.percent,
            started_at=time.time(),
        )

    def _set(self, row: TrialResult) -> None:
        self.rows[row.trial_id] = row


def _continued(row: TrialResult, now: float) -> TrialResult:
    """The row of a trial that goes on: without its end, and with the time in which no driver ran it."""
    pause = max(0.0, now - (row.ended_at or _end_by_its_seconds(row)))
    paused = row.paused_seconds + pause
    return replace(row, status=Status.INTERRUPTED, error="", ended_at=None, paused_seconds=paused)


def _end_by_its_seconds(row: TrialResult) -> float:
    """The earliest time at which the trial can have ended."""
    return row.started_at + row.paused_seconds + row.train_seconds + row.evaluation_seconds
