"""Finds and removes the checkpoints that a study needs no more."""

import shutil
from collections.abc import Iterable, Sequence

from krona_tune.record.remote.remote_checkpoints import RemoteCheckpoints
from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import facts_of
from krona_tune.study.request.study_spec import Keep, StudySpec
from krona_tune.study.result import TrialResult
from krona_tune.study.standings import Standings


def unneeded(rows: Sequence[TrialResult], spec: StudySpec, keep: Keep) -> list[str]:
    """Returns the trials whose checkpoints are needed no more: of those that have ended, all but each task's winner.

    With "finalists" finalists and full trainings keep theirs too, with "all" every trial. Interrupted trials need
    theirs to go on.
    """
    standings = Standings(rows, spec.shared_by)
    winners = {row.trial_id for task in spec.tasks if (row := standings.winner(task))}
    return sorted(
        row.trial_id
        for row in rows
        if keep != "all" and not (keep == "finalists" and facts_of(row.kind).kept)
        if row.ended and row.trial_id not in winners
    )


def size(folder: StudyFolder, trials: Iterable[str]) -> int:
    """Returns the bytes of these trials' checkpoints on this machine."""
    files = (file for trial in trials for file in (folder.checkpoints / trial).rglob("*"))
    return sum(file.stat().st_size for file in files if file.is_file())


def remove(folder: StudyFolder, trials: Sequence[str]) -> None:
    """Removes these trials' checkpoints, also from the study's copy elsewhere, if it has one."""
    for trial in trials:
        shutil.rmtree(folder.checkpoints / trial, ignore_errors=True)
    RemoteCheckpoints(folder.remote_checkpoints).remove(trials)
