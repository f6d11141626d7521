"""Writes the state of a worker's trials at each rung and loads it when a trial is resumed."""

import logging
import shutil
from pathlib import Path

from krona_tune.atomic_write import UNFINISHED, atomic_folder
from krona_tune.record.trial_checkpoints import RemoteCheckpoints
from krona_tune.search.worker.errors import status_of_error
from krona_tune.study.result import Status
from krona_tune.train import checkpoint
from krona_tune.train.device import has_broken_device
from krona_tune.train.loop import TrialRun

logger = logging.getLogger(__name__)


class NotKept(Exception):
    """A trial's state could not be written; the trial stays at its last rung until it is resumed."""


class TrialCheckpoints:
    """One folder per trial below `root`, with the state of its highest rung.

    `elsewhere` is the URI at which workers on other machines find the states, if the storage is a URI.
    """

    def __init__(self, root: Path, elsewhere: str | None) -> None:
        self._root, self._remote = root, RemoteCheckpoints(elsewhere)

    def of(self, run: TrialRun) -> Path:
        """Returns where the state of the run's current rung is kept."""
        return self._root / run.trial_id / f"rung-{run.rung}"

    def resume(self, run: TrialRun) -> None:
        """Loads the run's highest usable state; renames a state that is damaged or of another trial or backbone, and
        continues from the next lower one, or from the start."""
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
                self._remote.bring(folder)

    def keep(self, run: TrialRun) -> None:
        """Writes the state under a temporary name, then moves it to its place and removes earlier rungs' states.

        Raises:
            NotKept: the state of this rung is not kept; that of the rung below is, if there is one.
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
    """Returns the state of the highest rung that a trial has kept; None if there is none."""
    return max(folder.glob("rung-*"), key=lambda path: int(path.name.removeprefix("rung-")), default=None)
