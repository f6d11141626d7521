"""Calls functions in a process of their own, with a time limit: code of others may never return, or end its process."""

import io
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import ceil
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from socket import SHUT_RDWR, socket
from threading import Event, Lock, Timer
from typing import Any, TypeVar

Result = TypeVar("Result")

CALL_SECONDS = 30.0
"""How long one call may take, unless its caller says otherwise."""
START_SECONDS = 300.0
"""How long the process may take to start and to import the function, on a very busy machine."""
KEY_BYTES = 16
"""The length of a call's key, with which its answers begin: a function may write into the connection too."""
NO_ANSWER = "it wrote into the connection of its process"
STARTS = f"import sys; sys.path[:] = sys.argv[2:]; from {__name__} import serve_calls; serve_calls(int(sys.argv[1]))"


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
    or collected, when this process ends, or, in the middle of a call, at the latest when that call's time is over. What
    functions print gets nowhere: it may quote the data.
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
                self.close()
                raise
            if isinstance(answer, ProcessEnded):
                self.close()
        if isinstance(answer, BaseException):
            raise answer
        return answer[0]  # type: ignore[no-any-return]

    def _asked(self, message: bytes, seconds: float) -> Any:
        """Returns what the function returned, in a tuple, or what it raised."""
        connection, key = self._open(), os.urandom(KEY_BYTES)
        try:
            with _cut_after(connection, START_SECONDS, "a process for it did not start within"):
                connection.send_bytes(key)
                connection.send_bytes(message)
                answer = connection.recv_bytes()
            if answer == key:
                with _cut_after(connection, seconds, "it took more than"):
                    answer = connection.recv_bytes()
            return _answered(answer, key)
        except (EOFError, ConnectionError):
            raise ProcessEnded(f"it ended its process ({self._ending(seconds)})") from None
        except TooSlow:
            raise
        except OSError:  # the end of a message is missing
            raise ProcessEnded(NO_ANSWER) from None

    def _open(self) -> Connection:
        """Returns a connection to the process, which is started if there is none."""
        if self._connection is None or self._process is None or _is_over(self._process, self._connection):
            self.close()
            self._connection, theirs = Pipe()
            command = [sys.executable, "-c", STARTS, str(theirs.fileno()), *sys.path]
            nothing, fds = subprocess.DEVNULL, [theirs.fileno()]
            self._process = subprocess.Popen(
                command, stdin=nothing, stdout=nothing, stderr=nothing, pass_fds=fds, start_new_session=True
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

    def close(self) -> None:
        """Ends the process, if there is one; a later call starts another."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._connection = self._process = None

    def __enter__(self) -> "ChildProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def _is_over(process: "subprocess.Popen[bytes]", connection: Connection) -> bool:
    """Returns whether a process takes no call any more: it has ended, or it says something that nobody asked."""
    return process.poll() is not None or connection.poll()


@contextmanager
def _cut_after(connection: Connection, seconds: float, problem: str) -> Iterator[None]:
    """Raises TooSlow if what is inside has not sent and received whole messages in its time."""
    late = Event()
    with socket(fileno=os.dup(connection.fileno())) as end:

        def cut() -> None:
            late.set()
            with suppress(OSError):
                end.shutdown(SHUT_RDWR)

        timer = Timer(seconds, cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (EOFError, OSError):
            if not late.is_set():
                raise
            raise TooSlow(f"{problem} {seconds:g} s") from None
        finally:
            timer.cancel()
            timer.join()


def serve_calls(descriptor: int) -> None:
    """Answers the calls that come over a connection until it closes: the call's key when the function is about to be
    called, then the key with the result.

    The kernel ends this process shortly after a call's time is over, also if the process that called was killed. A
    process that the function forked answers nothing.
    """
    connection, owner = Connection(descriptor), os.getpid()
    while True:
        try:
            key = connection.recv_bytes()
            seconds, function, arguments = connection.recv()
        except EOFError:
            return
        except Exception as error:  # the function, or an argument, can't be imported
            connection.send_bytes(key + _portable(error))
            continue
        connection.send_bytes(key)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        try:
            answer = _portable((function(*arguments),))
        except Exception as error:
            answer = _portable(error)
        except BaseException as error:  # such as SystemExit: what follows it can't be known
            answer = pickle.dumps(ProcessEnded(f"it ended its process ({type(error).__name__})"))
        if os.getpid() != owner:
            os._exit(0)
        signal.alarm(0)
        connection.send_bytes(key + answer)


class _AnswerReader(pickle.Unpickler):
    """Reads an answer of code that nobody vouches for: of all that can be imported, it takes only known classes."""

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name) if f"{module}.".startswith(KNOWN) else None
        if isinstance(found, type) or f"{module}.{name}" in NUMPY_MAKERS:
            return found
        raise pickle.UnpicklingError(f"an answer holds {module}.{name}, which is none of krona_tune's own values")


def read_answer(answer: bytes) -> Any:
    """Returns what an answer says. Raises UnpicklingError if it holds anything else than values."""
    return _AnswerReader(io.BytesIO(answer)).load()


def _answered(answer: bytes, key: bytes) -> Any:
    """Returns what an answer to the call of this key says. Raises ProcessEnded if it is none: the function wrote it."""
    if not answer.startswith(key):
        raise ProcessEnded(NO_ANSWER)
    return read_answer(answer[len(key) :])


def _portable(answer: object) -> bytes:
    """Returns the answer as bytes from which another process can make it again; of an error at least its kind."""
    try:
        found = pickle.dumps(answer)
        read_answer(found)
    except Exception as error:
        kind = type(answer if isinstance(answer, BaseException) else error).__name__
        return pickle.dumps(RuntimeError(f"{kind}, which can't be sent to another process"))
    return found
