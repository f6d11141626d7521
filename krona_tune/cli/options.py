"""Defines every flag of the command line once, grouped by the panels of `--help`."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from krona_tune import __version__
from krona_tune.record.mlflow_mirror.tracking_uri import TRACKING
from krona_tune.record.notifications import NOTIFY
from krona_tune.study.folder import STUDIES

SEARCHED = partial(typer.Option, rich_help_panel="What is searched")
BUDGET = partial(typer.Option, rich_help_panel="Budget")
RESOURCES = partial(typer.Option, rich_help_panel="Resources")
KEPT = partial(typer.Option, rich_help_panel="Where it is kept")
BEGIN = partial(typer.Option, rich_help_panel="Begin, resume")
"""The panels; each makes an option that `--help` shows in it."""


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"krona_tune {__version__}")
        raise typer.Exit


TokenFile = Annotated[
    Path | None, typer.Option(help="A file with the token that requests must know; or set KRONA_TUNE_TOKEN.")
]
Version = Annotated[
    bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
]

Tasks = Annotated[
    str | None, SEARCHED(help="glue for the eight tasks, names such as cola,sst2, or a YAML file of your own tasks.")
]
SpaceFile = Annotated[
    Path | None,
    SEARCHED(
        "--space",
        help="A YAML file, or a name that `krona-tune spaces` lists; without it krona_tune picks one.",
    ),
]
Settings = Annotated[list[str] | None, SEARCHED("--set", help="Set a key of the YAML: PATH=VALUE. May be repeated.")]
Model = Annotated[str | None, SEARCHED(help="A hub name or a local folder.")]
Data = Annotated[str | None, SEARCHED(help="hub, mini (synthetic), or a folder of TSV or Parquet files.")]
Objective = Annotated[str | None, SEARCHED(help="score, or pareto: the best score at every number of parameters.")]
Shared = Annotated[
    bool | None,
    SEARCHED(
        "--shared/--per-task", help="Search one adapter for all tasks, judged by its average; or one for each task."
    ),
]
MaxParams = Annotated[str | None, SEARCHED(help="Search adapters of at most this many parameters: 200000 or 0.1%.")]
WarmStart = Annotated[
    list[str] | None,
    SEARCHED("--warm-start", help="Learn from this earlier study, or from recorded-curves. May be repeated."),
]
Seed = Annotated[int | None, SEARCHED(help="The seed of everything random.")]
Trials = Annotated[str | None, BUDGET(help="Trials for each task; +20 adds 20 to a study that is resumed.")]
TimeBudget = Annotated[str | None, BUDGET(help="Stop the study after this time: 90s, 30m, 2h.")]
Cpus = Annotated[float | None, RESOURCES("--cpus-per-trial", help="CPU cores of one trial; the default is 1.")]
Gpus = Annotated[
    float | None,
    RESOURCES("--gpus-per-trial", help="GPUs of one trial; a share such as 0.5 puts two trials on one GPU."),
]
Concurrent = Annotated[int | None, RESOURCES("--max-concurrent", help="Run at most this many trials at once.")]
Price = Annotated[
    float | None, RESOURCES("--price", help="The price of a device hour, in your currency; shows what a study costs.")
]
Share = Annotated[
    int | None, RESOURCES("--share", hidden=True, min=0, help="The most trials at once until an order changes it.")
]
Address = Annotated[
    str | None, RESOURCES(help="Join a Ray cluster: auto, or host:6379. Without it Ray starts on this machine.")
]
Storage = Annotated[str, KEPT(help="Where studies are kept: a folder, or a URI such as s3://bucket/studies.")]
Name = Annotated[str | None, KEPT(help="The study's name; without it, the space and the time.")]
Tracking = Annotated[
    str | None,
    KEPT("--tracking-uri", envvar=TRACKING, help="An MLflow server; without it, mlflow.db beside the studies."),
]
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

__all__ = ["STUDIES"]
