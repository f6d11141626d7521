"""Ends a command with the exit status of the study that it ran."""

import shlex
import sys

import typer

from krona_tune.api.study_run import Ended


class RayLostExit(SystemExit):
    """Ends the program at once: a normal exit of the interpreter would wait for threads of the lost Ray."""


def exit_as(ended: Ended) -> None:
    if ended.at_once:
        raise RayLostExit(ended.status)
    if ended.status:
        raise typer.Exit(ended.status)


def this_command() -> str:
    """Returns the command that this program was started with."""
    return shlex.join(["python", *sys.argv])
