"""Waits for what another thread or process does."""

import time
from collections.abc import Callable

import psutil

PATIENCE = 900.0
"""Seconds in which a step of a study happens on the slowest and busiest machine; an idle one takes a few."""
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.2
"""The seconds between two looks: of what happens at once, and of what takes long."""


def until(
    happened: Callable[[], object], seconds: float = PATIENCE, said: Callable[[], str] = lambda: "it did not happen"
) -> float:
    """Returns as soon as something has happened, and the seconds that it took.

    It fails if that has not happened within a time that no machine needs, with what `said` returns then.
    """
    began, pause = time.monotonic(), FIRST_PAUSE
    while not happened():
        assert time.monotonic() - began < seconds, said()  # time: a wait that never ends would say nothing
        time.sleep(pause)  # sleep: between two looks
        pause = min(1.2 * pause, LONGEST_PAUSE)
    return time.monotonic() - began


def has_ended(process: int) -> bool:
    """Returns whether a process has ended; if nobody waits for it, it may remain as a zombie."""
    try:
        return bool(psutil.Process(process).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
