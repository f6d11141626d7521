"""One study from its request to its ranking."""

import logging
import shlex
import sys
import time
from pathlib import Path

import typer
from rich.markup import escape

from krona_tune.cli.options import STUDIES
from krona_tune.cli.printing import console, errors, print_paths, print_plan, print_started
from krona_tune.hub import home
from krona_tune.study.folder import StudyFolder
from krona_tune.study.masked import masked
from krona_tune.study.spec import StudySpec

NO_RESULT, INTERRUPTED = 1, 130


def conduct(
    spec: StudySpec,
    place: str,
    reason: str,
    folder: StudyFolder,
    address: str | None,
    tracking_uri: str | None,
    *,
    dry_run: bool,
    quiet: bool,
) -> None:
    """Prints the plan, runs the study and says what came of it."""
    from krona_tune.search.cluster import connecting, slots, this_machine
    from krona_tune.search.plan import make_plan

    if address is None:
        slots(this_machine(), spec.resources)  # said before Ray is started for nothing
    plan = make_plan(_with_whole_paths(spec), place)
    if dry_run or not quiet:
        print_plan(plan, reason, folder)
    if dry_run:
        return
    began, workers = time.monotonic(), connecting(address)
    from krona_tune.report.page import write_report
    from krona_tune.search import runner, start
    from krona_tune.search.cost import Forecast
    from krona_tune.search.preflight import preflight
    from krona_tune.search.ranking import ranking
    from krona_tune.search.wording import duration

    gathered = start.gather(plan, workers)
    findings = preflight(gathered, folder, tracking_uri)
    for warning in findings.warnings:
        errors.print(f"[yellow]warning:[/yellow] {escape(warning)}", soft_wrap=True)
    findings.refuse()
    forecast = Forecast.of(gathered, findings.probe) if findings.probe else None
    with start.claimed(folder):
        _log_to(folder.log)
        started = start.begin(gathered, folder, command=shlex.join(["python", *sys.argv]))
        if not quiet:
            print_started(started, tracking_uri, forecast)
        outcome = runner.run(
            started,
            console,
            tracking_uri=tracking_uri,
            quiet=quiet,
            forecast=forecast,
            write_report=write_report,
        )
    console.print()
    console.print(ranking(outcome.ledger, started.manifest.tasks, fronts=spec.search.objective == "pareto"))
    for sink, problem in outcome.lost_sinks.items():
        errors.print(f"[yellow]{sink} could not keep everything:[/yellow] {escape(masked(problem))}")
    print_paths(folder, duration(time.monotonic() - began), tracking_uri)
    runner.stop_ray()
    if outcome.interrupted:
        where = "" if folder.storage == STUDIES else f" --storage {masked(folder.storage)}"
        why = (
            f"Stopped, {masked(outcome.halted)}. When that is mended, go on" if outcome.halted else "Interrupted. Go on"
        )
        console.print(f"{escape(why)} with: python run_study.py --resume {folder.name}{where}", soft_wrap=True)
        raise typer.Exit(INTERRUPTED)
    if any(outcome.ledger.best(task) is None for task in spec.tasks):
        raise typer.Exit(NO_RESULT)


class _File(logging.FileHandler):
    """A line for which there is no room on the disk is left out without a word."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class _Masking(logging.Formatter):
    """Lines in which no password stands."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def _log_to(path: Path) -> None:
    """From here on, what krona_tune logs is kept in the study's folder."""
    log = logging.getLogger("krona_tune")
    log.setLevel(logging.INFO)
    log.propagate = False
    handler = _File(path, encoding="utf-8")
    handler.setFormatter(_Masking("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log.addHandler(handler)


def _with_whole_paths(spec: StudySpec) -> StudySpec:
    """Local folders by their whole path, so that the study can be resumed from anywhere."""
    folders = {name: getattr(spec, name) for name in ("model", "data")}
    found = {name: home(Path(text)) for name, text in folders.items()}
    return spec.model_copy(update={name: str(path.resolve()) for name, path in found.items() if path.is_dir()})
