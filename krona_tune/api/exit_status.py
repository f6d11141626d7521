"""Holds the exit statuses of `krona-tune` and `run_study.py`, for those that end with them and those that read them."""

from enum import IntEnum

from krona_tune.search.driver_options import Outcome
from krona_tune.study.redact import redact


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


AFTER_RESTART = "restart the program, or the notebook's kernel, then .run() resumes it"
"""What resumes a study whose Ray was lost or abandoned, since the process keeps the client of that one."""
STOPPED_ITSELF = "the study stopped itself: {}; when that is fixed, .run() resumes it"


def raise_bad_end(outcome: Outcome) -> None:
    """Raises what a session from Python raises of a study that did not end well.

    Raises:
        RuntimeError: Ray was lost, or the study stopped itself.
        KeyboardInterrupt: a person stopped it.
    """
    if outcome.lost_ray:
        raise RuntimeError(f"Ray ended during the study ({outcome.lost}); {AFTER_RESTART}")
    if outcome.halted:
        raise RuntimeError(STOPPED_ITSELF.format(redact(outcome.halted)))
    if outcome.interrupted:
        how = f" at once; {AFTER_RESTART}" if outcome.lost else "; .run() resumes it"
        raise KeyboardInterrupt(f"the study was stopped{how}")
