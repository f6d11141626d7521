"""The states of a worker's trials: kept at each rung, found again when a trial is resumed."""

import logging
import shutil
from pathlib import Path

from krona_tune.record.remote.remote_checkpoints import RemoteCheckpoints
from krona_tune.search.worker.errors import status_of_error
from krona_tune.study.atomic_write import UNFINISHED, atomic_folder
from krona_tune.study.result import Status
from krona_tune.train import checkpoint
from krona_tune.train.device import has_broken_device
from krona_tune.train.loop import TrialRun

logger = logging.getLogger(__name__)


class NotKept(Exception):
    """A trial's state could not be written: it waits at its last rung until there is room."""


class TrialCheckpoints:
    """A folder a trial below `root`, in it the state of its highest rung.

    `elsewhere` is the URI at which workers on other machines find them, where the storage is one.
    """

    def __init__(self, root: Path, elsewhere: str | None) -> None:
        self._root, self._remote = root, RemoteCheckpoints(elsewhere)

    def of(self, run: TrialRun) -> Path:
        """Where the state of the run's present rung is kept."""
        return self._root / run.trial_id / f"rung-{run.rung}"

    def resume(self, run: TrialRun) -> None:
        """Puts the run where its highest usable state is; one that is damaged, or of another trial or backbone, is set
        aside, and the trial begins at the one below, or anew."""
        folder = self._root / run.trial_id
        self._remote.bring(folder)
        while earlier := latest_checkpoint(folder):
            try:
                checkpoint.load(run, earlier)
                return
            except checkpoint.Unusable as error:
                logger.warning("%s: set aside, the trial goes on without it", error)
                aside = earlier.with_name(f"unusable-{earlier.name}")
                shutil.rmtree(aside, ignore_errors=True)
                earlier.replace(aside)
                self._remote.bring(folder)

    def keep(self, run: TrialRun) -> None:
        """Writes the state beside its place and moves it there whole; earlier rungs' states are removed.

        Raises:
            NotKept: the state of this rung is not kept; that of the rung below is, where there is one.
        """
        try:
            self._write(run, self.of(run))
        except Exception as error:
            if has_broken_device(error) or status_of_error(error) is Status.OUT_OF_MEMORY:
                raise
            raise NotKept(f"the state of {run.trial_id} could not be kept: {type(error).__name__}: {error}") from error

    def _write(self, run: TrialRun, kept: Path) -> None:
        for leftover in (kept, *kept.parent.glob(f"{UNFINISHED}*")):
            shutil.rmtree(leftover, ignore_errors=True)
        with atomic_folder(kept) as unfinished:
            checkpoint.save(run, unfinished)
        self._remote.send(kept)
        for earlier in kept.parent.glob("rung-*"):
            if earlier != kept:
                shutil.rmtree(earlier, ignore_errors=True)


def latest_checkpoint(folder: Path) -> Path | None:
    """The state of the highest rung that a trial has kept."""
    return max(folder.glob("rung-*"), key=lambda path: int(path.name.removeprefix("rung-")), default=None)
