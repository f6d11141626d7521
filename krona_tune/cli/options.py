"""Every flag of the command line, each written once, by the panels of `--help`."""

from pathlib import Path
from typing import Annotated

import typer

from krona_tune import __version__

SEARCHED, BUDGET, RESOURCES, KEPT, BEGIN = (
    "What is searched",
    "Budget",
    "Resources",
    "Where it is kept",
    "Begin, resume",
)
"""The panels."""


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"krona_tune {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
]

Tasks = Annotated[
    str | None,
    typer.Option(help="glue for the eight tasks, or names such as cola,sst2,wnli.", rich_help_panel=SEARCHED),
]
SpaceFile = Annotated[
    Path | None,
    typer.Option("--space", help="A search space in YAML; without it krona_tune picks one.", rich_help_panel=SEARCHED),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Set a key of the YAML: PATH=VALUE. May be repeated.", rich_help_panel=SEARCHED),
]
Model = Annotated[str | None, typer.Option(help="A hub name or a local folder.", rich_help_panel=SEARCHED)]
Data = Annotated[
    str | None,
    typer.Option(help="hub, mini (synthetic), or a folder of TSV or Parquet files.", rich_help_panel=SEARCHED),
]
Objective = Annotated[
    str | None,
    typer.Option(help="score, or pareto: the best score at every number of parameters.", rich_help_panel=SEARCHED),
]
Shared = Annotated[
    bool | None,
    typer.Option(
        "--shared/--per-task",
        help="Search one adapter for all tasks, judged by its average; or one for each task.",
        rich_help_panel=SEARCHED,
    ),
]
MaxParams = Annotated[
    str | None,
    typer.Option(help="Search adapters of at most this many parameters: 200000 or 0.1%.", rich_help_panel=SEARCHED),
]
WarmStart = Annotated[
    str | None,
    typer.Option("--warm-start", help="Try the best points of this earlier study first.", rich_help_panel=SEARCHED),
]
Seed = Annotated[int | None, typer.Option(help="The seed of everything random.", rich_help_panel=SEARCHED)]
Trials = Annotated[
    str | None,
    typer.Option(help="Trials for each task; +20 adds 20 to a study that is resumed.", rich_help_panel=BUDGET),
]
TimeBudget = Annotated[
    str | None, typer.Option(help="Stop the study after this time: 90s, 30m, 2h.", rich_help_panel=BUDGET)
]
Cpus = Annotated[
    float | None,
    typer.Option("--cpus-per-trial", help="CPU cores of one trial; the default is 1.", rich_help_panel=RESOURCES),
]
Gpus = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-trial",
        help="GPUs of one trial; a share such as 0.5 puts two trials on one GPU.",
        rich_help_panel=RESOURCES,
    ),
]
Concurrent = Annotated[
    int | None,
    typer.Option("--max-concurrent", help="Run at most this many trials at once.", rich_help_panel=RESOURCES),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Join a Ray cluster: auto, or host:6379. Without it Ray starts on this machine.",
        rich_help_panel=RESOURCES,
    ),
]
Storage = Annotated[
    str,
    typer.Option(help="Where studies are kept: a folder, or a URI such as s3://bucket/studies.", rich_help_panel=KEPT),
]
Name = Annotated[
    str | None,
    typer.Option(help="The study's name; without it, the space and the time.", rich_help_panel=KEPT),
]
Tracking = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri", help="An MLflow server; without it, mlflow.db beside the studies.", rich_help_panel=KEPT
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and start nothing.", rich_help_panel=BEGIN)]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print only the results, at the end.", rich_help_panel=BEGIN)]
OrResume = Annotated[
    bool,
    typer.Option("--or-resume", help="Resume the study of that --name if there is one.", rich_help_panel=BEGIN),
]
Resume = Annotated[
    str | None,
    typer.Option("--resume", metavar="NAME", help="Resume an interrupted or finished study.", rich_help_panel=BEGIN),
]

STUDIES = "studies"
