"""Every flag of the command line, each written once."""

from pathlib import Path
from typing import Annotated

import typer

Tasks = Annotated[str | None, typer.Option(help="glue for the eight tasks, or names such as cola,sst2,wnli.")]
SpaceFile = Annotated[Path | None, typer.Option("--space", help="A search space; without it one is chosen.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="PATH=VALUE: overrides a key of the YAML.")]
Model = Annotated[str | None, typer.Option(help="A hub name or a local folder.")]
Data = Annotated[str | None, typer.Option(help="hub, mini (synthetic), or a folder of TSV or parquet files.")]
Trials = Annotated[str | None, typer.Option(help="Trials a task; +20: so many more for a study that is resumed.")]
Seed = Annotated[int | None, typer.Option(help="One seed for everything random.")]
MaxParams = Annotated[str | None, typer.Option(help="At most this many adapter parameters: 200000 or 0.1%.")]
TimeBudget = Annotated[str | None, typer.Option(help="Ends the study after 90s, 30m, 2h.")]
Cpus = Annotated[float | None, typer.Option("--cpus-per-trial")]
Gpus = Annotated[float | None, typer.Option("--gpus-per-trial", help="May be a share, such as 0.5.")]
Concurrent = Annotated[int | None, typer.Option("--max-concurrent", help="At most so many trials at once.")]
Address = Annotated[str | None, typer.Option(help="A Ray cluster: auto, or host:6379. Else Ray starts here.")]
Storage = Annotated[str, typer.Option(help="Where studies are kept: a folder, or a URI such as s3://bucket/studies.")]
Name = Annotated[str | None, typer.Option(help="The study's name; without it, space and time.")]
Tracking = Annotated[str | None, typer.Option("--tracking-uri", help="An MLflow server; else a local mlflow.db.")]
WarmStart = Annotated[str | None, typer.Option("--warm-start", help="A study whose best points are tried first.")]
Objective = Annotated[str | None, typer.Option(help="score, or pareto: the best score at every size.")]
Shared = Annotated[
    bool | None, typer.Option("--shared/--per-task", help="One adapter for all tasks, judged by the average.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Says what would be run, and starts nothing.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="The ranking at the end and nothing before it.")]
OrResume = Annotated[
    bool, typer.Option("--or-resume", help="Goes on with the study of that --name where there is one.")
]
Resume = Annotated[str | None, typer.Option("--resume", metavar="NAME", help="Goes on with a study.")]

STUDIES = "studies"
