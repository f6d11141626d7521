"""Trains a trial in a worker, with one result and one kept state per rung; the worker stays warm between trials."""

import logging
import shutil
import socket
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from ray import tune

from krona_tune.atomic_write import UNFINISHED, atomic_folder
from krona_tune.backbones.geometry import Geometry
from krona_tune.record.driver_state import TrialProgress, forget_progress, note_progress, place_of
from krona_tune.record.ownership import WorkersView, is_locked
from krona_tune.record.trial_checkpoints import RemoteCheckpoints, latest_checkpoint, state_name
from krona_tune.refusal import told
from krona_tune.search.ray_internals import nothing_saved, set_process_title
from krona_tune.search.trial_message import StepResult, TrialMessage
from krona_tune.study.folder import StudyFolder
from krona_tune.study.formatting import describe_adapter
from krona_tune.study.request.study_spec import Precision, Quantize
from krona_tune.study.result import Report, Status
from krona_tune.train import checkpoint
from krona_tune.train.backbone import Backbone, warm_backbone
from krona_tune.train.device import (
    Device,
    has_broken_device,
    keep_freed_memory,
    keep_to_share,
    lacks_memory,
    this_device,
)
from krona_tune.train.evaluate import Diverged
from krona_tune.train.hidden_states import HiddenStateStore
from krona_tune.train.loop import TaskWork, TrialRun, TrialStopped

logger = logging.getLogger(__name__)
LOADING_PAUSES = (5.0, 30.0)
"""The seconds before each further try to load a backbone: a hub or a file system may be away for a moment."""


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """The settings that every worker of a study shares: where the backbone is, how to compute, where checkpoints go.

    `folder` holds the backbone on the driver's machine; a worker that does not see it gets `name` from the hub.
    `elsewhere` is the URI at which workers on other machines find checkpoints, if the storage is a URI.
    `stored_bytes` limits the hidden states that a machine may keep in its cache folder. `geometry` is the backbone's;
    without it a worker finds it. `quantize` keeps its weights in fewer bits. `share` is that of a GPU which a trial
    has, 1 if it has whole ones or none.
    """

    folder: str
    name: str
    precision: Precision
    gpu: bool
    threads: int
    checkpoints: str
    elsewhere: str | None = None
    stored_bytes: int = 0
    geometry: Geometry | None = None
    quantize: Quantize | None = None
    share: float = 1.0

    @property
    def device(self) -> Device:
        """Returns what this process computes on, and in."""
        return this_device(self.precision, gpu=self.gpu, quantize=self.quantize)

    @property
    def location(self) -> str:
        return self.folder if Path(self.folder).is_dir() else self.name


