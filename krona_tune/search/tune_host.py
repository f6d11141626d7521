"""Runs the trials of a phase with Ray Tune: the seam between Tune on the driver's side and the study.

Tune's events go to the study's own loop, its trials pass the gate of the orders.
"""

import errno
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol

from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from krona_tune.refusal import told
from krona_tune.search.ray_internals import RayWatch, forget_failures, prepare_tune, release_idle_workers
from krona_tune.search.searchers.asha import CONTINUE, STOP
from krona_tune.search.searchers.task_searcher import Gate, GatedSearcher
from krona_tune.search.startup.slots import Slots
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.search.trial_message import StepResult, TrialMessage
from krona_tune.search.worker.trainable import KronaTrial, Workplace
from krona_tune.train.loop import TaskWork

if TYPE_CHECKING:
    from krona_tune.search.searchers.surrogate import TransferSurrogate

IDLE_SECONDS = 0.1
PAUSE = str(TrialScheduler.PAUSE)


class _Unpickled:
    """An object of Tune's driver that is pickled as nothing: a resumed study is rebuilt from its records."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class GatedScheduler(_Unpickled, FIFOScheduler):  # type: ignore[misc]
    """A scheduler that decides like another one, as far as the gate lets trials run.

    A paused trial's state is that of its last rung: it continues from there, on any worker.
    """

    def __init__(self, inner: TrialScheduler, gate: Gate) -> None:
        super().__init__()
        self._inner, self._gate = inner, gate

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = str(self._inner.on_trial_result(tune_controller, trial, result))
        if decision == STOP:
            self._gate.judge(trial.trial_id)
        return PAUSE if decision == CONTINUE and _running(tune_controller) > self._gate.slots() else decision

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Returns a trial to start or to continue, or None; ends the paused trials that somebody stopped."""
        for trial in list(tune_controller.get_live_trials()):  # an end takes it from these
            if trial.status == Trial.PAUSED and self._gate.stopped(trial.trial_id):
                tune_controller.stop_trial(trial)
        running = self._gate.running = _running(tune_controller)
        self._gate.release = partial(release_idle_workers, tune_controller)
        if running >= self._gate.slots():
            self._gate.release()
            if not running:
                time.sleep(IDLE_SECONDS)  # with nothing to wait for, Tune would ask again at once
            return None
        return super().choose_trial_to_run(tune_controller)


def _running(tune_controller: Any) -> int:
    return sum(trial.status == Trial.RUNNING for trial in tune_controller.get_live_trials())


logger = logging.getLogger(__name__)
LOW_ON_MEMORY = "running low on memory"
"""What Ray says when it ends a node's largest worker before the machine runs out of memory."""
RECORDED_SECONDS = 2.0
"""How long the end of recording waits for an event that is being recorded."""


class TrialEvents(Protocol):
    """Whoever runs a study's trials: what becomes of each, in the order in which it happens."""

    stopper: StudyStopper

    def start(self, message: TrialMessage) -> None:
        """Takes a trial that begins or goes on, perhaps on another worker."""

    def report(self, message: TrialMessage, step: StepResult) -> None:
        """Takes the result of a rung."""

    def end(self, message: TrialMessage, tune_id: str, result: dict[str, Any] | None) -> None:
        """Takes the end of a trial with its last result."""

    def lose(self, message: TrialMessage, tune_id: str, error: str, *, out_of_memory: bool) -> None:
        """Takes the end of a trial that lost its worker too often."""

    def obey(self) -> None:
        """Is called several times a second between the events."""

    def changed(self) -> None:
        """Is called after each event."""


def _recorded(event: Callable[..., None]) -> Callable[..., None]:
    """Makes a callback record an event and then show it, as long as the recorder is open.

    An exception in a driver callback would end the whole study at once. Instead, an error in recording halts the study,
    which continues from its checkpoints when it is resumed; an error in the view is only logged.
    """

    @wraps(event)
    def recorded(self: "Recorder", *args: Any, **info: Any) -> None:
        with self._lock:
            if self._closed:
                return
            try:
                event(self, *args, **info)
            except Exception as error:
                logger.exception("the event %s could not be recorded", event.__name__)
                self._events.stopper.halt(f"the event {event.__name__} could not be recorded: {told(error)}")
            try:
                self._events.changed()
            except Exception:
                logger.exception("the event %s could not be shown", event.__name__)

    return recorded


class Recorder(_Unpickled, Callback):  # type: ignore[misc]
    """A Tune callback that translates what happens to Tune's trials into a study's events."""

    def __init__(self, events: TrialEvents) -> None:
        self._events = events
        self._lock, self._closed = threading.RLock(), False
        self._reached: dict[str, int] = {}

    def close(self) -> None:
        """Stops recording, so that later events of an abandoned run are ignored."""
        taken = self._lock.acquire(timeout=RECORDED_SECONDS)
        self._closed = True
        if taken:
            self._lock.release()

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        with self._lock:
            if self._closed:
                return
            try:
                self._events.obey()
            except Exception as error:
                logger.exception("what happens between two events failed")
                self._events.stopper.halt(f"an order could not be carried out: {told(error)}")

    @_recorded
    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._events.start(TrialMessage.from_dict(trial.config))

    @_recorded
    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        step, reached = StepResult.from_dict(result), self._reached.get(trial.trial_id, 0)
        if step.report and step.report.examples > reached:  # a resumed trial repeats its last report
            self._reached[trial.trial_id] = step.report.examples
            forget_failures(trial)
        self._events.report(TrialMessage.from_dict(trial.config), step)

    @_recorded
    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._events.end(TrialMessage.from_dict(trial.config), trial.trial_id, trial.last_result)

    @_recorded
    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        low = LOW_ON_MEMORY in _last_failure(trial)
        error = f"Ray ended the worker, the node was {LOW_ON_MEMORY}" if low else _last_line(trial)
        self._events.lose(TrialMessage.from_dict(trial.config), trial.trial_id, error, out_of_memory=low)


