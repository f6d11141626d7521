"""Trains a trial in a worker, with one result per rung; the worker stays warm between trials."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import torch
from ray import tune

from krona_tune.backbones.geometry import Geometry
from krona_tune.record.driver_state import note_progress, place_of
from krona_tune.search.ray_internals import set_process_title
from krona_tune.search.trial_message import StepResult, TrialMessage
from krona_tune.search.worker.checkpoints import NotKept, TrialCheckpoints
from krona_tune.search.worker.errors import describe, status_of_error
from krona_tune.study.formatting import describe_adapter
from krona_tune.study.request.study_spec import Precision, Quantize
from krona_tune.study.result import Report, Status
from krona_tune.train.backbone import warm_backbone
from krona_tune.train.device import has_broken_device, keep_freed_memory, this_device
from krona_tune.train.hidden_states import HiddenStateStore
from krona_tune.train.loop import Stopped, TaskWork, TrialRun

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """The settings that every worker of a study shares: where the backbone is, how to compute, where checkpoints go.

    `folder` holds the backbone on the driver's machine; a worker that does not see it gets `name` from the hub.
    `elsewhere` is the URI at which workers on other machines find checkpoints, if the storage is a URI.
    `stored_bytes` limits the hidden states that a machine may keep in its cache folder. `geometry` is the backbone's;
    without it a worker finds it. `quantize` keeps its weights in fewer bits.
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
        return self._step().to_dict()

    def _step(self) -> StepResult:
        try:
            return self._advance()
        except Stopped:
            return self._ended(Status.STOPPED_BY_USER, "")
        except NotKept as error:
            return self._ended(Status.INTERRUPTED, str(error))
        except Exception as error:
            if has_broken_device(error):
                raise  # Ray replaces the worker and resumes the trial
            status = status_of_error(error)
            if status is Status.OUT_OF_MEMORY:
                error.add_note(describe_adapter(self._message.params))
            return self._ended(status, describe(error))

    def _ended(self, status: Status, error: str) -> StepResult:
        self._close()
        return StepResult(status=status, error=error)

    def cleanup(self) -> None:
        self._close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Does nothing: the trial writes its own state, at every rung."""

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
        with note_progress(place_of(Path(self._workplace.checkpoints), run.trial_id), lambda: run.share_done) as asked:
            report = run.advance(asked)
        self._checkpoints.keep(run)
        return self._result(run, report)

    def _result(self, run: TrialRun, report: Report) -> StepResult:
        """Returns the result of a rung; the last one of a tested trial has its only score on the test half."""
        return StepResult(
            report=report,
            checkpoint=str(self._checkpoints.of(run)),
            status=Status.COMPLETED if run.finished else None,
            test=run.evaluate_on_test() if run.finished and run.trial.kind.facts.tested else None,
        )

    def _start(self) -> TrialRun:
        device = this_device(self._workplace.precision, gpu=self._workplace.gpu, quantize=self._workplace.quantize)
        backbone = warm_backbone(self._workplace.location, device, self._workplace.geometry)
        message = self._message
        run = TrialRun(message.trial_id, message.checked(), self._works[message.task], backbone, self._store())
        try:
            self._checkpoints.resume(run)
        except BaseException:
            run.close()  # the backbone stays warm for the next trial
            raise
        return run

    def _store(self) -> HiddenStateStore | None:
        limit = self._workplace.stored_bytes
        return HiddenStateStore(platformdirs.user_cache_path("krona_tune") / "hidden_states", limit) if limit else None

    def _close(self) -> None:
        if self._run:
            self._run.close()
        self._run = None
        if self._workplace.gpu:
            torch.cuda.empty_cache()  # another trial on the same GPU may need the memory of a large one
