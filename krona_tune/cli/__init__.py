"""The command line: `python run_study.py` runs a study, and so does `krona-tune run`, beside other commands."""

import os
import sys
import traceback
from collections.abc import Callable

import typer
from rich.markup import escape

from krona_tune.cli import adapters, inspection, options, studies
from krona_tune.cli.checked_command import CheckedCommand
from krona_tune.cli.output import Output
from krona_tune.cli.printing import errors
from krona_tune.cli.studies import run
from krona_tune.cli.study_run import RayLostExit
from krona_tune.refusal import Refusal

__all__ = ["app", "main", "run", "run_study"]

REFUSED, CRASHED, UNWRITTEN = 2, 70, 74
"""Exit statuses: the request is wrong; krona_tune is (EX_SOFTWARE of sysexits.h); all is done, but not all that was
printed could be written (EX_IOERR)."""
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _program(version: options.Version = False) -> None:
    """Search Kronecker adapters for your tasks, look at studies, and take the adapters away."""


for function in (
    studies.run,
    studies.resume,
    studies.report,
    studies.check,
    studies.sync,
    adapters.export,
    adapters.predict,
    inspection.show,
    inspection.watch,
):
    app.command(cls=CheckedCommand)(function)
app.command("list", cls=CheckedCommand)(inspection.list_studies)


def main() -> None:
    """The program `krona-tune`."""
    _guarded(app)


def run_study() -> None:
    """The program `run_study.py`: the command `run`."""
    single = typer.Typer(pretty_exceptions_enable=False)
    single.command(cls=CheckedCommand)(run)
    _guarded(single)


def _guarded(program: Callable[[], None]) -> None:
    """Runs a program to its exit status. Output that could not be written is told of by the status, if nothing else."""
    output = Output()
    status = _status(program)
    lost = output.lost()
    if lost and not isinstance(lost, BrokenPipeError):
        errors.print(f"the output could not be written: {lost.strerror}", highlight=False, markup=False)
    output.give_back()
    sys.exit(status or (UNWRITTEN if lost else 0))


def _status(program: Callable[[], None]) -> int:
    """A refusal is one line on standard error and status 2, an error of ours a traceback and 70."""
    try:
        program()
    except RayLostExit as ended:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(int(ended.code or 0))
    except SystemExit as ended:
        return int(ended.code or 0)
    except Refusal as refusal:
        errors.print(escape(str(refusal)), highlight=False, soft_wrap=True)
        return REFUSED
    except Exception:
        traceback.print_exc()
        return CRASHED
    return 0
