"""Runs one study from its request to its ranking, here or by the command line's driver in another process."""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING

from rich.markup import escape

from krona_tune.api.folders import with_whole_paths
from krona_tune.api.plan_printing import print_dry_run, print_examples, print_plan, print_warnings
from krona_tune.api.printing import (
    console,
    errors,
    print_cost,
    print_full_training,
    print_paths,
    print_started,
    print_trained,
    warn,
)
from krona_tune.api.study_log import logging_to, refuse_no_log
from krona_tune.api.study_request import lifting_ordered_stop
from krona_tune.processor import torch_threads, was_forked
from krona_tune.record.records import read_trials_so_far
from krona_tune.refusal import NotNow
from krona_tune.search.budget import RAISED_BY, time_is_up
from krona_tune.search.driver_options import DriverOptions, Outcome
from krona_tune.search.planning.plan import Plan, make_plan
from krona_tune.search.progress.study_status import read_status
from krona_tune.search.waiting_orders import EarlierOrders
from krona_tune.study.folder import StudyFolder
from krona_tune.study.formatting import format_many
from krona_tune.study.manifest import TaskFacts, read_manifest, refuse_other_inputs, study_inputs
from krona_tune.study.order import OrderKind
from krona_tune.study.redact import redact
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.study_state import recoverable

if TYPE_CHECKING:
    from concurrent.futures import Future

    from krona_tune.search.forecast import Forecast
    from krona_tune.search.full_training import FullTraining
    from krona_tune.search.startup.begin_study import DriverContext, Resources
    from krona_tune.search.startup.slots import Cluster

REPORT = "krona_tune.report.study_page"
MOST_NAMED = 5
"""How many failed trials are named at a study's end."""
LOAD_SECONDS = 10.0
"""When a study loads the packages that draw its page, in seconds from its start: while its first trials train."""


def run_and_report(
    spec: StudySpec,
    place: str,
    reason: str,
    folder: StudyFolder,
    options: DriverOptions,
    *,
    dry_run: bool = False,
    asked: "Callable[[Plan], FullTraining] | None" = None,
) -> Outcome | None:
    """Prints the plan, runs the study and prints its results; the caller has claimed the study's folder.

    Args:
        place: the file that the request was read from.
        reason: why this request was taken, in words; may be empty.
        dry_run: print the plan alone; there is no outcome then.
        asked: returns the full training that is then all that is run.
    """
    from krona_tune.search.startup.cluster import refuse_no_start
    from krona_tune.search.startup.slots import slots, this_machine

    refuse_no_start(options.start.address)
    began = time.monotonic()
    earlier = EarlierOrders.of(folder, options.keys, options.waited)  # what is ordered later means this driver
    here = None if options.start.address else slots(this_machine(), spec.resources)  # refuses before Ray is started
    plan = _planned(spec, place, folder)
    again = asked(plan) if asked else None
    if dry_run or not options.start.quiet:
        print_full_training(plan, again, here) if again else print_plan(plan, reason, folder.where, earlier)
    else:
        print_warnings(plan.unread, errors)  # from what it can't learn any more
    if dry_run:
        if again:
            _refuse_other_study(plan, folder, "train")
            from krona_tune.search.full_training import whole_plan

            print_examples(whole_plan(plan, again), [again.of.task])
        else:
            _refuse_other_study(plan, folder, "--resume")
            print_dry_run(plan, here, folder, "krona-tune recommend tells how to train it")
        return None
    refuse_no_log(folder.log)
    if not (again or earlier.orders) and time_is_up(spec.search, folder) and _left(spec, folder):
        said = f"the budget of time is used up: nothing more is trained without a larger {RAISED_BY['time']}"
        warn(said)
    outcome = _run(plan, folder, replace(options, again=again, earlier=earlier, began=began))
    if outcome.interrupted:
        console.print(escape(_how_to_go_on(outcome, options.resumed_by)), soft_wrap=True)
    return outcome


