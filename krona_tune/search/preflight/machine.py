"""Checks the machine before Ray or torch start, because their own errors would be less clear."""

import os
import sys
from pathlib import Path

import platformdirs

from krona_tune.refusal import Refusal

SOCKET = "ray/session_2026-01-31_23-59-59_123456_{pid}/sockets/plasma_store"
"""The longest path that Ray gives to a Unix socket below its temporary folder."""
LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
"""The most bytes of a Unix socket's path."""


def refuse_gone_folder() -> None:
    """Raises a Refusal if the working directory was removed."""
    try:
        Path.cwd()
    except OSError as error:
        raise Refusal("the working directory", f"it can't be used: {error.strerror}", "change to another") from None


def refuse_cache() -> None:
    """Raises a Refusal if the cache folder can't be created or written."""
    folder = platformdirs.user_cache_path("krona_tune")
    _refuse_unwritable(folder, "the cache folder", "set HOME or XDG_CACHE_HOME to a folder that can be written")


def refuse_temporary_folder() -> None:
    """Raises a Refusal if Ray can't start in the temporary folder."""
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "the temporary folder")
    folder = Path(os.environ.get(name, "/tmp"))
    fix = "set RAY_TMPDIR to a folder with a short path, such as /tmp"
    if not os.environ.get(name, "/tmp").startswith("/"):
        raise Refusal(name, f"{os.environ[name]!r} is not an absolute path", fix)
    _refuse_unwritable(folder, name, fix)
    longest = len(os.fsencode(folder / SOCKET.format(pid=os.getpid())))
    if longest > LONGEST_SOCKET:
        most = LONGEST_SOCKET - longest + len(os.fsencode(folder))
        raise Refusal(name, f"{folder} is too long for Ray's sockets, which leave it {most} bytes", fix)


def _refuse_unwritable(folder: Path, place: str, fix: str) -> None:
    nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise Refusal(place, f"{folder} can't be made, {nearest} is no folder", fix)
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise Refusal(place, f"{nearest} can't be written", fix)
