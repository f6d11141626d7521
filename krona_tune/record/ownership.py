"""Whether a study runs, and which of its trials do then."""

from collections.abc import Iterable

from krona_tune.record.lock import is_locked
from krona_tune.record.remote.lease import is_held
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Status, TrialResult


def is_running(folder: StudyFolder) -> bool:
    """Whether a process has the study, here or, where it has a copy elsewhere, there."""
    return is_locked(folder) or is_held(folder)


def running_trials(rows: Iterable[TrialResult]) -> frozenset[str]:
    """The trials that have begun and not ended: they run while the study does, else they were interrupted."""
    return frozenset(row.trial_id for row in rows if row.status is Status.INTERRUPTED and row.ended_at is None)
