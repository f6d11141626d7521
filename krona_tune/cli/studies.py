"""Defines the commands that change a study: run, resume, train, sync, clean."""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any, Unpack

import typer

from krona_tune.api.asked_request import AskedRequest
from krona_tune.api.folders import existing, new_name, refuse_odd, refuse_taken, study_folder
from krona_tune.api.printing import console, mlflow_ui, say, warn
from krona_tune.api.study_request import default_to_glue, not_taken, resumed_spec, without_ordered
from krona_tune.api.study_run import resume_command, run_and_report
from krona_tune.cli import options
from krona_tune.cli.ending import command_of, exit_as, this_command
from krona_tune.record.ownership import claim
from krona_tune.record.parquet_reader import read_trials
from krona_tune.record.records import read_trials_so_far
from krona_tune.record.storage import Storage, storage_at
from krona_tune.refusal import Refusal, refuse_unknown
from krona_tune.search.driver_options import DriverOptions
from krona_tune.search.signals import interrupted_by_signals
from krona_tune.search.start_options import START_OPTIONS, StartOptions
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest
from krona_tune.study.redact import redact
from krona_tune.study.request.given_values import changing, given_by, lasting, naming_given
from krona_tune.study.request.loader import load_spec
from krona_tune.study.request.study_spec import Keep
from krona_tune.study.request.trial import MOST_SEEDS
from krona_tune.study.settings import SETTINGS, Keywords

if TYPE_CHECKING:
    from krona_tune.search.full_training import FullTraining
    from krona_tune.search.planning.plan import Plan

MAY_KEEP: dict[str, Keep] = {"winners": "winners", "finalists": "finalists"}
"""Whose checkpoints `clean` can keep."""


@options.with_settings
@options.with_start()
def run(
    tasks: options.Tasks = None,
    space: options.SpaceFile = None,
    settings: options.Settings = None,
    model: options.Model = None,
    *,
    storage: options.Storage = options.STUDIES,
    name: options.Name = None,
    start: StartOptions,
    dry_run: options.DryRun = False,
    resume: options.Resume = None,
    or_resume: options.OrResume = False,
    version: options.Version = False,
    **keywords: Unpack[Keywords],
) -> None:
    """Search Kronecker adapters for tasks, or resume a study with --resume."""
    refuse_odd(name)
    kept_at = storage_at(storage)
    asked = AskedRequest.of(space=space, tasks=tasks, model=model, settings=settings, keywords=keywords)
    begun = _begun(kept_at, asked, name, resume=resume, or_resume=or_resume)
    asked = asked.with_earlier(kept_at, begun=begun is not None)
    if begun:
        folder, place, new = begun, begun.spec, None
    else:
        if name:
            refuse_taken(kept_at.brought(name), name)
        chosen = asked.chosen(start.address, dry_run=dry_run)
        place = chosen.place
        folder = kept_at.brought(name or new_name(place))
        new = asked.spec(chosen, folder.name)
    given = asked.given
    with interrupted_by_signals(), naming_given(place, given), nullcontext() if dry_run else claim(folder) as waited:
        if new:
            refuse_taken(folder, name)  # another driver may have begun it meanwhile
            spec, reason = new, chosen.reason
        else:
            # another driver may have changed it meanwhile
            given, kept = (asked.given, []) if resume else without_ordered(folder, asked.given)
            spec = resumed_spec(folder, given, asked.space, adds=bool(resume))
            reason = f"the study is resumed; trials recorded: {_recorded(folder)}"
            for said in (*kept, *(not_taken(folder, asked.space, asked.given) if asked.space else ())):
                warn(said)
        keys = [each.key for each in changing(given)]
        command = this_command() if start.share is None else command_of(folder, begun=not new)
        told = DriverOptions(command=command, resumed_by=resume_command(folder), start=start, keys=keys, waited=waited)
        outcome = run_and_report(spec, str(place), reason, folder, told, dry_run=dry_run)
    exit_as(outcome)


OF_A_START = ("storage", "dry_run", *START_OPTIONS)
"""The options of each start of a study, which no study keeps."""


@options.with_options_of(run, ["settings", *OF_A_START, *(name for name, row in SETTINGS.items() if row.changes)])
def resume(study: Annotated[str, typer.Argument(help="The study's name.")], **words: Any) -> None:
    """Resume a study; --trials +20 gives it 20 more trials a task."""
    run(resume=study, **words)


@options.with_start("tracking_uri")
def sync(
    study: options.Study,
    storage: options.Storage = options.STUDIES,
    experiment: options.Experiment = None,
    *,
    start: StartOptions,
) -> None:
    """Send MLflow what it lacks of a study; a running study can't be synced."""
    from krona_tune.record.mlflow_mirror.mlflow_sink import sync as bring_up

    folder = study_folder(storage_at(storage), study)
    with claim(folder):
        outcome = bring_up(folder, start.tracking_uri, experiment)
    where = redact(outcome.page) if outcome.page else mlflow_ui(outcome.tracking_uri)
    say(f"{outcome.updated} of {outcome.trials} trials were brought up to date: {where}")


