"""Starts the drivers of studies and says what became of them: as processes of this machine, or as jobs on a cluster."""

import atexit
import logging
import os
import shlex
import shutil
import sys
import tempfile
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import psutil

from krona_tune.api.driver_process import CODE, LAST_LINES, DriverProcess, last_lines, start_driver
from krona_tune.refusal import told
from krona_tune.search.startup.dashboard import job_client
from krona_tune.search.startup.slots import VISIBLE, visible_gpus
from krona_tune.service.queue.capacity import first_free

logger = logging.getLogger(__name__)

MOST_PACKED = 100_000
"""The most characters of a packed request: Linux allows 131,072 for a word of a command."""
PROCESS = "process"
"""The first word of a process's handle; a job's handle has one word."""
SPACE = "space.yaml"
"""The file with a study's request, in the folder in which its driver starts."""


class NotStartedError(Exception):
    """Says that no driver could be started now; a later try may succeed."""


class Drivers(Protocol):
    """Starts drivers and looks after them. A handle is a text by which a driver is found, also by another process."""

    address: str | None = None
    """The Ray cluster that every driver joins; None: each starts a Ray of its own."""

    def handle(self, name: str) -> str:
        """Returns the handle of a driver that is about to be started; empty if it is known after the start only."""
        return ""

    def start(self, name: str, handle: str, words: Sequence[str], space: str, environment: Mapping[str, str]) -> str:
        """Starts a driver in a folder that holds the request as SPACE, and returns its handle.

        Raises:
            NotStartedError: nothing was started.
        """

    def turn(self, wanted: float, held: Mapping[str, float]) -> Mapping[str, str]:
        """Returns the environment in which a new driver takes GPUs that the others leave; empty if Ray sees to that.

        Args:
            wanted: how many GPUs it takes.
            held: how many each running driver takes, by its handle.
        """
        return {}

    def runs(self, handle: str) -> bool:
        """Returns whether a driver runs; one that can't be asked about counts as running."""

    def last_lines(self, handle: str) -> str:
        """Returns the last lines that a driver wrote, or nothing."""


class LocalDrivers(Drivers):
    """Drivers as processes of this machine, each with a Ray of its own; they outlive the service.

    Args:
        place: the folder for their requests and what they write.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._children: dict[str, DriverProcess] = {}

    def start(self, name: str, handle: str, words: Sequence[str], space: str, environment: Mapping[str, str]) -> str:
        folder = self._place / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / SPACE).write_text(space, encoding="utf-8")
            child = start_driver(words, folder / "output.txt", environment=environment, folder=folder)
        except OSError as error:
            raise NotStartedError(told(error)) from None
        with suppress(psutil.Error):
            handle = f"{PROCESS} {child.pid} {psutil.Process(child.pid).create_time():.2f} {name}"
            self._children[handle] = child
            return handle
        return f"{PROCESS} {child.pid} 0 {name}"

    def turn(self, wanted: float, held: Mapping[str, float]) -> Mapping[str, str]:
        """Returns the GPUs in the order in which the Ray of a new driver takes them: each Ray counts from the first."""
        gpus = visible_gpus()
        if len(gpus) < 2:
            return {}
        first = first_free(len(gpus), wanted, [(_first_of(handle, gpus), taken) for handle, taken in held.items()])
        return {VISIBLE: ",".join([*gpus[first:], *gpus[:first]])}

    def runs(self, handle: str) -> bool:
        if child := self._children.get(handle):
            return child.poll() is None
        kind, *rest = handle.split(" ", 3)
        if kind != PROCESS:
            return False  # a job of the cluster that this service drove before; the study's lock tells whether it runs
        number, created, _ = rest
        with suppress(psutil.Error):
            process = psutil.Process(int(number))
            return f"{process.create_time():.2f}" == created and process.status() != psutil.STATUS_ZOMBIE
        return False

    def last_lines(self, handle: str) -> str:
        with suppress(OSError):
            return last_lines(self._place / handle.split(" ", 3)[-1] / "output.txt")
        return ""


def _first_of(handle: str, gpus: Sequence[str]) -> int:
    """Returns the place of the GPU that a driver's Ray takes first, as its environment says; 0 if that is not known."""
    with suppress(psutil.Error, ValueError, LookupError):
        seen = psutil.Process(int(handle.split(" ")[1])).environ()[VISIBLE]
        return gpus.index(seen.split(",")[0])
    return 0


UNPACK = f"from {__name__} import unpack; unpack(); {CODE}"
"""What a job runs: it needs no working folder of Ray's, whose content Ray may remove while the job runs, and no
environment of Ray's, for which Ray would start other workers."""


PYTHON = 'python={}; [ -x "$python" ] || python=python'
"""Finds the interpreter on the cluster's head: that of the service if it is there too, else the usual one."""


def packed(space: str) -> str:
    """Returns a request as one word of a command."""
    return b64encode(zlib.compress(space.encode())).decode()


def unpack() -> None:
    """Writes the request that the first word of the command is into a new folder, and works there from now on; the
    process removes the folder as it ends."""
    folder = tempfile.mkdtemp(prefix="krona-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.chdir(folder)
    Path(SPACE).write_text(zlib.decompress(b64decode(sys.argv.pop(1))).decode(), encoding="utf-8")


class JobDrivers(Drivers):
    """Drivers as jobs of a Ray cluster, through its dashboard; each joins the cluster on whose head it runs.

    Whoever sees the dashboard sees a job's command, and with it the addresses that `--notify` names.

    Raises:
        Refusal: no cluster answers at the address.
    """

    address = "auto"

    def __init__(self, address: str) -> None:
        self._client = job_client(address)

    def handle(self, name: str) -> str:
        return f"krona-{name}-{os.urandom(4).hex()}"

    def start(self, name: str, handle: str, words: Sequence[str], space: str, environment: Mapping[str, str]) -> str:
        variables = shlex.join(f"{key}={value}" for key, value in environment.items() if value)
        run = shlex.join(["-c", UNPACK, packed(space), *words])
        command = f'{PYTHON.format(shlex.quote(sys.executable))}; exec env {variables} "$python" {run}'
        try:
            return str(self._client.submit_job(entrypoint=command, submission_id=handle, metadata={"study": name}))
        except Exception as error:
            if self._is_there(handle) is False:
                raise NotStartedError(told(error)) from None
            return handle  # its answer may have been lost

    def runs(self, handle: str) -> bool:
        if handle.startswith(PROCESS):
            return False  # a process of this machine, which this service drove before
        return self._is_there(handle) is not False

    def _is_there(self, handle: str) -> bool | None:
        """Returns whether a job waits or runs; None if the cluster can't be asked."""
        try:
            return not self._client.get_job_status(handle).is_terminal()
        except RuntimeError as error:  # a new cluster knows nothing of the old one's jobs
            return False if "does not exist" in str(error) else None
        except Exception:
            logger.info("the cluster could not be asked about %s", handle, exc_info=True)
            return None

    def last_lines(self, handle: str) -> str:
        try:
            return "\n".join(self._client.get_job_logs(handle).strip().splitlines()[-LAST_LINES:])
        except Exception:
            logger.info("the log of %s could not be read", handle, exc_info=True)
            return ""
