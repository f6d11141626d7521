"""Starts the program `krona-tune` and its commands; `python run_study.py` is the same as `krona-tune run`."""

import atexit
import gc
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import typer
from rich.markup import escape

from krona_tune.api.exit_status import ExitStatus
from krona_tune.api.printing import errors
from krona_tune.cli import answering, exporting, inspection, options, recommending, service, steering, studies
from krona_tune.cli.ending import CheckedCommand, CheckedProgram, Output, RayLostExit
from krona_tune.refusal import NotNow, Refusal

GARBAGE_THRESHOLD = 50_000
"""Lets a program look for garbage after so many new objects. After 700, the default, that is a sixth of its imports."""
app = typer.Typer(cls=CheckedProgram, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _program(version: options.Version = False) -> None:
    """Search Kronecker adapters for your tasks, look at studies, export the adapters and predict with them."""


for function in (
    studies.run,
    studies.resume,
    recommending.recommend,
    inspection.compare,
    inspection.report,
    inspection.check,
    inspection.inspect,
    studies.clean,
    studies.train,
    studies.sync,
    recommending.contribute,
    exporting.export,
    answering.predict,
    inspection.show,
    inspection.watch,
    service.serve,
    steering.order,
    service.submit,
    service.queue,
    inspection.spaces,
    inspection.space,
    inspection.doctor,
):
    app.command(cls=CheckedCommand)(function)
app.command("list", cls=CheckedCommand)(inspection.list_studies)


def main() -> None:
    """Runs the program `krona-tune`."""
    _guarded(app)


def run_study() -> None:
    """Runs the program `run_study.py`: the command `run`."""
    single = typer.Typer(pretty_exceptions_enable=False)
    single.command(cls=CheckedCommand)(studies.run)
    _guarded(single)


def program() -> NoReturn:
    """Runs `krona-tune` in a process of its own."""
    end_process_after(main)


def end_process_after(run: Callable[[], None]) -> NoReturn:
    """Runs a program, then the exit handlers, and ends the process: the interpreter's own end would take two seconds
    more to free what torch, Ray and MLflow loaded. To look for garbage among that is put off, too."""
    gc.set_threshold(GARBAGE_THRESHOLD)
    try:
        run()
        raise SystemExit(0)
    except SystemExit as ended:
        atexit._run_exitfuncs()
        _end(ended)


def _end(ended: SystemExit) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # its reader left, it is closed, or there is none
            stream.flush()
    os._exit(int(ended.code or 0))


def _guarded(program: Callable[[], None]) -> NoReturn:
    """Runs a program and exits with its status, or with UNWRITTEN if only writing its output failed."""
    output = Output()
    status = _status(program)
    lost = output.lost()
    if lost and not isinstance(lost, BrokenPipeError):
        errors.print(f"the output could not be written: {lost.strerror}", highlight=False, markup=False)
    output.give_back()
    sys.exit(status or (ExitStatus.UNWRITTEN if lost else ExitStatus.DONE))


def _status(program: Callable[[], None]) -> int:
    """Returns a program's exit status; prints a refusal as one line, any other error as a traceback."""
    try:
        program()
    except RayLostExit as ended:
        _end(ended)
    except SystemExit as ended:
        return int(ended.code or 0)
    except Refusal as refusal:
        errors.print(escape(str(refusal)), highlight=False, soft_wrap=True)
        return ExitStatus.NOT_NOW if isinstance(refusal, NotNow) else ExitStatus.REFUSED
    except Exception:
        traceback.print_exc()
        return ExitStatus.CRASHED
    return ExitStatus.DONE
