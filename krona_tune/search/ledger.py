"""Holds the study's state in the driver: every trial's current row, passed on to the sinks at each event."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import replace

from krona_tune.adapters.placement import ParameterCount
from krona_tune.record.sink import Sink
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.devices import UNKNOWN, Devices
from krona_tune.study.order import Order
from krona_tune.study.request.trial import TrialConfig
from krona_tune.study.result import Curve, Report, ScoreOnTest, Status, TrialResult
from krona_tune.study.standings import Standings

logger = logging.getLogger(__name__)
Count = Callable[[TrialConfig], ParameterCount]


class Ledger:
    """Rows by trial id. A row has the status interrupted from its trial's start until its end is known. Orders by their
    own ids.

    `lost` holds the task and number of each searched trial that has no row but an id that must not be used again.

    Args:
        count: counts what a trial trains; a ledger without it is read-only.
        shared_by: the tasks that share their configurations, if they do.
        devices: what each trial has that begins or goes on; not known if rows are only restored.
        reports: those of the rows that are recorded.
    """

    def __init__(
        self,
        count: Count | None,
        sink: Sink,
        earlier: list[TrialResult],
        *,
        shared_by: tuple[str, ...] = (),
        orders: Sequence[Order] = (),
        devices: Devices = UNKNOWN,
        reports: Iterable[Report] = (),
    ) -> None:
        self.orders = {order.id: order for order in orders}
        self._count, self._sink, self._shared_by, self._devices = count, sink, shared_by, devices
        self.rows = {row.trial_id: row for row in earlier}
        self._seconds = {(each.trial_id, each.rung): each.train_seconds for each in reports}
        self.running: set[str] = set()
        self.lost: frozenset[tuple[str, int]] = frozenset()

    def started(self, message: TrialMessage) -> None:
        """Records that a trial begins, or resumes after an interruption."""
        earlier = self.rows.get(message.trial_id)
        row = self._devices.given_to(_continued(earlier, time.time()) if earlier else self._row(message))
        self.running.add(row.trial_id)
        self._set(row)
        logger.info("%s begins: %s", row.trial_id, row.params)
        self._sink.trial_started(row)

    def reported(self, report: Report, checkpoint: str) -> None:
        row, before = self.rows[report.trial_id], self._seconds.get((report.trial_id, report.rung))
        self._seconds[report.trial_id, report.rung] = report.train_seconds
        if row.rung is not None and report.rung <= row.rung:
            repeats = before in {None, report.train_seconds}  # a resumed trial repeats its last report
            again = 0.0 if repeats else report.train_seconds + report.evaluation_seconds  # a later state was lost
            used = row.device_seconds + row.devices * again
            self._set(replace(row, checkpoint=checkpoint, device_seconds=used))
            return
        train, evaluation = row.train_seconds + report.train_seconds, row.evaluation_seconds + report.evaluation_seconds
        self._set(replace(row.with_seconds(train, evaluation).with_report(report), checkpoint=checkpoint))
        score = f"score {report.score:.4f}" if report.scored else "no score"
        logger.info("%s at rung %d: %s", report.trial_id, report.rung, score)
        self._sink.reported(report)

    def tested(self, trial_id: str, look: ScoreOnTest) -> None:
        """Records a finalist's only evaluation on the test half; `ended` passes the row on to the sinks."""
        self._set(self.rows[trial_id].with_test(look))
        if look.note:
            logger.warning("%s on the test half: %s", trial_id, look.note)

    def ended(self, trial_id: str, status: Status, error: str = "", curve: Curve = (), seconds: float = 0.0) -> None:
        """Records the end of a trial, with the points of its curve since its last report, and the seconds since then.
        A second end of the same trial changes nothing."""
        if trial_id not in self.running:
            return
        self.running.discard(trial_id)
        row = self.rows[trial_id]
        soonest = _end_by_its_seconds(row)  # the clock may have been set back
        used, at = row.device_seconds + row.devices * seconds, max(time.time(), soonest)
        self._set(replace(row, status=status, error=error, curve=curve, device_seconds=used, ended_at=at))
        logger.info("%s ended: %s %s", trial_id, status, error)
        self._sink.trial_ended(self.rows[trial_id])

    def stopped_while_waiting(self, trial_id: str) -> None:
        """Records the end, by an order, of a trial that no worker has; the time since it was last seen is a pause."""
        self._set(_continued(self.rows[trial_id], time.time()))
        self.running.add(trial_id)
        self.ended(trial_id, Status.STOPPED_BY_USER)

    def reopened(self, trial_id: str) -> None:
        """Records that a trial which has failed will go on, from its last rung."""
        failed = self.rows[trial_id]
        at = failed.ended_at if failed.failed_at is None else failed.failed_at
        row = replace(failed, status=Status.INTERRUPTED, error="", failed_at=at)
        self._set(row)
        self._sink.trial_started(row)

    def ordered(self, order: Order) -> None:
        """Records what became of an order so far."""
        self.orders[order.id] = order
        logger.info("%s: %s: %s %s", order.by, order.text, order.state, order.outcome)
        self._sink.ordered(order)

    @property
    def standings(self) -> Standings:
        """Ranks the trials by their rows as they are now."""
        return Standings(list(self.rows.values()), self._shared_by)

    def snapshot(self) -> "Ledger":
        """Returns a copy that another thread can read while this ledger changes."""
        taken = copy(self)
        taken.rows, taken.running = dict(self.rows), set(self.running)
        return taken

    def has_ended(self, trial_id: str) -> bool:
        """Returns whether the end of a trial is known."""
        return trial_id in self.rows and self.rows[trial_id].ended

    def is_judged(self, report: Report) -> bool:
        """Returns whether a searched trial's report was judged for good, also if a resumed trial repeats it.

        A driver judges a report, then records it, then lets the trial go on or records its end. So the last report of a
        trial is to be judged again if a stop ended it as interrupted, or if nothing is known to be recorded after it.
        """
        row = self.rows[report.trial_id]
        if not row.searched:
            return False
        if row.ended or report.rung != row.rung:
            return True
        return row.ended_at is None and any(_last_seen(other) > _last_seen(row) for other in self.rows.values())

    def _row(self, message: TrialMessage) -> TrialResult:
        assert self._count is not None, "this ledger is read-only"
        trial = message.checked()
        counted = self._count(trial)
        return TrialResult(
            **vars(message),
            fingerprint=trial.fingerprint,
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
    """Returns the row of a resumed trial: without its end, and with the time in which no driver ran it added."""
    pause = max(0.0, now - _last_seen(row))
    paused = row.paused_seconds + pause
    return replace(row, status=Status.INTERRUPTED, error="", curve=(), ended_at=None, paused_seconds=paused)


def _last_seen(row: TrialResult) -> float:
    """Returns a time up to which the trial is known to have run."""
    return row.ended_at or _end_by_its_seconds(row)


def _end_by_its_seconds(row: TrialResult) -> float:
    """Returns the earliest time at which the trial can have ended."""
    return row.started_at + row.paused_seconds + row.busy_seconds
