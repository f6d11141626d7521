"""Starts the command line's driver of a study in a process of its own, and stops it."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname

from krona_tune.hub import environment_of_others
from krona_tune.record.ownership import driver_of, is_locked, this_host
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder

CODE = "from krona_tune.cli import program; program()"
LAST_LINES = 10
"""How many of a driver's last lines an error shows."""


DriverProcess = subprocess.Popen[bytes]


def start_driver(
    words: Sequence[str], output: Path, *, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> DriverProcess:
    """Starts `krona-tune` with these words in a process that outlives this one and hears none of its signals.

    Args:
        environment: variables beside those of this process, see `environment_of_others`.
        folder: the process's working folder; None: this one's.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-c", CODE, *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment_of_others() | dict(environment or {}),
            cwd=folder,
        )


def last_lines(output: Path) -> str:
    """Returns the last lines that a driver wrote."""
    return "\n".join(output.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-LAST_LINES:])


_RUNS, RUNS_IN = threading.Lock(), list[threading.Thread]()
"""Held while a study runs in this process, in which there is one Ray; and the thread that runs it."""


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Raises a Refusal if another thread of this process runs a study."""
    if not _RUNS.acquire(blocking=False):
        raise Refusal("run", "another study runs in this process", "wait for its end, or use run(wait=False)")
    RUNS_IN[:] = [threading.current_thread()]
    try:
        yield
    finally:
        RUNS_IN.clear()
        _RUNS.release()


def stop_driver(folder: StudyFolder, child: DriverProcess | None, seconds: float) -> None:
    """Asks the process that runs a study to stop, or the `child` that begins to, and waits for its end.

    Raises:
        Refusal: no process runs the study, it runs in another thread of this one than the main thread, it is on another
            machine or in another container, it is another user's, or it does not end in time.
    """
    if not 0 < seconds < math.inf:
        raise Refusal("seconds", f"{seconds:g} is no time to wait", "give a number of seconds above 0")
    found = driver_of(folder)
    if found is None and child and child.poll() is None:
        found = child.pid, this_host()  # it has not claimed the study yet
    if found is None:
        raise Refusal("stop", f"the study {folder.name!r} does not run here", "there is nothing to stop")
    process, machine = found
    if machine not in {this_host(), gethostname()}:
        name = machine.partition("/")[0]
        there = "another machine of this name, or in another container" if name == gethostname() else name
        raise Refusal("stop", f"the study runs on {there}, as process {process}", "stop it there")
    if process == os.getpid() and [threading.main_thread()] != RUNS_IN:  # the signal goes to the main thread
        problem = "the study runs in this process, in another thread"
        raise Refusal("stop", problem, 'end it by .order("cancel"), or begin it with run(wait=False)')
    try:
        os.kill(process, signal.SIGINT)
    except ProcessLookupError:
        fix = "if the study still runs, stop it where that process is"
        raise Refusal("stop", f"process {process}, which runs the study, is not here any more", fix) from None
    except PermissionError:
        problem = f"the study is run by process {process}, which belongs to another user"
        fix = f"stop it as that user, or with krona-tune order {folder.name}{folder.storage_flag} cancel"
        raise Refusal("stop", problem, fix) from None
    until = time.monotonic() + seconds
    # it says last that it has the study no more, and then lets go of it
    while (
        (has := driver_of(folder)) == found or (has is None and is_locked(folder)) or (child and child.poll() is None)
    ):
        if time.monotonic() > until:
            raise Refusal("stop", f"the study did not end within {seconds:g} s", "wait, or stop it again")
        time.sleep(0.1)
