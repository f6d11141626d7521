"""The verbs about studies: run, resume, report, check."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from krona_tune.cli import options
from krona_tune.cli.conduct import conduct
from krona_tune.cli.folders import chosen_space, existing, refuse_odd, refuse_taken, study_folder
from krona_tune.cli.printing import console, print_plan
from krona_tune.glue.tasks import parse_tasks
from krona_tune.record.remote.storage import storage_at
from krona_tune.refusal import Refusal
from krona_tune.study.loader import load_spec
from krona_tune.study.manifest import read_manifest
from krona_tune.study.spec import StudySpec


def run(
    tasks: options.Tasks = None,
    space: options.SpaceFile = None,
    settings: options.Settings = None,
    model: options.Model = None,
    data: options.Data = None,
    trials: options.Trials = None,
    seed: options.Seed = None,
    max_params: options.MaxParams = None,
    time_budget: options.TimeBudget = None,
    cpus_per_trial: options.Cpus = None,
    gpus_per_trial: options.Gpus = None,
    max_concurrent: options.Concurrent = None,
    address: options.Address = None,
    storage: options.Storage = options.STUDIES,
    name: options.Name = None,
    tracking_uri: options.Tracking = None,
    warm_start: options.WarmStart = None,
    objective: options.Objective = None,
    shared: options.Shared = None,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    resume: options.Resume = None,
    or_resume: options.OrResume = False,
) -> None:
    """Searches Kronecker adapters for GLUE tasks; with --resume, goes on with a study that was begun."""
    refuse_odd(name)
    kept_at = storage_at(storage)
    if or_resume and name and kept_at.brought(name).spec.exists():
        return run(
            resume=name,
            storage=storage,
            trials=trials,
            time_budget=time_budget,
            max_concurrent=max_concurrent,
            address=address,
            tracking_uri=tracking_uri,
            quiet=quiet,
        )
    overrides: dict[str, Any] = {
        "tasks": parse_tasks(tasks) if tasks else None,
        "model": model,
        "data": data,
        "seed": seed,
        "search.objective": objective,
        "search.shared": shared,
        "search.max_params": max_params,
        "search.time_budget": time_budget,
        "resources.cpus_per_trial": cpus_per_trial,
        "resources.gpus_per_trial": gpus_per_trial,
        "resources.max_concurrent": max_concurrent,
    }
    if resume:
        _refuse_with_resume(
            {
                "tasks": tasks,
                "space": space,
                "set": settings,
                "name": name,
                "model": model,
                "data": data,
                "seed": seed,
                "max-params": max_params,
                "warm-start": warm_start,
                "objective": objective,
                "shared": shared,
            }
        )
        folder = existing(kept_at, resume)
        if folder.manifest.exists():
            read_manifest(folder.manifest)  # refused here where it is damaged, not after Ray has started
        place, reason = folder.spec, "the study is resumed"
        overrides["search.trials"] = _trials_in_all(trials, load_spec(place).search.trials)
    else:
        place, reason = (space, "") if space else chosen_space(address)
        folder = kept_at.brought(name or f"{place.stem}-{datetime.now():%Y%m%d-%H%M%S}")
        refuse_taken(folder, name)
        overrides |= {"name": folder.name, "search.trials": _number_of_trials(trials)}
        if warm_start:
            overrides["search.warm_start"] = str(study_folder(kept_at, warm_start).root.resolve())
    spec = _with_tasks(load_spec(place, settings or (), overrides))
    return conduct(spec, str(place), reason, folder, address, tracking_uri, dry_run=dry_run, quiet=quiet)


def resume(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    storage: options.Storage = options.STUDIES,
    trials: options.Trials = None,
    time_budget: options.TimeBudget = None,
    address: options.Address = None,
    tracking_uri: options.Tracking = None,
    quiet: options.Quiet = False,
) -> None:
    """Goes on with a study; --trials gives it more."""
    run(
        resume=study,
        storage=storage,
        trials=trials,
        time_budget=time_budget,
        address=address,
        tracking_uri=tracking_uri,
        quiet=quiet,
    )


def report(
    studies: Annotated[
        list[str], typer.Argument(metavar="STUDY...", help="A study's name or folder; several: compared.")
    ],
    storage: options.Storage = options.STUDIES,
    to: Annotated[Path | None, typer.Option("--to", help="The file of a comparison.")] = None,
) -> None:
    """Writes report.html again from a study's records, or a page that compares several studies."""
    from krona_tune.record.running import is_running
    from krona_tune.report.comparison import write_comparison
    from krona_tune.report.page import write_report

    place = storage_at(storage)
    folders = [study_folder(place, study) for study in studies]
    if to is None and len(folders) == 1:
        page = write_report(folders[0], runs=is_running(folders[0]))
    else:
        page = write_comparison(folders, to or place.folder / "comparison.html")
    console.print(str(page), soft_wrap=True)


def sync(
    study: Annotated[str, typer.Argument(help="A study's name or folder.")],
    storage: options.Storage = options.STUDIES,
    tracking_uri: options.Tracking = None,
) -> None:
    """Brings MLflow up to what a study recorded; a study that runs can't be synced."""
    from krona_tune.record.sync import sync as bring_up
    from krona_tune.search.start import claimed

    folder = study_folder(storage_at(storage), study)
    with claimed(folder):
        outcome = bring_up(folder, tracking_uri)
    where = outcome.page or f"mlflow ui --backend-store-uri {outcome.tracking_uri}"
    console.print(f"{outcome.mended} of {outcome.trials} trials were brought up to date: {where}", soft_wrap=True)


def check(
    space: Annotated[Path, typer.Argument(help="A search space.")],
    settings: options.Settings = None,
    model: options.Model = None,
) -> None:
    """Says whether a search space is right, and what it searches, without starting anything."""
    spec = _with_tasks(load_spec(space, settings or (), {"model": model}))
    from krona_tune.search.plan import make_plan

    print_plan(make_plan(spec, str(space)), "", None)


def _with_tasks(spec: StudySpec) -> StudySpec:
    """Where neither flags nor space name tasks, the eight of GLUE are meant."""
    return spec if spec.tasks else spec.model_copy(update={"tasks": parse_tasks("glue")})


def _refuse_with_resume(flags: dict[str, Any]) -> None:
    for flag, value in flags.items():
        if value:
            raise Refusal(f"--{flag}", "a resumed study keeps what it was begun with", f"leave --{flag} out")


def _trials_in_all(text: str | None, earlier: int) -> int | None:
    """`40`, or `+20` beside the earlier ones."""
    number = _number_of_trials(text.removeprefix("+") if text else None)
    return earlier + number if number and text and text.startswith("+") else number


def _number_of_trials(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise Refusal("--trials", f"{text!r} is not a number of trials", "give a whole number from 1")
    return int(text)