class KronaTrial(tune.Trainable):  # type: ignore[misc]
    """A trial as a Tune trainable; one `step` is one rung. A failure becomes a result and never crashes the study.

    The trained state is kept at each rung, in the study's own folder; a trial that finds such a state continues
    from it, whether Ray restarted it or the study was resumed.
    """

    def setup(self, config: dict[str, Any], *, works: dict[str, TaskWork], workplace: Workplace) -> None:
        torch.set_num_threads(workplace.threads)
        keep_freed_memory()
        self._works, self._workplace = works, workplace
        self._checkpoints = TrialCheckpoints(Path(workplace.checkpoints), workplace.elsewhere)
        self._message = TrialMessage.from_dict(config)
        self._run: TrialRun | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._close()
        self.config, self._message = new_config, TrialMessage.from_dict(new_config)
        return True

    def __repr__(self) -> str:
        """Returns the worker's name in the Ray dashboard: the study's, because one worker runs many trials."""
        return f"KronaTrial({Path(self._workplace.checkpoints).parent.name})"

    def step(self) -> dict[str, Any]:
        result = self._step()
        if result.status:
            self._give_memory_back()  # here, because until now the error that ended a trial held what it had computed
        return result.to_dict()

    def _step(self) -> StepResult:
        began, reached = time.perf_counter(), StepResult()
        try:
            reached = self._advance()
            return self._tested(reached)
        except TrialStopped:
            return self._ended(Status.STOPPED_BY_USER, "", began)
        except (NotKept, NotLoaded) as error:
            return self._ended(Status.INTERRUPTED, str(error), began)
        except Exception as error:
            if has_broken_device(error):
                raise  # Ray replaces the worker and resumes the trial
            status = status_of_error(error)
            if status is Status.OUT_OF_MEMORY:
                error.add_note(describe_adapter(self._message.params))
            ended = self._ended(status, describe(error), began)
            return replace(reached, status=status, error=ended.error) if reached.report else ended

    def _ended(self, status: Status, error: str, began: float) -> StepResult:
        """Returns the end with the seconds of its step, which no report counts, and with what no report has of the
        curve; an interrupted trial will train those steps again."""
        curve = self._run.curve.unreported if self._run and status is not Status.INTERRUPTED else ()
        self._close()
        return StepResult(status=status, error=error, curve=curve, seconds=time.perf_counter() - began)

    def cleanup(self) -> None:
        self._close()

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Keeps nothing, as Tune asks at a pause: the trial writes its own state at every rung, and a worker on another
        node may not see Tune's folder."""
        return nothing_saved()

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Does nothing: the trial finds its own state."""

    def _advance(self) -> StepResult:
        """Trains to the next rung; a resumed trial first repeats its last report."""
        if self._run is None:
            self._run = self._start()
            if self._run.last_report:
                return self._result(self._run, self._run.checked(self._run.last_report))
        run = self._run
        set_process_title(f"{run.trial_id}, {describe_adapter(self._message.params)}")

        def progress() -> TrialProgress:
            return TrialProgress(share=run.share_done, curve=run.curve.points)

        with note_progress(self._note_of(run), progress, lambda: self._checkpoints.lost) as asked:
            report = run.advance(asked)
        self._checkpoints.keep(run)
        if run.finished:
            forget_progress(self._note_of(run))
        return self._result(run, report)

    def _result(self, run: TrialRun, report: Report) -> StepResult:
        """Returns the result of a rung, without a score on the test half."""
        status = Status.COMPLETED if run.finished else None
        return StepResult(report=report, checkpoint=str(self._checkpoints.of(run)), status=status)

    def _tested(self, reached: StepResult) -> StepResult:
        """Returns the result of a rung; the last one of a tested trial gets its only score on the test half."""
        run = self._run
        if run is None or not (run.finished and run.trial.kind.facts.tested):
            return reached
        return replace(reached, test=run.evaluate_on_test())

    def _start(self) -> TrialRun:
        message, backbone = self._message, self._backbone()
        store = HiddenStateStore.of_this_machine(self._workplace.stored_bytes)
        run = TrialRun(message.trial_id, message.checked(), self._works[message.task], backbone, store)
        try:
            self._checkpoints.resume(run)
        except BaseException:
            run.close()  # the backbone stays warm for the next trial
            raise
        return run

    def _backbone(self) -> Backbone:
        """Returns the backbone. Raises NotLoaded if it can't be loaded on this machine."""
        place, pauses = self._workplace, iter(LOADING_PAUSES)
        while True:
            try:
                keep_to_share(place.share)
                return warm_backbone(place.location, place.device, place.geometry)
            except Exception as error:
                cause = error.__cause__ or error
                if has_broken_device(cause) or lacks_memory(cause):
                    raise cause from None  # a refusal of the whole start would hide what it is
                pause = next(pauses, None)
                if pause is None:
                    raise NotLoaded(f"{socket.gethostname()} can't load the backbone: {told(error)}") from error
                logger.warning("the backbone can't be loaded, trying again in %g s: %s", pause, told(error))
            time.sleep(pause)

    def _note_of(self, run: TrialRun) -> Path:
        return place_of(Path(self._workplace.checkpoints), run.trial_id)

    def _close(self) -> None:
        if self._run:
            forget_progress(self._note_of(self._run))
            self._checkpoints.leave(self._run)
            self._run.close()
        self._run = None
        self._give_memory_back()

    def _give_memory_back(self) -> None:
        """Frees what no tensor needs: another trial on the same GPU may need the memory of a large one."""
        if self._workplace.gpu:
            torch.cuda.empty_cache()


