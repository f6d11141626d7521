"""Holds the exit statuses of `krona-tune` and `run_study.py`, for those that end with them and those that read them."""

from enum import IntEnum

from krona_tune.search.driver_options import Outcome


class ExitStatus(IntEnum):
    """Names how a program ended; the names in brackets are those of `sysexits.h`."""

    DONE = 0
    NO_RESULT = 1
    """The study is done, but some task has no result."""
    REFUSED = 2
    """The request is wrong."""
    NOT_NOW = 69
    """Ray did not start; the same command may succeed later (EX_UNAVAILABLE)."""
    CRASHED = 70
    """krona_tune itself failed (EX_SOFTWARE)."""
    UNWRITTEN = 74
    """The command succeeded, but some of its output could not be written (EX_IOERR)."""
    RAY_LOST = 75
    """Ray ended during the study (EX_TEMPFAIL)."""
    INTERRUPTED = 130
    """Somebody stopped the study, or it stopped itself: what a shell says of SIGINT."""


ENDED_WELL = {ExitStatus.DONE, ExitStatus.NO_RESULT, ExitStatus.INTERRUPTED}
"""How a study's process ends if nothing failed."""


def status_of(outcome: Outcome) -> ExitStatus:
    """Returns the exit status of a study's session."""
    if outcome.lost_ray:
        return ExitStatus.RAY_LOST
    if outcome.interrupted:
        return ExitStatus.INTERRUPTED
    return ExitStatus.NO_RESULT if outcome.lacks_results else ExitStatus.DONE
