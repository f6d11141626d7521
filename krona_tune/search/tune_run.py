"""Runs the remaining trials of a phase with Ray Tune."""

import errno
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.schedulers import TrialScheduler

from krona_tune.refusal import told
from krona_tune.search.ledger import Ledger
from krona_tune.search.ray_internals import RayWatch, prepare_tune
from krona_tune.search.schedulers.gated_scheduler import GatedScheduler
from krona_tune.search.searchers.gated_searcher import GatedSearcher
from krona_tune.search.startup.cluster import Slots
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.search.tune_callback import Recorder
from krona_tune.search.worker.trainable import KronaTrial, Workplace
from krona_tune.train.loop import TaskWork

if TYPE_CHECKING:
    from krona_tune.search.searchers.study_model import StudyModel

logger = logging.getLogger(__name__)

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}
WATCH_SECONDS = 0.5
"""The time between two checks whether Ray is still running."""
RETRIES = 2
"""How often a trial that lost its worker is resumed from its last rung."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """The input of one Tune run: its searcher, its scheduler, its number of trials, and the workers' data.

    `new` counts the trials of each task that have no row yet; `model` is that of the whole study, if one proposes.
    """

    searcher: GatedSearcher
    scheduler: TrialScheduler
    trials: int
    new: Mapping[str, int]
    works: Mapping[str, TaskWork]
    model: "StudyModel | None" = None


def tune_trials(
    phase: Phase,
    ledger: Ledger,
    stopping: StudyStopper,
    changed: Callable[[], None],
    tick: Callable[[], None] = lambda: None,
    *,
    workplace: Workplace,
    slots: Slots,
    storage: Path,
) -> None:
    """Runs the phase to its end or until it is stopped; returns at once if the phase has no trials.

    Where Tune fails, on a full disk for instance, the study halts; where Ray is lost, Tune is abandoned.

    Args:
        changed: called after each event of a trial.
        tick: called several times a second between the events.
        storage: the folder in which Tune keeps its own state.
    """
    if phase.searcher.exhausted or stopping.stop_all():
        return
    prepare_tune(slots.count)
    trainable = tune.with_resources(
        tune.with_parameters(KronaTrial, works=phase.works, workplace=workplace),
        {"cpu": slots.cpus, "gpu": slots.gpus},
    )
    trainable.__name__ = trainable.__qualname__ = KronaTrial.__name__  # the class name in the dashboard
    recorder = Recorder(ledger, stopping, changed, tick)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=phase.searcher,
            scheduler=GatedScheduler(phase.scheduler, phase.searcher.gate),
            num_samples=-1,  # the searcher says when there are no more, and how many run at once
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.config["trial_id"],
            trial_dirname_creator=lambda trial: trial.config["trial_id"],
        ),
        run_config=tune.RunConfig(
            name=f"run-{len(list(storage.glob('run-*'))) + 1}",
            storage_path=str(storage.resolve()),
            callbacks=[recorder],
            stop=stopping,
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            verbose=0,
            progress_reporter=_Silent(),
        ),
    )
    try:
        watched(tuner.fit, RayWatch().lost, stopping)
    finally:
        recorder.close()


class _Silent(tune.ProgressReporter):  # type: ignore[misc]
    """Reports nothing: in a notebook, Tune's own reporter clears what the cell shows, even without verbosity."""

    def should_report(self, trials: Any, done: bool = False) -> bool:
        return False

    def report(self, trials: Any, done: bool, *sys_info: Any) -> None: ...


def watched(run: Callable[[], object], lost: Callable[[], str | None], stopping: StudyStopper) -> None:
    """Runs Tune in its own thread and waits for it, because a call into a lost Ray may never return.

    Args:
        lost: returns why Ray is lost, or None while it is running.
    """
    ended: Future[object] = Future()
    Thread(target=_run_into, args=(run, ended), name="tune", daemon=True).start()
    try:
        while not ended.done():
            if reason := lost():
                stopping.abandon(reason)
                return
            with suppress(TimeoutError):
                ended.exception(WATCH_SECONDS)
    except KeyboardInterrupt:
        stopping.abandon("a second request to stop")
        raise
    if error := ended.exception():
        logger.error("Tune failed", exc_info=error)
        if reason := lost():
            stopping.abandon(reason)
        else:
            stopping.halt(_failure(error))


def _run_into(run: Callable[[], object], ended: "Future[object]") -> None:
    try:
        ended.set_result(run())
    except BaseException as error:
        ended.set_exception(error)


def _failure(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return f"Tune's state could not be kept: {error}"
    return f"Ray Tune failed: {told(error)}"