class NotKept(Exception):
    """A trial's state could not be written; the trial stays at its last rung until it is resumed."""


class NotLoaded(Exception):
    """This machine can't load the backbone, so each trial here would fail; this one goes on in a resumed study."""


class TrialCheckpoints:
    """One folder per trial below `root`, with the state of its highest rung.

    `elsewhere` is the URI at which workers on other machines find the states, if the storage is a URI.
    """

    def __init__(self, root: Path, elsewhere: str | None) -> None:
        self._root, self._remote = root, RemoteCheckpoints(elsewhere)
        self._study = WorkersView(root.parent, may_lack=elsewhere is not None)

    @property
    def lost(self) -> bool:
        """Returns whether the study's folder is no longer the one in which this worker began."""
        return self._study.lost

    def of(self, run: TrialRun) -> Path:
        """Returns where the state of the run's current rung is kept."""
        return self._root / run.trial_id / state_name(run.rung)

    def resume(self, run: TrialRun) -> None:
        """Loads the run's highest usable state; renames a state that is damaged or of another trial or backbone, and
        continues from the next lower one, or from the start.

        Raises:
            NotKept: the study's folder is lost.
        """
        self._refuse_lost(run)
        folder = self._root / run.trial_id
        self._remote.bring(folder)
        while earlier := latest_checkpoint(folder):
            try:
                checkpoint.load(run, earlier)
                return
            except checkpoint.Unusable as error:
                logger.warning("%s: renamed, the trial continues without it", error)
                aside = earlier.with_name(f"unusable-{earlier.name}")
                shutil.rmtree(aside, ignore_errors=True)
                earlier.replace(aside)
                self._remote.forget(earlier)
                self._remote.bring(folder)

    def keep(self, run: TrialRun) -> None:
        """Writes the state under a temporary name, then moves it to its place and removes earlier rungs' states.

        Raises:
            NotKept: the state of this rung is not kept; that of the rung below is, if there is one.
        """
        self._refuse_lost(run)
        try:
            self._write(run, self.of(run))
        except Exception as error:
            if has_broken_device(error) or lacks_memory(error):
                raise
            raise NotKept(f"the state of {run.trial_id} could not be kept: {type(error).__name__}: {error}") from error

    def _refuse_lost(self, run: TrialRun) -> None:
        """Raises NotKept if the study's folder is lost: written there, a state would make a folder in its place."""
        if self.lost:
            raise NotKept(f"the state of {run.trial_id} could not be kept: {self._study.root} was moved or replaced")

    def leave(self, run: TrialRun) -> None:
        """Leaves a trial that is over in this worker to the copy elsewhere. On the driver's own machine its state stays
        here, too: the driver removes what the study needs no more."""
        if not is_locked(StudyFolder(self._root.parent)):
            self._remote.leave(self._root / run.trial_id)

    def _write(self, run: TrialRun, kept: Path) -> None:
        for leftover in (kept, *kept.parent.glob(f"{UNFINISHED}*")):
            shutil.rmtree(leftover, ignore_errors=True)
        with atomic_folder(kept) as unfinished:
            checkpoint.save(run, unfinished)
        self._remote.send(kept)
        for earlier in kept.parent.glob("rung-*"):
            if earlier != kept:
                shutil.rmtree(earlier, ignore_errors=True)


def status_of_error(error: BaseException) -> Status:
    """Returns the status that an error gives a trial."""
    if lacks_memory(error):
        return Status.OUT_OF_MEMORY
    return Status.DIVERGED if isinstance(error, Diverged) else Status.FAILED


def describe(error: BaseException) -> str:
    """Returns the error's type, message and notes, and its last three stack frames, innermost first."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    path = " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    said = "; ".join([str(error), *getattr(error, "__notes__", [])])
    return f"{type(error).__name__}: {said} ({path})"
