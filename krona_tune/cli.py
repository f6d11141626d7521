"""The only reader of flags: `python run_study.py …`, and the same as `krona-tune run | resume | report | check`."""

import logging
import re
import shlex
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from krona_tune import __version__
from krona_tune.glue.tasks import parse_tasks
from krona_tune.refusal import Refusal, unknown
from krona_tune.study.folder import StudyFolder
from krona_tune.study.loader import load_spec
from krona_tune.study.spec import StudySpec

if TYPE_CHECKING:
    from krona_tune.search.plan import Plan

DONE, NO_RESULT, REFUSED, INTERRUPTED = 0, 1, 2, 130
CHECKOUT = Path(__file__).resolve().parent.parent / "search_spaces"
SPACES = CHECKOUT if CHECKOUT.is_dir() else Path(sys.prefix) / "share" / "krona_tune" / "search_spaces"
NAMES = re.compile(r"[A-Za-z0-9][\w.-]*")
console = Console()
errors = Console(stderr=True)

Tasks = Annotated[str | None, typer.Option(help="glue for the eight tasks, or names such as cola,sst2,wnli.")]
SpaceFile = Annotated[Path | None, typer.Option("--space", help="A search space; without it one is chosen.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="PATH=VALUE: overrides a key of the YAML.")]
Model = Annotated[str | None, typer.Option(help="A hub name or a local folder.")]
Data = Annotated[str | None, typer.Option(help="hub, mini (synthetic), or a folder of TSV or parquet files.")]
Trials = Annotated[str | None, typer.Option(help="Trials a task.")]
Seed = Annotated[int | None, typer.Option(help="One seed for everything random.")]
MaxParams = Annotated[str | None, typer.Option(help="At most this many adapter parameters: 200000 or 0.1%.")]
TimeBudget = Annotated[str | None, typer.Option(help="Ends the study after 90s, 30m, 2h.")]
Cpus = Annotated[float | None, typer.Option("--cpus-per-trial")]
Gpus = Annotated[float | None, typer.Option("--gpus-per-trial", help="May be a share, such as 0.5.")]
Concurrent = Annotated[int | None, typer.Option("--max-concurrent", help="At most so many trials at once.")]
Address = Annotated[str | None, typer.Option(help="A Ray cluster: auto, or host:6379. Else Ray starts here.")]
Storage = Annotated[Path, typer.Option(help="Where studies are kept.")]
Name = Annotated[str | None, typer.Option(help="The study's name; without it, space and time.")]
Tracking = Annotated[str | None, typer.Option("--tracking-uri", help="An MLflow server; else mlflow.db in storage.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Says what would be run, and starts nothing.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="The ranking at the end and nothing before it.")]
Resume = Annotated[str | None, typer.Option("--resume", metavar="NAME", help="Goes on with a study.")]

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)


@app.command("run")
def run(
    tasks: Tasks = None,
    space: SpaceFile = None,
    settings: Settings = None,
    model: Model = None,
    data: Data = None,
    trials: Trials = None,
    seed: Seed = None,
    max_params: MaxParams = None,
    time_budget: TimeBudget = None,
    cpus_per_trial: Cpus = None,
    gpus_per_trial: Gpus = None,
    max_concurrent: Concurrent = None,
    address: Address = None,
    storage: Storage = Path("studies"),
    name: Name = None,
    tracking_uri: Tracking = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    resume: Resume = None,
) -> None:
    """Searches Kronecker adapters for GLUE tasks; with --resume, goes on with a study that was begun."""
    overrides: dict[str, Any] = {
        "tasks": parse_tasks(tasks) if tasks else None,
        "model": model,
        "data": data,
        "seed": seed,
        "search.trials": _number_of_trials(trials),
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
            }
        )
        folder = _existing(storage, resume)
        place, reason = folder.spec, "the study is resumed"
    else:
        place, reason = (space, "") if space else _chosen_space(address)
        folder = StudyFolder(storage / (name or f"{place.stem}-{datetime.now():%Y%m%d-%H%M%S}"))
        _refuse_taken(folder, name)
        overrides["name"] = folder.name
    spec = _with_tasks(load_spec(place, settings or (), overrides))
    _study(spec, str(place), reason, folder, address, tracking_uri, dry_run=dry_run, quiet=quiet)


@app.command("resume")
def resume_study(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    storage: Storage = Path("studies"),
    trials: Trials = None,
    time_budget: TimeBudget = None,
    address: Address = None,
    tracking_uri: Tracking = None,
    quiet: Quiet = False,
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


@app.command("report")
def report(study: Annotated[str, typer.Argument(help="The study's name.")], storage: Storage = Path("studies")) -> None:
    """Writes report.html again from a study's records."""
    from krona_tune.report.page import write_report

    console.print(str(write_report(_existing(storage, study))), soft_wrap=True)


@app.command("check")
def check(
    space: Annotated[Path, typer.Argument(help="A search space.")], settings: Settings = None, model: Model = None
) -> None:
    """Says whether a search space is right, and what it searches, without starting anything."""
    spec = _with_tasks(load_spec(space, settings or (), {"model": model}))
    from krona_tune.search.plan import make_plan

    _print_plan(make_plan(spec, str(space)), "", None)


def _study(
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
    from krona_tune.search.cluster import slots, this_machine
    from krona_tune.search.plan import make_plan

    if "://" in str(folder.root) or ":/" in str(folder.root):
        raise Refusal(
            "--storage", f"{folder.root.parent} is no folder", "name one, on a file system that every node sees"
        )
    if address is None:
        slots(this_machine(), spec.resources)  # said before Ray is started for nothing
    plan = make_plan(_with_whole_paths(spec), place)
    if dry_run or not quiet:
        _print_plan(plan, reason, folder)
    if dry_run:
        return
    began = time.monotonic()
    from krona_tune.report.page import write_report
    from krona_tune.search import runner, start
    from krona_tune.search.view import duration, ranking

    gathered = start.gather(plan, address)
    with start.claimed(folder):
        _log_to(folder.log)
        started = start.begin(gathered, folder, command=shlex.join(["python", *sys.argv]))
        if not quiet:
            _print_started(started, tracking_uri)
        outcome = runner.run(started, console, tracking_uri=tracking_uri, quiet=quiet, write_report=write_report)
    console.print()
    console.print(ranking(outcome.ledger, started.manifest.tasks))
    for sink, problem in outcome.lost_sinks.items():
        errors.print(f"[yellow]{sink} could not keep everything:[/yellow] {escape(problem)}")
    _print_paths(folder, duration(time.monotonic() - began), tracking_uri)
    runner.stop_ray()
    if outcome.interrupted:
        where = "" if folder.root.parent == Path("studies") else f" --storage {folder.root.parent}"
        console.print(f"Interrupted. Go on with: python run_study.py --resume {folder.name}{where}", soft_wrap=True)
        raise typer.Exit(INTERRUPTED)
    if any(outcome.ledger.best(task) is None for task in spec.tasks):
        raise typer.Exit(NO_RESULT)


def _log_to(path: Path) -> None:
    """From here on, what krona_tune logs is kept in the study's folder."""
    log = logging.getLogger("krona_tune")
    log.setLevel(logging.INFO)
    log.propagate = False
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log.addHandler(handler)


def _print_plan(plan: "Plan", reason: str, folder: StudyFolder | None) -> None:
    """What will be run, in a few lines."""
    spec, shape, search = plan.spec, plan.geometry, plan.spec.search
    console.print(f"[bold]krona_tune {__version__}[/bold]")
    lines = {
        "space": plan.place + (f" ({reason})" if reason else ""),
        "model": f"{plan.source.name}, {shape.model_type}, {shape.parameters:,} parameters, {plan.source.how}",
        "data": {"mini": "mini-GLUE (synthetic)", "hub": "nyu-mll/glue from the hub"}.get(spec.data, spec.data),
        "tasks": ", ".join(spec.tasks),
        "search": "; ".join(f"{n} {_domain(d)}" for n, d in plan.space.searched().items()) or "nothing: all is fixed",
        "trials": f"{search.trials} a task, and {len(plan.baselines(spec.tasks[0]))} with the head alone",
        "rungs": f"judged from {_each(spec.schedule.grace_epochs)} to {_each(spec.schedule.epochs)} epochs, "
        f"each {spec.schedule.reduction} times further",
    }
    if plan.space.limit is not None:
        share = plan.space.feasible_share()
        lines["limit"] = f"{plan.space.limit:,} adapter parameters; {share:.0%} of the space stays within it"
    if folder:
        lines["folder"] = str(folder.root)
    for key, value in lines.items():
        console.print(f"  {key:<8}{escape(value)}", highlight=False, soft_wrap=True)


def _print_started(started: Any, tracking_uri: str | None) -> None:
    manifest, cluster = started.manifest, started.cluster
    computing = f"{manifest.workers} at once on {manifest.device}, {manifest.precision}, {len(cluster.nodes)} node(s)"
    lines = {
        "workers": computing,
        "Ray": cluster.dashboard or "no dashboard",
        "MLflow": tracking_uri or f"mlflow ui --backend-store-uri {started.folder.tracking_uri}",
    }
    for key, value in lines.items():
        console.print(f"  {key:<8}{escape(value)}", highlight=False, soft_wrap=True)
    console.print()


def _print_paths(folder: StudyFolder, took: str, tracking_uri: str | None) -> None:
    console.print(f"Took {took}. Left in {folder.root}:", highlight=False, soft_wrap=True)
    lines = {
        "report.html": "the page to look at",
        "adapters/": "each task's best adapter: krona_tune.load(model, folder)",
        "results/": "every trial and rung as Parquet",
    }
    for key, value in lines.items():
        console.print(f"  {key:<13}{value}", highlight=False)
    store = tracking_uri or f"mlflow ui --backend-store-uri {folder.tracking_uri}"
    console.print(f"Compare trials: {store}", highlight=False, soft_wrap=True)


def _domain(domain: Any) -> str:
    written = domain.plain()
    if isinstance(written, list):
        return "{" + ", ".join(map(str, written)) + "}"
    kind = " log" if written.get("log") else ""
    return f"{written['low']:g}…{written['high']:g}{kind}"


def _each(value: Any) -> str:
    return " / ".join(f"{k} {v:g}" for k, v in value.items()) if isinstance(value, dict) else f"{value:g}"


def _chosen_space(address: str | None) -> tuple[Path, str]:
    """The space for this machine, and why."""
    from krona_tune.search.cluster import connect, this_machine

    cluster, where = (connect(address), f"the cluster at {address}") if address else (this_machine(), "this machine")
    space, found = ("t5_base.yaml", "has a GPU") if cluster.gpus else ("mini.yaml", "has no GPU")
    return SPACES / space, f"{where} {found}"


def _with_tasks(spec: StudySpec) -> StudySpec:
    """Where neither flags nor space name tasks, the eight of GLUE are meant."""
    return spec if spec.tasks else spec.model_copy(update={"tasks": parse_tasks("glue")})


def _with_whole_paths(spec: StudySpec) -> StudySpec:
    """Local folders by their whole path, so that the study can be resumed from anywhere."""
    folders = {name: getattr(spec, name) for name in ("model", "data")}
    found = {name: Path(text).expanduser() for name, text in folders.items()}
    return spec.model_copy(update={name: str(path.resolve()) for name, path in found.items() if path.is_dir()})


def _existing(storage: Path, name: str) -> StudyFolder:
    folder = StudyFolder(storage / name)
    if not NAMES.fullmatch(name) or not folder.spec.exists():
        there = sorted(path.parent.name for path in storage.glob("*/study.yaml"))
        raise (
            unknown(str(storage), "study", name, there)
            if there
            else Refusal(
                str(storage), f"no study {name!r}", "there is none at all: run one, or name its folder with --storage"
            )
        )
    return folder


def _refuse_taken(folder: StudyFolder, name: str | None) -> None:
    if name is not None and not NAMES.fullmatch(name):
        raise Refusal("--name", f"{name!r} is no name of a study", "use letters, digits, '.', '_' and '-'")
    if folder.spec.exists():
        raise Refusal("--name", f"{folder.root} holds a study", f"go on with --resume {name}, or choose another name")
    if folder.root.exists() and any(folder.root.iterdir()):
        raise Refusal("--name", f"{folder.root} is not empty", "choose another name")


def _refuse_with_resume(flags: dict[str, Any]) -> None:
    for flag, value in flags.items():
        if value:
            raise Refusal(f"--{flag}", "a resumed study keeps what it was begun with", f"leave --{flag} out")


def _number_of_trials(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise Refusal("--trials", f"{text!r} is not a number of trials", "give a whole number from 1")
    return int(text)


def _guarded(command: Any) -> None:
    """Runs a command; a refusal is one line on standard error, and exit status 2."""
    try:
        command()
    except Refusal as refusal:
        errors.print(escape(str(refusal)), highlight=False, soft_wrap=True)
        sys.exit(REFUSED)


def main() -> None:
    """The program `krona-tune`."""
    _guarded(app)


def run_study() -> None:
    """The program `run_study.py`: the verb `run`."""
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command()(run)
    _guarded(single)
