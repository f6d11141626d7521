"""Defines the flags that several commands have: those of the settings from their table, the others one by one."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from importlib import import_module
from inspect import Parameter, Signature, signature
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, get_args, get_origin

import typer

from krona_tune import __version__
from krona_tune.api.printing import OF_THE_SERVICE
from krona_tune.refusal import Refusal, refusing
from krona_tune.search.start_options import KINDS, START_OPTIONS, StartOptions
from krona_tune.study import folder, settings
from krona_tune.study.settings import SETTINGS, Keywords, as_flag, flag_of

Command = TypeVar("Command", bound=Callable[..., None])

_kept = partial(typer.Option, rich_help_panel=settings.KEPT)
_begin = partial(typer.Option, rich_help_panel=settings.BEGIN)
_searched = partial(typer.Option, rich_help_panel=settings.SEARCHED)
"""Each makes an option that `--help` shows in its panel."""


def option_of(name: str) -> Any:
    """Returns the option of a setting, from its row."""
    row = SETTINGS[name]
    sides = "/".join(filter(None, (flag_of(name), row.off)))
    return typer.Option(sides, rich_help_panel=row.panel, help=row.help)


def with_start(*names: str) -> Callable[[Command], Command]:
    """Returns what gives a command an option for each option of a start, in place of its argument `start`.

    What is given is refused before the command runs if no study can be started with it.

    Args:
        names: the options that the command has; none: all.
    """

    def decorate(command: Command) -> Command:
        @wraps(command)
        def call(**words: Any) -> None:
            given = {name: words.pop(name) for name in START_OPTIONS if name in words}
            command(**words, start=StartOptions.among(given))

        own = signature(command).parameters.values()
        taken = [_start_parameter(name) for name in START_OPTIONS if not names or name in names]
        parameters = [part for each in own for part in (taken if each.name == "start" else [each])]
        _set_parameters(call, parameters)
        return call  # type: ignore[return-value]

    return decorate


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
    """Returns the parameter of a setting."""
    return _optional(name, get_args(Keywords.__annotations__[name])[0], option_of(name))


def _start_parameter(name: str) -> Parameter:
    """Returns the parameter of an option of a start."""
    row, kind = START_OPTIONS[name], get_args(KINDS[name])[0]
    option = typer.Option(
        as_flag(name),
        rich_help_panel=row.panel,
        help=row.help,
        metavar=row.metavar or None,
        envvar=row.variable or None,
        hidden=row.hidden,
        min=row.least,
    )
    if kind is bool:
        return Parameter(name, Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, option])
    return _optional(name, kind, option)


def _optional(name: str, kind: Any, option: Any) -> Parameter:
    """Returns the parameter of an option that may be left out: of text where Python takes text too."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    one = str if str in kinds else kinds[0]
    one = list[str] if any(get_origin(each) is Sequence for each in kinds) else one
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[one | None, option])


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
        help="A YAML file or the name of a shipped space; without it the service picks or makes one for its queue.",
    ),
]
SpaceFile = Annotated[
    Path | None,
    _searched(
        "--space",
        help="A YAML file, or a name that `krona-tune spaces` lists; without it krona_tune picks or makes one.",
    ),
]
Tasks = Annotated[str | None, option_of("tasks")]
Model = Annotated[str | None, option_of("model")]
Settings = Annotated[list[str] | None, _searched("--set", help="Set a key of the YAML: PATH=VALUE. May be repeated.")]
STUDIES = folder.STUDIES
"""The default of `Storage`."""
Concurrent = Annotated[int | None, option_of("max_concurrent")]
Storage = Annotated[str, _kept(help="Where studies are kept: a folder, or a URI such as s3://bucket/studies.")]
Name = Annotated[str | None, _kept(help="The study's name; without it, the space and the time.")]
Experiment = Annotated[str | None, option_of("experiment")]
DryRun = Annotated[bool, _begin("--dry-run", help="Print the plan and start nothing.")]
OrResume = Annotated[bool, _begin("--or-resume", help="Resume the study of that --name if there is one.")]
Resume = Annotated[str | None, _begin("--resume", metavar="NAME", help="Resume an interrupted or finished study.")]

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
