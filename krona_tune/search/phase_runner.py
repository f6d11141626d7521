"""Runs one phase of a study after the other, with orders carried out and the driver's state written meanwhile."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from krona_tune.record.driver_state import DriverState, End, Stage, write_driver_state
from krona_tune.search.ledger import Ledger
from krona_tune.search.orders.study_orders import StudyOrders
from krona_tune.search.startup.begin import Started
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.search.terminal.live_view import View
from krona_tune.search.tune_run import Phase, tune_trials
from krona_tune.search.worker.trainable import Workplace
from krona_tune.study.redact import redact

SECONDS = 2.0
"""The time between two writings of the state."""
PAUSED_SECONDS = 0.2


@dataclass(kw_only=True)
class PhaseRunner:
    """What runs the phases of a study. `changed` is called after each event of a trial; `left` returns the forecast
    seconds, if there is a forecast."""

    started: Started
    ledger: Ledger
    stopping: StudyStopper
    orders: StudyOrders
    view: View
    changed: Callable[[], None]
    left: Callable[[], float] | None
    stage: Stage = "search"
    _written: float = 0.0

    def run(self, phase: Phase, stage: Stage) -> None:
        """Runs the phase to its end, or until the study is stopped."""
        self.stage = stage
        self.orders.ticked, self.orders.state_changed = self._write_if_due, self._write
        self.orders.serve(phase.searcher, search=stage == "search")
        while not (self.orders.slots() or self.stopping.stop_all()):
            self.orders.look()  # a study that waits needs no worker
            time.sleep(PAUSED_SECONDS)
        tune_trials(
            phase,
            self.ledger,
            self.stopping,
            self.changed,
            self.orders.look,
            workplace=workplace(self.started),
            slots=replace(self.started.slots, count=self.orders.most),
            storage=self.started.folder.ray,
        )
        self.orders.leave()

    def end(self) -> None:
        """Says that no trial runs any more."""
        self.stage = "end"
        self._write()
        self.orders.close()

    def say_end(self) -> None:
        """Says how the driver ends."""
        stopping = self.stopping
        how: End = "lost" if stopping.lost else "halted" if stopping.halted else stopping.asked or "finished"
        self._write(how, redact(stopping.lost or stopping.halted))

    def _write_if_due(self) -> None:
        if time.monotonic() - self._written >= SECONDS:
            self._write()

    def _write(self, end: End = "", reason: str = "") -> None:
        self._written = time.monotonic()
        ended, trials = self.view.counts()
        state = DriverState(
            stage=self.stage,
            trials=trials,
            ended=ended,
            seconds_left=self.left() if self.left else None,
            slots=self.orders.allowed,
            most=self.orders.most,
            share=self.orders.share,
            paused=self.orders.paused,
            end=end,
            reason=reason,
            at=time.time(),
        )
        write_driver_state(self.started.folder, state)


def workplace(started: Started) -> Workplace:
    """Returns what every worker of the study shares."""
    return Workplace(
        folder=started.source.location,
        name=started.source.name,
        precision=started.manifest.computes_in or started.plan.precision,
        gpu=started.slots.gpus > 0,
        threads=max(1, int(started.slots.cpus)),
        checkpoints=str(started.folder.checkpoints.resolve()),
        elsewhere=started.folder.remote_checkpoints,
        stored_bytes=int(started.plan.spec.resources.stored_states_gb * 1e9),
        geometry=started.plan.geometry,
        quantize=started.plan.spec.backbone.quantize,
    )
