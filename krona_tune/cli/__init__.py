"""The only reader of flags: `python run_study.py …`, and the same as `krona-tune run`, beside its other verbs."""

import sys
import traceback
from collections.abc import Callable

import typer
from rich.markup import escape

from krona_tune.cli import adapters, looking, studies
from krona_tune.cli.printing import errors
from krona_tune.cli.studies import run
from krona_tune.cli.verb import Verb
from krona_tune.refusal import Refusal

__all__ = ["app", "main", "run", "run_study"]

REFUSED, CRASHED = 2, 70
"""Exit statuses: the request is wrong; krona_tune is (EX_SOFTWARE of sysexits.h)."""
app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)
for verb in (
    studies.run,
    studies.resume,
    studies.report,
    studies.check,
    studies.sync,
    adapters.export,
    adapters.predict,
    looking.show,
    looking.watch,
):
    app.command(cls=Verb)(verb)
app.command("list", cls=Verb)(looking.list_studies)


def main() -> None:
    """The program `krona-tune`."""
    _guarded(app)


def run_study() -> None:
    """The program `run_study.py`: the verb `run`."""
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(cls=Verb)(run)
    _guarded(single)


def _guarded(program: Callable[[], None]) -> None:
    """Runs a program: a refusal is one line on standard error and status 2, an error of ours a traceback and 70."""
    try:
        program()
    except Refusal as refusal:
        errors.print(escape(str(refusal)), highlight=False, soft_wrap=True)
        sys.exit(REFUSED)
    except Exception:
        traceback.print_exc()
        sys.exit(CRASHED)
