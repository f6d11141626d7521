"""Hears the signals that end a program: of a person, of the system, and of a terminal that is closed."""

import os
import signal
import stat
import sys
import threading
import time
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
def interrupted_by_signals() -> Iterator[None]:
    """Makes each of the signals raise a KeyboardInterrupt in this context, as Ctrl-C does: of a study that only starts
    there is nothing to keep, but something to remove.

    Python drops an exception that is raised while an object is being freed, as happens by the thousand in imports. So
    it is raised again and again until it ends the context; whoever listens by then hears the signal once.
    """
    interrupts = _Interrupts()
    LISTENING.append(interrupts)
    previous = listen(interrupts.hear)
    try:
        interrupts.raised = True
        yield
    finally:
        try:
            interrupts.end()
        finally:
            interrupts.ended = True  # also if a signal came before that end
            listen_as_before(previous)
            LISTENING.remove(interrupts)


def listen_anew() -> None:
    """Lets the signals end that context again, from any thread: Ray takes SIGTERM for itself when it starts. Changes
    nothing outside of such a context, or where another listens in it."""
    if LISTENING:
        LISTENING[-1].listen_anew()


class _Interrupts:
    """Raises a KeyboardInterrupt for a signal in the main thread, and again while nothing shows it.

    `raised`: whether it may be raised; before and after that, only the repeated one is. `ended`: nobody waits for it.
    """

    def __init__(self) -> None:
        self.raised = self.ended = False
        self._repeated = self._anew = False
        self._sends = threading.Lock()

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal."""
        if self.ended:
            return
        if self._anew:
            self._anew = False
            listen(self.hear)
            return
        again, self._repeated = self._repeated, False
        if again and _is_interrupted():
            return
        if number == HANGUP:
            leave_closed_terminal()
        if not again:
            threading.Thread(target=self._repeat, args=(number,), name="interrupt again", daemon=True).start()
        if self.raised and not _frees(frame):
            raise KeyboardInterrupt

    def listen_anew(self) -> None:
        with self._sends:
            if not self.ended and self._listens(signal.SIGINT):
                self._anew = True
                _send(signal.SIGINT)

    def end(self) -> None:
        """Raises nothing any more, and sends no signal."""
        self.raised = False
        with self._sends:
            self.ended = True

    def _repeat(self, number: int) -> None:
        while True:
            time.sleep(REPEATED_SECONDS)  # sleep: a person needs longer, too
            with self._sends:
                if self.ended:
                    return
                self._repeated = ours = self._listens(number)
                _send(signal.SIGINT if ours else number)  # Ray may have taken SIGTERM
                if not ours:
                    return

    def _listens(self, number: int) -> bool:
        return signal.getsignal(number) == self.hear


LISTENING: list[_Interrupts] = []
"""The contexts that interrupts end, the innermost last."""


def _send(number: int) -> None:
    """Sends the main thread a signal, which ends its waiting."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        interrupt_main(signal.Signals(number))


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