def _left(spec: StudySpec, folder: StudyFolder) -> bool:
    """Returns whether a study that has begun has trials to go."""
    if not folder.manifest.exists():
        return False
    rows, manifest = read_trials_so_far(folder.results), read_manifest(folder.manifest)
    return bool(read_status(folder, rows, runs=False, manifest=manifest, spec=spec).state.states.to_go)


def _refuse_other_study(plan: "Plan", folder: StudyFolder, place: str) -> None:
    """Raises a Refusal if a study has begun with other weights, data or functions, as a run does; a run also compares
    the tokenizer, which takes torch."""
    if not folder.manifest.exists():
        return
    then = read_manifest(folder.manifest)
    tasks = {name: _facts_now(plan, name, facts) for name, facts in then.tasks.items()}
    known = {"fingerprint": plan.source.fingerprint, "config": plan.source.computing, "vocabulary": ""}
    refuse_other_inputs(study_inputs(then, then.model.model_copy(update=known), tasks), place)


def _facts_now(plan: "Plan", name: str, facts: TaskFacts) -> TaskFacts:
    """Returns the facts of a task with what its data of one's own and their metrics are now."""
    from krona_tune.data.metrics import code_of_functions_digest, functions_digest

    if name not in plan.own_data:
        return facts
    data = plan.data_of(name)
    now = {
        "fingerprint": data.fingerprint,
        "functions": functions_digest(data.task),
        "code_of_functions": code_of_functions_digest(data.task),
        "labels": data.task.labels,
    }
    return facts.model_copy(update=now)


def _run(plan: "Plan", folder: StudyFolder, options: DriverOptions) -> Outcome:
    """Runs the study on a Ray that is joined or started for it, and prints its results."""
    from krona_tune.search.startup.cluster import abandon, connecting, leave_ray

    workers = connecting(options.start.address, plan.spec.resources)
    began, driver = options.began or time.monotonic(), None
    with ExitStack() as ends:
        try:
            from krona_tune.search.driver import Driver
            from krona_tune.search.startup.begin_study import begin_study

            if was_forked():
                ends.enter_context(torch_threads(1))  # enough for what a driver computes
            resources, forecast = _checked(_resources(plan, workers, folder, options.resumed_by), folder, options)
            ends.enter_context(logging_to(folder.log))
            with lifting_ordered_stop(folder, plan.spec):
                context = begin_study(resources, folder, command=options.command, full_training=bool(options.again))
            load = Timer(LOAD_SECONDS, import_module, [REPORT])
            load.daemon = True
            load.start()
            driver = Driver(context, options, forecast, console)
            if not options.start.quiet:
                print_started(context, options.start, forecast, driver.ledger.rows, time.monotonic() - began)
            outcome = driver.run(lambda folder: import_module(REPORT).write_report(folder))
        except BaseException as error:
            abandon(workers)
            if isinstance(error, KeyboardInterrupt) and driver is None:
                errors.print("Stopped at the start, before anything was trained.")
            raise
        try:
            _print_results(outcome, context, options, began)
        finally:
            leave_ray(lost=bool(outcome.lost))  # while the study is still claimed: its workers write into its folder
    return outcome


def _checked(
    resources: "Resources", folder: StudyFolder, options: DriverOptions
) -> "tuple[Resources, Forecast | None]":
    """Returns the resources with what they compute in, and a forecast. Refuses what would fail every trial."""
    from krona_tune.search.startup.preflight import run_preflight
    from krona_tune.search.startup.timed_forecast import timed_forecast

    only = options.again.of.task if options.again else None
    findings = run_preflight(resources, folder, options.start.tracking_uri, only)
    for warning in findings.warnings:
        warn(warning)
    findings.refuse()
    forecast = timed_forecast(resources, findings.probe) if findings.probe and not options.again else None
    return resources.computing_in(findings.computes_in), forecast


