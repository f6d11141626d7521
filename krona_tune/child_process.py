"""Calls functions in a process of their own, with a time limit: code of others may never return, or end its process."""

import io
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from math import ceil
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from threading import Lock
from types import TracebackType
from typing import Any, TypeVar

Result = TypeVar("Result")

CALL_SECONDS = 30.0
"""How long one call may take, unless its caller says otherwise."""
START_SECONDS = 300.0
"""How long the process may take to start and to import the function, on a very busy machine."""
BEGUN = b"begun"
STARTS = f"import sys; sys.path[:] = sys.argv[2:]; from {__name__} import serve; serve(int(sys.argv[1]))"


KNOWN = ("krona_tune.", "numpy.", "pathlib.", "collections.", "builtins.")
"""The packages whose classes an answer may hold."""
NUMPY_MAKERS = {
    f"numpy.{core}.{maker}"
    for core in ("core", "_core")
    for maker in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
}
"""The functions that make numpy's arrays and numbers."""


class TooSlow(TimeoutError):
    """A call took longer than its limit; its process was killed."""


class ProcessEnded(ChildProcessError):
    """A call ended its process instead of returning."""


class ChildProcess:
    """A process that calls importable functions, one at a time, and returns what they return or raise.

    It starts at the first call, and again at the first call after one that ended it. It ends when this object is closed
    or collected, when this process ends, or, in the middle of a call, at the latest when that call's time is over.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._calling = Lock()

    def call(self, function: Callable[..., Result], *arguments: object, seconds: float = CALL_SECONDS) -> Result:
        """Returns `function(*arguments)`; both must be picklable, and so must the result.

        Raises:
            TooSlow: it took longer than `seconds`; starting the process and importing the function do not count.
            ProcessEnded: the function ended its process, for instance by `sys.exit`, or a library crashed.
            Exception: what the function raised.
        """
        with self._calling:
            try:
                answer = self._asked(pickle.dumps((ceil(seconds) + 1, function, arguments)), seconds)
            except BaseException:
                self._end()
                raise
            if isinstance(answer, ProcessEnded):
                self._end()
        if isinstance(answer, BaseException):
            raise answer
        return answer[0]  # type: ignore[no-any-return]

    def _asked(self, message: bytes, seconds: float) -> Any:
        """Returns what the function returned, in a tuple, or what it raised."""
        connection = self._open()
        try:
            connection.send_bytes(message)
            if not connection.poll(START_SECONDS):
                raise TooSlow(f"a process for it did not start within {START_SECONDS:g} s")
            first = connection.recv_bytes()
            if first != BEGUN:
                return _read(first)
            if not connection.poll(seconds):
                raise TooSlow(f"it took more than {seconds:g} s")
            return _read(connection.recv_bytes())
        except (EOFError, ConnectionError):
            raise ProcessEnded(f"it ended its process ({self._ending(seconds)})") from None

    def _open(self) -> Connection:
        """Returns a connection to the process, which is started if there is none."""
        if self._connection is None or self._process is None or self._process.poll() is not None:
            self._end()
            self._connection, theirs = Pipe()
            command = [sys.executable, "-c", STARTS, str(theirs.fileno()), *sys.path]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
            )
            theirs.close()
        return self._connection

    def _ending(self, seconds: float) -> str:
        """Says how the process ended."""
        assert self._process is not None
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return "it closed its connection"
        return f"status {status}" if status >= 0 else signal.Signals(-status).name

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._connection = self._process = None

    def close(self) -> None:
        """Ends the process, if there is one; a later call starts another."""
        self._end()

    def __enter__(self) -> "ChildProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._end()


def serve(descriptor: int) -> None:
    """Answers the calls that come over a connection until it closes: BEGUN, then the result of the call.

    The kernel ends this process shortly after a call's time is over, also if the process that called was killed.
    """
    connection = Connection(descriptor)
    while True:
        try:
            seconds, function, arguments = connection.recv()
        except EOFError:
            return
        except Exception as error:  # the function, or an argument, can't be imported
            connection.send_bytes(_portable(error))
            continue
        connection.send_bytes(BEGUN)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        try:
            answer = _portable((function(*arguments),))
        except Exception as error:
            answer = _portable(error)
        except BaseException as error:  # such as SystemExit: what follows it can't be known
            answer = pickle.dumps(ProcessEnded(f"it ended its process ({type(error).__name__})"))
        signal.alarm(0)
        connection.send_bytes(answer)


class _AnswerReader(pickle.Unpickler):
    """Reads an answer of code that nobody vouches for: of all that can be imported, it takes only known classes."""

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name) if f"{module}.".startswith(KNOWN) else None
        if isinstance(found, type) or f"{module}.{name}" in NUMPY_MAKERS:
            return found
        raise pickle.UnpicklingError(f"an answer holds {module}.{name}, which is none of krona_tune's own values")


def _read(answer: bytes) -> Any:
    """Returns what an answer says. Raises UnpicklingError if it holds anything else than values."""
    return _AnswerReader(io.BytesIO(answer)).load()


def _portable(answer: object) -> bytes:
    """Returns the answer as bytes from which another process can make it again; of an error at least its kind."""
    try:
        found = pickle.dumps(answer)
        _read(found)
    except Exception as error:
        kind = type(answer if isinstance(answer, BaseException) else error).__name__
        return pickle.dumps(RuntimeError(f"{kind}, which can't be sent to another process"))
    return found
