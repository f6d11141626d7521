"""Defines the flags that several commands have: those of the settings from their table, the others one by one."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import typer

from krona_tune import __version__
from krona_tune.api.printing import OF_THE_SERVICE
from krona_tune.record.mlflow_mirror.tracking_uri import TRACKING
from krona_tune.record.notifications import NOTIFY
from krona_tune.refusal import Refusal, refusing
from krona_tune.study import folder, settings
from krona_tune.study.settings import SETTINGS, Keywords, flag_of

Command = TypeVar("Command", bound=Callable[..., None])

KEPT = partial(typer.Option, rich_help_panel=settings.KEPT)
BEGIN = partial(typer.Option, rich_help_panel="Begin, resume")
"""The panels of what is no setting of a study; each makes an option that `--help` shows in it."""
SEARCHED = partial(typer.Option, rich_help_panel=settings.SEARCHED)
RESOURCES = partial(typer.Option, rich_help_panel=settings.RESOURCES)


def option_of(name: str) -> Any:
    """Returns the option of a setting, from its row."""
    row = SETTINGS[name]
    sides = "/".join(filter(None, (flag_of(name), row.off)))
    return typer.Option(sides, rich_help_panel=row.panel, help=row.help)


def with_settings(command: Command) -> Command:
    """Gives a command an option for each setting, in place of its `**keywords`.

    They stand before the parameters that follow a `*`, in the order of the table.
    """
    own = [each for each in signature(command).parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
    first = [each for each in own if each.kind is not Parameter.KEYWORD_ONLY]
    _set_parameters(command, [*first, *map(_parameter, Keywords.__annotations__), *own[len(first) :]])
    return command


def with_options_of(other: Callable[..., None], names: Collection[str]) -> Callable[[Command], Command]:
    """Returns what gives a command the options of another that have these names, in place of its `**keywords`."""
    taken = [each for name, each in signature(other).parameters.items() if name in names]

    def decorate(command: Command) -> Command:
        *own, _ = signature(command).parameters.values()
        _set_parameters(command, [*own, *(each.replace(kind=Parameter.KEYWORD_ONLY) for each in taken)])
        return command

    return decorate


def _set_parameters(command: Callable[..., None], parameters: Sequence[Parameter]) -> None:
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]


def _parameter(name: str) -> Parameter:
    """Returns the parameter of a setting: of text where Python takes text too."""
    kinds = get_args(get_args(Keywords.__annotations__[name])[0])
    kind = str if str in kinds else kinds[0]
    kind = list[str] if any(get_origin(each) is Sequence for each in kinds) else kind
    option = Annotated[kind | None, option_of(name)]  # type: ignore[valid-type]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=option)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"krona_tune {__version__}")
        raise typer.Exit


TOKEN_HELP = "A file with the token that requests must know; or set KRONA_TUNE_TOKEN."
TokenFile = Annotated[Path | None, typer.Option(help=TOKEN_HELP)]
Version = Annotated[
    bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
]

Study = Annotated[str, typer.Argument(help="A study's name or folder.")]
Space = Annotated[Path, typer.Argument(help="A search space: a YAML file, or the name of a shipped one.")]
SentSpace = Annotated[
    Path | None,
    typer.Argument(
        metavar="[SPACE]",
        help="A YAML file or the name of a shipped space; without it the service's machine picks or makes one.",
    ),
]
SpaceFile = Annotated[
    Path | None,
    SEARCHED(
        "--space",
        help="A YAML file, or a name that `krona-tune spaces` lists; without it krona_tune picks or makes one.",
    ),
]
Tasks = Annotated[str | None, option_of("tasks")]
Model = Annotated[str | None, option_of("model")]
Settings = Annotated[list[str] | None, SEARCHED("--set", help="Set a key of the YAML: PATH=VALUE. May be repeated.")]
Share = Annotated[
    int | None, RESOURCES("--share", hidden=True, min=0, help="The most trials at once until an order changes it.")
]
STUDIES = folder.STUDIES
"""The default of `Storage`."""
Address = Annotated[
    str | None, RESOURCES(help="Join a Ray cluster: auto, or host:6379. Without it Ray starts on this machine.")
]
Concurrent = Annotated[int | None, option_of("max_concurrent")]
Storage = Annotated[str, KEPT(help="Where studies are kept: a folder, or a URI such as s3://bucket/studies.")]
Name = Annotated[str | None, KEPT(help="The study's name; without it, the space and the time.")]
Tracking = Annotated[
    str | None,
    KEPT("--tracking-uri", envvar=TRACKING, help="An MLflow server; without it, mlflow.db beside the studies."),
]
Experiment = Annotated[str | None, option_of("experiment")]
Wandb = Annotated[
    str | None, KEPT("--wandb", metavar="PROJECT", help="Also send the trials to this project of Weights & Biases.")
]
Notify = Annotated[
    list[str] | None,
    KEPT(
        "--notify",
        metavar="URL",
        envvar=NOTIFY,
        help="Tell a service that apprise knows, such as slack://…, of the end, a halt and a first success.",
    ),
]
DryRun = Annotated[bool, BEGIN("--dry-run", help="Print the plan and start nothing.")]
Quiet = Annotated[bool, BEGIN("--quiet", help="Print only the results, at the end.")]
OrResume = Annotated[bool, BEGIN("--or-resume", help="Resume the study of that --name if there is one.")]
Resume = Annotated[str | None, BEGIN("--resume", metavar="NAME", help="Resume an interrupted or finished study.")]

Holder = Annotated[str, typer.Argument(metavar="STUDY|DIR", help="A study's name, or the folder of an adapter.")]
OfTask = Annotated[str | None, typer.Option("--task", help="Which of the study's adapters to take, if it has several.")]
Backbone = Annotated[str | None, typer.Option("--model", help="A hub name or local folder of the same backbone.")]
Imported = Annotated[
    str | None, typer.Option("--import", help="A module with a method of your own, which a file alone may not import.")
]


def import_named(module: str | None) -> None:
    """Imports the module of `--import`, if there is one."""
    if module:
        with refusing("--import", f"{module} can't be imported", "install it, or put its folder on PYTHONPATH"):
            import_module(module)


@contextmanager
def needing_the_service(place: str) -> Iterator[None]:
    """Refuses what is wanted at a place if importing what it needs finds that a package of the service is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in OF_THE_SERVICE:
            raise
        problem = f"needs the package {error.name}, which is not installed"
        raise Refusal(place, problem, "pip install 'krona_tune[service]'") from None