def clean(
    study: options.Study,
    keep: Annotated[
        str,
        typer.Option("--keep", help="winners: each task's best adapter; finalists: also all that were trained again."),
    ] = "finalists",
    storage: options.Storage = options.STUDIES,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how much would be removed, and remove nothing.")
    ] = False,
) -> None:
    """Remove the checkpoints that a study needs no more; interrupted trials keep theirs."""
    from krona_tune.record.trial_checkpoints import remove, sizes
    from krona_tune.search.kept_checkpoints import unneeded
    from krona_tune.study.formatting import format_bytes, format_many

    refuse_unknown("--keep", "choice", MAY_KEEP, keep)
    folder = study_folder(storage_at(storage), study)
    with claim(folder):
        spec = default_to_glue(load_spec(folder.spec))
        rows = read_trials(folder.results)
        manifest = read_manifest(folder.manifest) if folder.manifest.exists() else None
        planned, facts = (manifest.planned_of(spec), manifest.tasks) if manifest else (None, {})
        trials = sizes(folder, unneeded(folder, spec, planned, rows, facts, MAY_KEEP[keep], by_hand=True))
        if not trials:
            console.print("nothing to remove: no trial has a checkpoint that it needs no more", highlight=False)
            return
        freed, many = format_bytes(sum(trials.values())), format_many(len(trials), "trial")
        if dry_run:
            console.print(f"{freed} would be freed: the checkpoints of {many}", highlight=False)
        elif yes or _agreed(f"Remove the checkpoints of {many} of {folder.name}, {freed}?"):
            remove(folder, list(trials), surely=True)
            console.print(f"{freed} freed: the checkpoints of {many}", highlight=False)


def _agreed(question: str) -> bool:
    """Asks a person. Raises a Refusal if nobody answers."""
    try:
        return typer.confirm(question)
    except (typer.Abort, RuntimeError) as ended:  # at the input's end, or without any
        if isinstance(ended.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        console.print()
        raise Refusal("clean", "nobody has answered, nothing is removed", "add --yes") from None


def _begun(
    kept_at: Storage, asked: AskedRequest, name: str | None, *, resume: str | None, or_resume: bool
) -> StudyFolder | None:
    """Returns the study to resume, if there is one."""
    if resume:
        others = {"--space": asked.space, "--name": name, "--or-resume": or_resume}
        for by in [*(flag for flag, value in others.items() if value), *(each.by for each in lasting(asked.given))]:
            raise Refusal(by, "a resumed study keeps what it was begun with", f"leave {by} out")
        return existing(kept_at, resume)
    if not or_resume:
        return None
    if not name:
        raise Refusal("--or-resume", "a study is found again by its name", "give it one with --name")
    folder = kept_at.brought(name)
    return folder if folder.spec.exists() else None


def _recorded(folder: StudyFolder) -> str:
    """Returns how many trials have a row, or why that can't be read; a resumed study renames unreadable files."""
    try:
        return str(len(read_trials(folder.results)))
    except Refusal as refusal:
        return str(refusal)


@options.with_start("address", "tracking_uri", "quiet", "share")
def train(
    study: Annotated[str, typer.Argument(help="The study's name or folder.")],
    task: Annotated[
        str | None, typer.Option("--task", help="Whose chosen configuration to train, if there are several tasks.")
    ] = None,
    trial: Annotated[str | None, typer.Option("--trial", help="Train this trial's configuration instead.")] = None,
    all_data: Annotated[
        bool, typer.Option("--all-data", help="Train on train, validation and test together; nothing is held out.")
    ] = False,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=MOST_SEEDS, help="How many seeds to train with.")] = 1,
    max_concurrent: options.Concurrent = None,
    storage: options.Storage = options.STUDIES,
    dry_run: options.DryRun = False,
    *,
    start: StartOptions,
) -> None:
    """Train what a study has chosen again on all training examples, or on all data; write its adapter."""
    folder = study_folder(storage_at(storage), study)

    def asked(plan: "Plan") -> "FullTraining":
        from krona_tune.search.full_training import FullTraining, configuration

        facts = read_manifest(folder.manifest).tasks
        chosen = configuration(read_trials_so_far(folder.results), plan.spec, facts, task, trial)
        return FullTraining(of=chosen, seeds=seeds, everything=all_data)

    with interrupted_by_signals(), nullcontext() if dry_run else claim(folder) as waited:
        spec = resumed_spec(folder, given_by({"max_concurrent": max_concurrent}))
        told = DriverOptions(command=this_command(), resumed_by="the same command", start=start, waited=waited)
        outcome = run_and_report(spec, str(folder.spec), "", folder, told, dry_run=dry_run, asked=asked)
    exit_as(outcome)