class TuneStopper(_Unpickled, tune.Stopper):  # type: ignore[misc]
    """Passes Tune's questions whether to stop on to the study."""

    def __init__(self, stopper: StudyStopper) -> None:
        self._stopper = stopper

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self._stopper.stop(trial_id, result)

    def stop_all(self) -> bool:
        return self._stopper.stop_all()


def _last_line(trial: Any) -> str:
    """Returns the last line of Ray's error for a trial that lost its worker."""
    error = getattr(trial, "pickled_error_file", None) and trial.get_pickled_error()
    return told(error, -1) if error else "the worker was lost"


def _last_failure(trial: Any) -> str:
    """Returns the text of a trial's last error, which Ray keeps even if it keeps no exception."""
    kept = getattr(trial, "error_file", None)
    text = Path(kept).read_text(encoding="utf-8") if kept and Path(kept).exists() else ""
    return text.rpartition("Failure # ")[2]


DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}
WATCH_SECONDS = 0.5
"""The time between two checks whether Ray is still running."""
RETRIES = 2
"""How often a trial that loses its worker again and again is resumed from the same rung, or from its start."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Holds the input of one Tune run: its searcher, the workers' data, and the scheduler that stops trials early, if
    one does.

    `new` counts the trials of each task that have no row yet; `surrogate` is that of the whole study, if one proposes.
    """

    searcher: GatedSearcher
    new: Mapping[str, int]
    works: Mapping[str, TaskWork]
    scheduler: TrialScheduler | None = None
    surrogate: "TransferSurrogate | None" = None


def tune_trials(phase: Phase, events: TrialEvents, *, workplace: Workplace, slots: Slots, storage: Path) -> None:
    """Runs the phase to its end or until it is stopped; returns at once if the phase has no trials.

    Where Tune fails, on a full disk for instance, the study halts; where Ray is lost, Tune is abandoned.

    Args:
        events: is told what happens, by the thread that Tune runs in.
        storage: the folder in which Tune keeps its own state.
    """
    stopper = events.stopper
    if phase.searcher.exhausted or stopper.stop_all():
        return
    prepare_tune(slots.count)
    trainable = tune.with_resources(
        tune.with_parameters(KronaTrial, works=phase.works, workplace=workplace),
        {"cpu": slots.cpus, "gpu": slots.gpus},
    )
    trainable.__name__ = trainable.__qualname__ = KronaTrial.__name__  # the class name in the dashboard
    recorder = Recorder(events)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=phase.searcher,
            scheduler=GatedScheduler(phase.scheduler or FIFOScheduler(), phase.searcher.gate),
            num_samples=-1,  # the searcher says when there are no more, and how many run at once
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.config["trial_id"],
            trial_dirname_creator=lambda trial: trial.config["trial_id"],
        ),
        run_config=tune.RunConfig(
            name=f"run-{len(list(storage.glob('run-*'))) + 1}",
            storage_path=str(storage.resolve()),
            callbacks=[recorder],
            stop=TuneStopper(stopper),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            verbose=0,
            progress_reporter=_Silent(),
        ),
    )
    try:
        watched(tuner.fit, RayWatch().lost, stopper)
    finally:
        recorder.close()


class _Silent(tune.ProgressReporter):  # type: ignore[misc]
    """Reports nothing: in a notebook, Tune's own reporter clears what the cell shows, even without verbosity."""

    def should_report(self, trials: Any, done: bool = False) -> bool:
        return False

    def report(self, trials: Any, done: bool, *sys_info: Any) -> None: ...


def watched(run: Callable[[], object], lost: Callable[[], str | None], stopper: StudyStopper) -> None:
    """Runs Tune in its own thread and waits for it, because a call into a lost Ray may never return.

    Args:
        lost: returns why Ray is lost, or None while it is running.
    """
    ended: Future[object] = Future()
    Thread(target=_run_into, args=(run, ended), name="tune", daemon=True).start()
    try:
        while not ended.done():
            if stopper.at_once:
                raise KeyboardInterrupt
            if reason := lost():
                stopper.abandon(reason)
                return
            with suppress(TimeoutError):
                ended.exception(WATCH_SECONDS)
    except KeyboardInterrupt:
        stopper.abandon("a second request to stop")
        raise
    if error := ended.exception():
        logger.error("Tune failed", exc_info=error)
        if reason := lost():
            stopper.abandon(reason)
        else:
            stopper.halt(_failure(error))


def _run_into(run: Callable[[], object], ended: "Future[object]") -> None:
    try:
        ended.set_result(run())
    except BaseException as error:
        ended.set_exception(error)


def _failure(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return f"Tune's state could not be kept: {error}"
    return f"Ray Tune failed: {told(error)}"
