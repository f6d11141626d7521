"""Prints what a study says before it begins and when it has ended."""

import os
import re
import shlex
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from textwrap import indent
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from krona_tune.adapters.export_forms import Form
from krona_tune.search.terminal.cell_view import WIDTH as CELL_WIDTH
from krona_tune.search.terminal.cell_view import in_notebook
from krona_tune.study.folder import StudyFolder
from krona_tune.study.formatting import (
    describe_adapter,
    format_device_hours,
    format_duration,
    format_epochs,
    format_many,
    format_money,
    format_score,
)
from krona_tune.study.redact import redact
from krona_tune.study.request.field_types import for_task
from krona_tune.study.result import TrialResult
from krona_tune.study.verdicts import trained_texts

if TYPE_CHECKING:
    from krona_tune.search.budget import Amount
    from krona_tune.search.forecast import Forecast
    from krona_tune.search.full_training import FullTraining
    from krona_tune.search.ledger import Ledger
    from krona_tune.search.planning.plan import Plan
    from krona_tune.search.start_options import StartOptions
    from krona_tune.search.startup.begin_study import DriverContext
    from krona_tune.search.startup.slots import Slots
    from krona_tune.study.manifest import Manifest, TaskFacts
    from krona_tune.train.export import ExportResult

OF_THE_SERVICE = ("fastapi", "sqlalchemy", "starlette", "uvicorn")
"""The packages that `krona-tune serve` needs."""
NARROWEST, WIDEST = 20, 1000
"""The range of plausible terminal widths, in columns."""


CONTROLS = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069]")
"""Signs with which a text of others could move the cursor, change colours or turn the order of what follows."""


class SafeConsole(Console):
    """A console on which no text acts: its control characters are shown as escapes. It is silent from the moment on at
    which its reader leaves, as `head` does: rich's own would end the program, and a study with it."""

    def render_str(self, text: str, **how: Any) -> Text:
        """Returns what rich prints for a text: a line, or the cell of a table."""
        return super().render_str(CONTROLS.sub(_escaped, text), **how)

    def on_broken_pipe(self) -> None:
        self.quiet = True


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


def drop_odd_width() -> None:
    """Drops an implausible terminal width, such as COLUMNS=0, because rich would print nothing."""
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and not NARROWEST <= int(said[:9]) <= WIDEST:
        del os.environ["COLUMNS"]


drop_odd_width()  # before a console asks for it
_width = CELL_WIDTH if in_notebook() else None
# a notebook shows what is written to the standard output; a word such as :x: is none of rich's pictures
console = SafeConsole(force_jupyter=False, emoji=False, width=_width)
errors = SafeConsole(stderr=True, force_jupyter=False, emoji=False, width=_width)


def say(text: str, *, to: Console = console) -> None:
    """Prints a text as it is, however long it is and whatever signs it holds."""
    to.print(text, highlight=False, markup=False, soft_wrap=True)


def warn(text: str, *, to: Console = errors) -> None:
    """Prints a warning, with its text as it is."""
    to.print(f"[yellow]warning:[/yellow] {escape(text)}", highlight=False, soft_wrap=True)


def print_lines(lines: Mapping[str, str]) -> None:
    for key, value in lines.items():
        say(f"  {key:<7} {value}")


def print_full_training(plan: "Plan", again: "FullTraining", slots: "Slots | None") -> None:
    """Prints which configuration will be trained on which examples, and how long that takes on such slots, if they are
    known."""
    from krona_tune.search.startup.needs import full_training_in_words

    spec, row = plan.spec, again.of
    length = format_epochs(for_task(spec.schedule.epochs, row.task))
    lines = {
        "model": f"{plan.source.name}, {plan.source.how}",
        "task": row.task,
        "trial": f"{row.trial_id}: {describe_adapter(row.params)}",
        "data": f"{again.text}, {length}, with {format_many(again.seeds, 'seed')}",
        **({"time": full_training_in_words(plan, again, slots)} if slots else {}),
    }
    print_lines(lines)


def print_trained(
    trials: Iterable[str], rows: Mapping[str, TrialResult], folder: StudyFolder, tasks: "Mapping[str, TaskFacts]"
) -> None:
    """Prints each full training's result, how its adapter is used, and what is to be known of them all."""
    trained = [row for trial in trials if (row := rows.get(trial))]
    for row in trained:
        halves = {"validation": row.score, "test": row.test_score}
        scores = [f"{format_score(score)} on {half}" for half, score in halves.items() if score is not None]
        ended = ", ".join(scores) or ("no score, nothing was held out" if row.checkpoint else row.error)
        say(f"{row.trial_id}  {row.status}  {ended}")
        if folder.adapter(row.trial_id).is_dir():
            words = ["krona-tune", "predict", str(folder.adapter(row.trial_id))]
            say(f"  {shlex.join(words)}")
    if trained:
        for text in trained_texts(tasks[trained[0].task], [row for row in trained if row.ended]):
            say(text)


def print_started(
    started: "DriverContext",
    start: "StartOptions",
    forecast: "Forecast | None",
    rows: Mapping[str, TrialResult],
    passed: float = 0.0,
) -> None:
    """Prints what is used and how long it takes; `rows` are those of earlier drivers, `passed` the seconds since the
    command's start."""
    manifest, cluster = started.manifest, started.cluster
    nodes = format_many(len(cluster.nodes), "node")
    computing = f"{manifest.workers} at once on {manifest.device}, {manifest.precision}, {nodes}"
    lines = {
        "workers": computing,
        **({"time": _foretold(started, forecast, rows, passed)} if forecast else {}),
        "lengths": _lengths(manifest),
        "Ray": cluster.dashboard or "no dashboard",
        "MLflow": _store(started.folder, start.tracking_uri),
        **({"W&B": _at_wandb(started.folder, start.wandb)} if start.wandb else {}),
        **({"page": _serve(started.folder)} if all(map(find_spec, OF_THE_SERVICE)) else {}),
    }
    print_lines(lines)
    console.print()


