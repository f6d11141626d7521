"""The lock by which one process on this machine has a study's folder."""

from filelock import FileLock, Timeout

from krona_tune.study.folder import StudyFolder


def lock_of(folder: StudyFolder) -> FileLock:
    """The study's lock, not taken yet."""
    return FileLock(folder.root / ".lock")


def is_locked(folder: StudyFolder) -> bool:
    """Whether a process has the study's folder."""
    if not (folder.root / ".lock").exists():
        return False
    try:
        with lock_of(folder).acquire(timeout=0):
            return False
    except Timeout:
        return True
