"""The lock by which one process on this machine has a study's folder."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from krona_tune.record.remote.lease import holding
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder

BEFORE_A_STUDY = {".lock", ".origin", ".index.json", ".pulling.lock", "study.log"}
"""What a driver leaves that was killed before its study began."""


@contextmanager
def claim(folder: StudyFolder) -> Iterator[None]:
    """The study's folder, and its copy where it has one, belong to this process until the context ends.

    Of a study that has not begun by then nothing is left.

    Raises:
        Refusal: it is taken, or can't be reached.
    """
    root, lock = folder.root, lock_of(folder)
    try:
        missing = [path for path in (root, *root.parents) if not path.exists()]
        root.mkdir(parents=True, exist_ok=True)
        new = BEFORE_A_STUDY - {path.name for path in root.iterdir()}
        lock.acquire(timeout=0)
    except Timeout:
        raise Refusal(
            "--name", f"the study {folder.name!r} is being run", "wait for it, or choose another name"
        ) from None
    except OSError as error:
        raise Refusal("--storage", f"{root} can't be made: {error.strerror}", "name a writable folder") from None
    try:
        with holding(folder):
            yield
    finally:
        if not folder.spec.exists():
            _remove([root / name for name in new], missing)
        lock.release()


def _remove(files: list[Path], folders: list[Path]) -> None:
    """Removes what was made for a study that has not begun, up to a folder that holds something else."""
    with suppress(OSError):
        for path in files:
            path.unlink(missing_ok=True)
        for path in folders:
            path.rmdir()


def lock_of(folder: StudyFolder) -> FileLock:
    """The study's lock, not taken yet."""
    return FileLock(folder.root / ".lock")


def is_locked(folder: StudyFolder) -> bool:
    """Whether a process has the study's folder."""
    if not (folder.root / ".lock").is_file():
        return False
    try:
        with lock_of(folder).acquire(timeout=0):
            return False
    except Timeout:
        return True
