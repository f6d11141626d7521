"""Hears the signals that end a program: of a person, of the system, and of a terminal that is closed."""

import os
import signal
import stat
import sys
import threading
from _thread import interrupt_main
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

HANGUP: int | None = getattr(signal, "SIGHUP", None)
"""The signal of a terminal that is closed; Windows has none."""
ENDING = tuple(filter(None, (signal.SIGINT, signal.SIGTERM, HANGUP)))
REPEATED_SECONDS = 0.5
"""After how long an interrupt that nothing shows is raised once more."""


def listen(hear: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Lets the signals call `hear`; returns what they called before. A program that `nohup` started still does not hear
    its terminal, and outside of the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    heard = [number for number in ENDING if number != HANGUP or signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, hear) for number in heard}


def listen_as_before(previous: Mapping[int, Any]) -> None:
    """Lets the signals call what `listen` has returned."""
    for number, handler in previous.items():
        signal.signal(number, handler)


def leave_closed_terminal() -> None:
    """Lets standard output and error go nowhere if they went to a terminal that is closed: each write would fail."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # a notebook's has no descriptor
            descriptor = stream.fileno()
            if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)


@contextmanager
def interrupted_by_signals() -> Iterator[Callable[[], object]]:
    """Makes each of the signals raise a KeyboardInterrupt in this context, as Ctrl-C does: of a study that only starts
    there is nothing to keep, but something to remove.

    Python drops an exception that is raised while an object is being freed, as happens by the thousand in imports. So
    the first is raised again and again until it has been heard.

    Yields what listens anew: Ray takes SIGTERM for itself when it starts.
    """
    ended, repeated = threading.Event(), threading.Event()

    def repeat() -> None:
        while not ended.wait(REPEATED_SECONDS):
            repeated.set()
            interrupt_main()
            if signal.getsignal(signal.SIGINT) is not interrupt:  # whoever listens by now has heard it
                return

    def interrupt(number: int, frame: FrameType | None) -> None:
        again = repeated.is_set()
        repeated.clear()
        if again and _is_interrupted():
            return
        if number == HANGUP:
            leave_closed_terminal()
        if not again:
            threading.Thread(target=repeat, name="interrupt again", daemon=True).start()
        if not _frees(frame):
            raise KeyboardInterrupt

    previous = listen(interrupt)
    try:
        yield lambda: listen(interrupt)
    finally:
        ended.set()
        listen_as_before(previous)


def _is_interrupted() -> bool:
    """Returns whether a KeyboardInterrupt is on its way, also behind what was raised and handled meanwhile."""
    error = sys.exception()
    while error and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _frees(frame: FrameType | None) -> bool:
    """Returns whether an object is being freed, as far as that can be told: Python drops and prints what is raised."""
    while frame and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None