def _store(folder: StudyFolder, tracking_uri: str | None) -> str:
    """Returns the address of the server that was named, or the command that shows the store beside the study."""
    return redact(tracking_uri or "") or mlflow_ui(folder.tracking_uri)


def mlflow_ui(store: str) -> str:
    """Returns the command that shows a tracking store's runs, without the store's password."""
    return shlex.join(["mlflow", "ui", "--backend-store-uri", redact(store)])


def _lengths(manifest: "Manifest") -> str:
    """Returns how many tokens are read of an example, and which share of each task's examples is cut."""
    most = {facts.max_length for facts in manifest.tasks.values()}
    shares = [f"{facts.cut_share:.1%} of {facts.title}" for facts in manifest.tasks.values() if facts.cut_share]
    return f"at most {'/'.join(map(str, most))} tokens of an example; cut are {', '.join(shares) or 'none'}"


def _at_wandb(folder: StudyFolder, project: str) -> str:
    """Returns where the trials' runs are; of those that are only on disk, the command that uploads them."""
    from krona_tune.record.wandb_sink import is_offline

    where = f"project {project}, group {folder.name}"
    return f"{where}, on disk only: wandb sync {folder.root}/wandb/offline-run-*" if is_offline() else where


def _serve(folder: StudyFolder) -> str:
    """Returns the command that shows the study while it runs."""
    return f"krona-tune serve{folder.storage_flag}"


def _foretold(started: "DriverContext", forecast: "Forecast", rows: Mapping[str, TrialResult], passed: float) -> str:
    """Says what the whole request takes here with its start, or what is left of a resumed study; and its own limits, if
    less."""
    from krona_tune.search.budget import Budget, StudyClock, spent
    from krona_tune.search.startup.needs import said_of_finals

    spec, slots, price = started.plan.spec, started.slots, started.price
    limits = Budget.of(spec.search)
    if rows:
        left = forecast.left(spec, [*rows.values()], lambda trial_id: 0.0, slots.count, time.time(), running=())
        used = spent(rows, StudyClock(started.folder.clock).seconds() + passed)
        ends_in = limits.seconds_left(used, started.rates(slots.count))
        cut = f"; its budget ends it in {format_duration(ends_in)}" if ends_in < left else ""
        return f"about {format_duration(left)} more by a few timed steps{cut}"

    def in_words(used: "Amount") -> str:
        devices = f"{format_device_hours(used.device_hours)} {'GPU' if slots.gpus else 'core'} hours"
        cost = f", {format_money(price.of_hours(used.device_hours))} at {price.text}" if price else ""
        return f"{format_duration(used.seconds)} ({devices}{cost})"

    whole = forecast.amount(spec, slots)
    used, limit = limits.cut(whole)
    cut = f"; the budget of {limit} ends it after {in_words(used)}, finals included" if limit else ""
    more = said_of_finals(forecast.may_add(spec, slots))
    whole = replace(whole, seconds=passed + whole.seconds)
    return f"about {in_words(whole)} by a few timed steps{more}{cut}"


def print_paths(folder: StudyFolder, took: str, tracking_uri: str | None, lacking: str = "") -> None:
    """Prints where the results are; `lacking` says what MLflow does not have."""
    place = f"{redact(folder.remote)}, with a local copy in {folder.root}" if folder.remote else folder.root
    say(f"Took {took}. Results in {place}:")
    lines = {
        "report.html": "the page to look at",
        "adapters/": "what is chosen of each task, for krona-tune predict and krona-tune export",
        "results/": "every trial and rung as Parquet",
    }
    for key, value in lines.items():
        if (folder.root / key).exists():
            say(f"  {key:<13}{value}")
    store = _store(folder, tracking_uri)
    last = f"{lacking}: {_sync(folder, tracking_uri)}" if lacking else f"Compare trials: {store}"
    say(last)


def print_cost(started: "DriverContext", ledger: "Ledger") -> None:
    """Prints what the study's trials have cost, if the request names a price."""
    if price := started.price:
        say(f"The study's trials have cost {format_money(price.of(ledger.rows.values()))}, at {price.text}.")


def _sync(folder: StudyFolder, tracking_uri: str | None) -> str:
    """Returns the command that brings MLflow up to date."""
    at = f" --tracking-uri {shlex.quote(redact(tracking_uri))}" if tracking_uri else ""
    return f"krona-tune sync {folder.name}{folder.storage_flag}{at}"


def print_exported(left: "ExportResult", form: Form) -> None:
    say(f"Written to {left.folder}, {form.facts.words}")
    if left.approximation:
        say(left.approximation.text)
    again = " of this LoRA, before it was written and after" if form.facts.near and left.approximation else ""
    on = ", on weights that are not quantised" if left.dequantised else ""
    console.print(f"Largest difference of a logit{again}{on}: {left.difference:.2g}. Load it with", highlight=False)
    say(indent(left.loading, "  "))


def print_pushed(address: str, *, public: bool) -> None:
    seen = "everybody sees it" if public else "private"
    say(f"Uploaded to {address} ({seen})")