def _print_results(outcome: Outcome, context: "DriverContext", options: DriverOptions, began: float) -> None:
    from krona_tune.search.terminal.result_tables import build_result_tables
    from krona_tune.study.formatting import format_duration

    folder, manifest = context.folder, context.manifest
    console.print()
    if outcome.trained:
        print_trained(outcome.trained, outcome.ledger.rows, folder, manifest.tasks)
    else:
        console.print(build_result_tables(outcome.ledger.standings, manifest.tasks, outcome.search))
    lacking = _print_losses(outcome, folder)
    print_cost(context, outcome.ledger)
    print_paths(folder, format_duration(time.monotonic() - began), options.start.tracking_uri, lacking)


def _planned(spec: StudySpec, place: str, folder: StudyFolder) -> "Plan":
    """Returns the plan of a request; that of a study which was begun computes in what it did then."""
    begun = read_manifest(folder.manifest) if folder.manifest.exists() else None
    plan = make_plan(with_whole_paths(spec), place, begun)
    return replace(plan, computes_in=begun.computes_in) if begun else plan


def _print_losses(outcome: Outcome, folder: StudyFolder) -> str:
    """Prints what could not be written, but for MLflow's part, which it returns."""
    from krona_tune.record.mlflow_mirror.mlflow_sink import MlflowSink

    lost = dict(outcome.lost_sinks)
    lacking = redact(lost.pop(MlflowSink.name, "").partition(": ")[2])
    for sink, problem in lost.items():
        errors.print(f"[yellow]{sink} could not keep everything:[/yellow] {escape(redact(problem))}")
    for each in outcome.lacking:
        fix = f"krona-tune train {folder.name}{folder.storage_flag} --trial ID trains a configuration again"
        errors.print(f"[yellow]an adapter could not be written:[/yellow] {escape(f'{each}; {fix}')}", soft_wrap=True)
    if failed := [row.trial_id for row in recoverable(outcome.ledger.rows.values())]:
        warn(_said_of_failed(failed, folder))
    if outcome.no_page:
        why = f"{redact(outcome.no_page)}; krona-tune report {folder.name}{folder.storage_flag} draws it"
        errors.print(f"[yellow]the page could not be written:[/yellow] {escape(why)}", soft_wrap=True)
    return lacking


def _said_of_failed(trials: Sequence[str], folder: StudyFolder) -> str:
    """Names trials that failed or ran out of memory, and says how they go on."""
    named = ", ".join(trials[:MOST_NAMED]) + " and others" * (len(trials) > MOST_NAMED)
    order = f"krona-tune order {folder.name} {OrderKind.RETRY.word}{folder.storage_flag}"
    many = format_many(len(trials), "trial")
    return f"{many} failed or ran out of memory: {named}. Once the cause is mended: {order} && {resume_command(folder)}"


def resume_command(folder: StudyFolder) -> str:
    """Returns the command that resumes a study."""
    begins = {"run_study.py": "python run_study.py --resume", "__main__.py": "python -m krona_tune resume"}
    verb = begins.get(Path(sys.argv[0]).name, "krona-tune resume")
    return f"{verb} {folder.name}{folder.storage_flag}"


def _resources(plan: "Plan", workers: "Future[Cluster]", folder: StudyFolder, resumed_by: str) -> "Resources":
    """Returns what the plan needs to run. If it is not there now, the refusal says whether a study was begun."""
    from krona_tune.search.startup.begin_study import gather_resources

    try:
        return gather_resources(plan, workers)
    except NotNow as refusal:
        begun = "no study was begun, give the same command again later"
        if folder.manifest.exists():
            begun = f"the study is as it was, try again later: {resumed_by}"
        raise refusal.at(refusal.place, fix=f"{refusal.fix}; {begun}") from None


def _how_to_go_on(outcome: Outcome, resumed_by: str) -> str:
    why = "Interrupted. Resume"
    if outcome.halted:
        why = f"Stopped, {redact(outcome.halted)}. When that is fixed, resume"
    elif outcome.lost_ray:
        why = f"Stopped, {outcome.lost}. Resume"
    if outcome.trained:
        return f"{why} with the same command."
    return f"{why} with: {resumed_by}"
