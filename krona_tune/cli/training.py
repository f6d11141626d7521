"""The command that trains a configuration of a study again on all examples."""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from krona_tune.api.flags import going_on, with_tasks
from krona_tune.api.folders import study_folder
from krona_tune.api.study_run import run_and_report
from krona_tune.cli import options
from krona_tune.cli.ending import exit_as, this_command
from krona_tune.record.mlflow_mirror.tracking_uri import refuse_no_store
from krona_tune.record.ownership import claim
from krona_tune.record.remote.storage import storage_at
from krona_tune.search.startup.cluster import refuse_odd_address
from krona_tune.study.request.trial import MOST_SEEDS

if TYPE_CHECKING:
    from krona_tune.search.full_training import FullTraining
    from krona_tune.search.planning.plan import Plan


def train(
    study: Annotated[str, typer.Argument(help="The study's name or folder.")],
    task: Annotated[
        str | None, typer.Option("--task", help="Whose winner to train, if there are several tasks.")
    ] = None,
    trial: Annotated[str | None, typer.Option("--trial", help="Train this trial's configuration instead.")] = None,
    all_data: Annotated[
        bool, typer.Option("--all-data", help="Train on train, validation and test together; nothing is held out.")
    ] = False,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=MOST_SEEDS, help="How many seeds to train with.")] = 1,
    max_concurrent: options.Concurrent = None,
    address: options.Address = None,
    storage: options.Storage = options.STUDIES,
    tracking_uri: options.Tracking = None,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a study's winner again on all training examples, or on all data; write its adapter."""
    refuse_no_store(tracking_uri)
    refuse_odd_address(address)
    folder = study_folder(storage_at(storage), study)
    given = {} if max_concurrent is None else {"--max-concurrent": max_concurrent}
    spec = with_tasks(going_on(folder, given))

    def asked(plan: "Plan") -> "FullTraining":
        from krona_tune.record.parquet_reader import read_trials
        from krona_tune.search.full_training import FullTraining, configuration

        chosen = configuration(read_trials(folder.results), plan, task, trial)
        return FullTraining(of=chosen, seeds=seeds, everything=all_data)

    with nullcontext() if dry_run else claim(folder):
        ended = run_and_report(
            spec,
            str(folder.spec),
            "",
            folder,
            address,
            tracking_uri,
            dry_run=dry_run,
            quiet=quiet,
            command=this_command(),
            resumed_by="the same command",
            asked=asked,
        )
    exit_as(ended)
