"""Gives a study's folder, and its copy elsewhere, to one process at a time."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import gethostname

from filelock import FileLock, Timeout

from krona_tune.record.remote.lease import holding, is_held
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

LOOKING_SECONDS = 0.5
"""How long whoever looks at a lock may hold it: a driver that starts meanwhile waits."""
BEFORE_A_STUDY = {".lock", ".driver", ".origin", ".index.json", ".pulling.lock", "study.log"}
"""Files of a driver that was killed before its study began."""


@contextmanager
def claim(folder: StudyFolder) -> Iterator[None]:
    """Holds the study's folder, and its copy if it has one, for this process until the context ends.

    If the study has not begun by then, nothing of it is left.

    Raises:
        Refusal: another process has it, or it can't be reached.
    """
    root, lock = folder.root, lock_of(folder)
    try:
        missing = [path for path in (root, *root.parents) if not path.exists()]
        new = _acquire(root, lock)
    except Timeout:
        raise Refusal(
            "--name", f"the study {folder.name!r} is being run", "wait for it, or choose another name"
        ) from None
    except OSError as error:
        raise Refusal("--storage", f"{root} can't be made: {error.strerror}", "name a writable folder") from None
    try:
        with holding(folder):
            with suppress(OSError):  # on a full disk nobody but this process can stop the study
                folder.driver.write_text(f"{os.getpid()} {gethostname()}", encoding="utf-8")
            yield
    finally:
        with suppress(OSError):
            folder.driver.unlink(missing_ok=True)
        if not folder.spec.exists():
            _remove([root / name for name in new], missing)
        lock.release()


def _acquire(root: Path, lock: FileLock) -> set[str]:
    """Acquires the lock and returns which files of an unbegun study are not there yet.

    Whoever had it may have removed it with an unbegun study, while this process was opening it: then it is acquired
    again, because what it locks is in no folder, and others would lock another file.
    """
    while True:
        root.mkdir(parents=True, exist_ok=True)
        new = BEFORE_A_STUDY - {path.name for path in root.iterdir()}
        lock.acquire(timeout=LOOKING_SECONDS, poll_interval=0.02)
        if _is_in_place(lock):
            return new
        lock.release()


def _is_in_place(lock: FileLock) -> bool:
    """Returns whether the file that a lock holds is still in a folder."""
    held = lock._context.lock_file_fd
    return held is None or os.fstat(held).st_nlink > 0


def _remove(files: list[Path], folders: list[Path]) -> None:
    """Removes what was made for a study that has not begun, up to a folder that holds something else."""
    with suppress(OSError):
        for path in files:
            path.unlink(missing_ok=True)
        for path in folders:
            path.rmdir()


def driver_of(folder: StudyFolder) -> tuple[int, str] | None:
    """Returns the process that runs a study and its machine; None if no process has the study."""
    if not is_locked(folder) or not folder.driver.is_file():
        return None
    process, _, machine = folder.driver.read_text(encoding="utf-8").partition(" ")
    return int(process), machine


def lock_of(folder: StudyFolder) -> FileLock:
    """Returns the study's lock, not acquired yet."""
    return FileLock(folder.root / ".lock")


def is_locked(folder: StudyFolder) -> bool:
    """Returns whether a process has the study's folder."""
    return is_lock_held(folder.root / ".lock")


def is_lock_held(path: Path) -> bool:
    """Returns whether a process holds the FileLock at a path."""
    if not path.is_file():
        return False
    if fcntl is None:
        try:
            with FileLock(path).acquire(timeout=0):
                return False
        except Timeout:
            return True
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # any number of watchers may look at once
        except OSError as error:
            return error.errno in {errno.EACCES, errno.EAGAIN}
    return False


def is_running(folder: StudyFolder) -> bool:
    """Returns whether a process has the study, here or, if it has a copy elsewhere, there."""
    return is_locked(folder) or is_held(folder)
