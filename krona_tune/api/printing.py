"""Prints what a study says before it begins and when it has ended."""

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from textwrap import fill, indent
from typing import TYPE_CHECKING, Any

from rich.console import Console, HighlighterType, JustifyMethod, OverflowMethod
from rich.markup import escape
from rich.style import Style
from rich.text import Text

from krona_tune import __version__
from krona_tune.adapters.files.forms import Form
from krona_tune.backbones.geometry import Geometry, Role
from krona_tune.refusal import cut, readable, shown
from krona_tune.search.preflight.machine import busy
from krona_tune.search.terminal.cell_view import WIDTH as CELL_WIDTH
from krona_tune.search.terminal.cell_view import in_notebook
from krona_tune.search.waiting_orders import EarlierOrders
from krona_tune.study.folder import StudyFolder
from krona_tune.study.formatting import describe_adapter, format_duration, format_money
from krona_tune.study.redact import redact
from krona_tune.study.request.study_spec import for_task
from krona_tune.study.result import TrialResult

if TYPE_CHECKING:
    from krona_tune.data.own.own_data import OwnData
    from krona_tune.data.tasks import Task
    from krona_tune.search.budget.forecast import Forecast
    from krona_tune.search.full_training import FullTraining
    from krona_tune.search.ledger import Ledger
    from krona_tune.search.planning.plan import Plan
    from krona_tune.search.startup.begin import Started
    from krona_tune.study.request.study_spec import StudySpec
    from krona_tune.train.serving.export import Exported

OF_THE_SERVICE = ("fastapi", "sqlalchemy", "starlette", "uvicorn")
"""The packages that `krona-tune serve` needs."""
NARROWEST, WIDEST = 20, 1000
"""The range of plausible terminal widths, in columns."""


CONTROLS = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069]")
"""Signs with which a text of others could move the cursor, change colours or turn the order of what follows."""


class SafeConsole(Console):
    """A console on which no text acts: its control characters are shown as escapes."""

    def render_str(
        self,
        text: str,
        *,
        style: str | Style = "",
        justify: JustifyMethod | None = None,
        overflow: OverflowMethod | None = None,
        emoji: bool | None = None,
        markup: bool | None = None,
        highlight: bool | None = None,
        highlighter: HighlighterType | None = None,
    ) -> Text:
        """Returns what rich prints for a text: a line, or the cell of a table."""
        safe = CONTROLS.sub(_escaped, text)
        said = {"emoji": emoji, "markup": markup, "highlight": highlight, "highlighter": highlighter}
        return super().render_str(safe, style=style, justify=justify, overflow=overflow, **said)  # type: ignore[arg-type]


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
GLUE_DATA = {"mini": "mini-GLUE (synthetic)", "hub": "nyu-mll/glue from the hub"}
SHOWN_EXAMPLES, MOST_LABELS, MOST_LEFT_OUT = 3, 8, 8
"""The most examples of a task that a dry run prints, and the most labels and maps left out that a plan lists."""
WIDTH = 100
"""The width of the lines about what is searched."""
SAMPLERS = {
    "tpe": "by TPE",
    "study_model": "by one model of all tasks",
    "random": "drawn evenly",
    "sobol": "of a Sobol sequence",
}
FORMS = {
    Form.ADAPTER: "an adapter of krona_tune",
    Form.MERGED: "a whole model of transformers",
    Form.PEFT: "an adapter of peft",
    Form.LORA: "a LoRA of peft",
}


def _layers(shape: Geometry) -> str:
    """Returns the layers of each stack and the roles of their maps."""
    every = [site for site in shape.sites if site.role is not Role.FEED_FORWARD]
    said = []
    for stack, depth in shape.depths.items():
        roles = dict.fromkeys(str(site.role) for site in every if site.stack is stack)
        used = f", used {shape.uses} times" if shape.uses > 1 else ""
        said.append(f"{depth} {stack}{used}: {', '.join(roles)}")
    return _indented("; ".join(said))


def _left_out(shape: Geometry) -> list[str]:
    """Returns which maps carry no adapter and why; of many, the first."""
    said = [f"{each.name}, {each.reason}" for each in shape.left_out]
    more = len(said) - MOST_LEFT_OUT
    return said if more <= 0 else [*said[:MOST_LEFT_OUT], f"and {more} more"]


def print_plan(plan: "Plan", reason: str, folder: StudyFolder | None, earlier: "EarlierOrders | None" = None) -> None:
    """Prints what will be run, in a few lines."""
    console.print(f"[bold]krona_tune {__version__}[/bold]")
    print_lines(plan_lines(plan, reason, folder, earlier))


def plan_lines(
    plan: "Plan", reason: str, folder: StudyFolder | None, earlier: "EarlierOrders | None" = None
) -> dict[str, str]:
    """Returns what will be run, in a few named lines; `earlier` are the orders that wait for a resumed study."""
    spec, shape, search = plan.spec, plan.geometry, plan.spec.search
    lines = {
        "space": plan.place + (f" ({reason})" if reason else ""),
        "model": f"{plan.source.name}, {shape.model_type}, {shape.parameters:,} parameters, {plan.source.how}",
        "layers": _layers(shape),
        **({"omitted": _indented("; ".join(_left_out(shape)))} if shape.left_out else {}),
        "data": GLUE_DATA.get(spec.data, spec.data),
        "tasks": ", ".join(spec.tasks),
        **{name: _own_task(own) for name, own in plan.own.items()},
        "search": _indented("; ".join(f"{name} {written_domain(each)}" for name, each in plan.space.searched().items()))
        or "nothing: all is fixed",
        "trials": f"{plan.trials} a task {SAMPLERS[search.proposes_by]}, "
        f"and {len(plan.baselines(spec.tasks[0]))} "
        + ("of the frozen model" if shape.text_to_text else "with the head alone"),
        "rungs": _rungs(spec),
    }
    if plan.earlier:
        lines["learns"] = _indented("; ".join(f"from {each.name}, {len(each.rows)} trials" for each in plan.earlier))
    if len(plan.space.methods) > 1:
        lines["methods"] = _indented(_methods(plan))
    lines["frozen"] = f"computed once: {plan.computed_once()}"
    if plan.space.limit is not None:
        share = plan.space.feasible_share()
        lines["limit"] = f"{plan.space.limit:,} adapter parameters; {share:.0%} of the space stays within it"
    if search.repeats.points:
        points = min(search.repeats.points, plan.trials)
        lines["repeats"] = f"the first {points} of each task again with {search.repeats.seeds} seeds"
    if spec.finalists.top:
        of = "each method on each task" if search.per_method else "each task"
        lines["finals"] = f"the best {spec.finalists.top} of {of} again with {spec.finalists.seeds} seeds, then tested"
    if spec.resources.price_per_hour:
        lines["price"] = f"{format_money(spec.resources.price_per_hour)} a device hour"
    if earlier and earlier.orders:
        lines["orders"] = _indented(earlier.said)
    if slow := busy():
        lines["machine"] = f"{slow}: all takes longer, also Ray's start"
    if folder:
        lines["folder"] = str(folder.root) + (f", copied to {redact(folder.remote)}" if folder.remote else "")
    if set(plan.own) == set(spec.tasks):
        del lines["data"]
    return lines


def print_lines(lines: Mapping[str, str]) -> None:
    for key, value in lines.items():
        console.print(f"  {key:<7} {escape(value)}", highlight=False, soft_wrap=True)


def _methods(plan: "Plan") -> str:
    """Says what each method gets: its trials on a task, and how many parameters its points may have."""
    sizes = {name: dict.fromkeys(plan.space.of(name).sizes()) for name in plan.space.methods}
    said = [f"{name} {' to '.join(f'{size:,}' for size in both)}" for name, both in sizes.items()]
    alone = plan.spec.search.per_method
    trials = f"{plan.spec.search.trials} trials each" if alone else f"{plan.trials} trials together"
    return f"{trials}; parameters: {', '.join(said)}"


def _own_task(own: "OwnData") -> str:
    """Says what was found in a task's files: examples, and labels with their shares."""
    task = own.task
    sizes = ", ".join(f"{table.num_rows:,} {part}" for part, table in own.parts.items())
    shares = [f"{shown(label)[1:-1]} {share:.1%}" for label, share in zip(task.labels, own.shares, strict=True)]
    more = f" and {len(shares) - MOST_LABELS} more" if len(shares) > MOST_LABELS else ""
    answers = (
        f"{len(shares)} labels: {', '.join(shares[:MOST_LABELS])}{more}"
        if shares
        else "texts"
        if task.generation
        else "numbers"
    )
    weighted = ", weighted in the loss" if task.class_weights else ""
    metrics = " and ".join(_metric(task, name) for name in task.metrics)
    by_loss = ", trials compared by the loss" if task.tested_by_other_scores else ""
    return f"{own.provenance}: {sizes}; {answers}{weighted}; scored by {metrics}{by_loss}"


def _metric(task: "Task", name: str) -> str:
    """Names a metric, with the label that it is about, or that less is better."""
    about = f" of {task.labels[1]}" if name == "f1" else ""
    return name + about + ", lower is better" * (name in task.lower_is_better)


def print_examples(plan: "Plan", tasks: Iterable[str]) -> None:
    """Prints the first training examples of each own task as the model will see them, and what is odd about its data.

    It goes to the terminal only.
    """
    own = [task for task in tasks if task in plan.own]
    if not own:
        return
    from krona_tune.search.startup.task_data import preview_data

    for name, seen in preview_data(plan, own, SHOWN_EXAMPLES).items():
        console.print(f"\n{name}, as the model will see it:", highlight=False)
        for text, label in seen.examples:
            console.print(escape(readable(f"  {text}\n    → {cut(label)}")), highlight=False, soft_wrap=True)
        _print_warnings(seen.warnings)


def print_doubts(plan: "Plan") -> None:
    """Prints what is odd about the data of one's own."""
    for own in plan.own.values():
        _print_warnings(own.warnings)


def _print_warnings(warnings: Iterable[str]) -> None:
    for warning in warnings:
        console.print(f"[yellow]warning:[/yellow] {escape(readable(warning))}", highlight=False, soft_wrap=True)


def print_full_training(plan: "Plan", again: "FullTraining") -> None:
    """Prints which configuration will be trained on which examples."""
    spec, row = plan.spec, again.of
    lines = {
        "model": f"{plan.source.name}, {plan.source.how}",
        "task": row.task,
        "trial": f"{row.trial_id}: {describe_adapter(row.params)}",
        "data": f"{again.said}, {for_task(spec.schedule.epochs, row.task):g} epochs, with {again.seeds} seed(s)",
    }
    print_lines(lines)


def print_trained(trials: Iterable[str], rows: Mapping[str, TrialResult], folder: StudyFolder) -> None:
    """Prints each full training's result and how its adapter is used."""
    for row in map(rows.get, trials):
        if row:
            halves = {"validation": row.score, "test": row.test_score}
            scores = [f"{score:.3f} on {half}" for half, score in halves.items() if score is not None]
            ended = ", ".join(scores) or ("no score, nothing was held out" if row.checkpoint else row.error)
            console.print(f"{row.trial_id}  {row.status}  {ended}", highlight=False, markup=False, soft_wrap=True)
            if folder.adapter(row.trial_id).is_dir():
                words = ["krona-tune", "predict", str(folder.adapter(row.trial_id))]
                console.print(f"  {shlex.join(words)}", highlight=False, markup=False, soft_wrap=True)


def _rungs(spec: "StudySpec") -> str:
    """Says when trials are evaluated and stopped."""
    schedule = spec.schedule
    reports = ", evaluated after each epoch" if schedule.report_every == "epoch" else ""
    if not spec.search.early_stopping:
        return f"{_each(schedule.epochs)} epochs, no early stopping{reports}"
    first, last = _each(schedule.grace_epochs), _each(schedule.epochs)
    if all(for_task(schedule.grace_epochs, task) >= for_task(schedule.epochs, task) for task in spec.tasks):
        return f"judged once, after {last} epochs{reports}"
    return f"judged from {first} to {last} epochs, each {schedule.reduction} times further{reports}"


def print_started(
    started: "Started", tracking_uri: str | None, forecast: "Forecast | None", wandb: str | None = None
) -> None:
    manifest, cluster = started.manifest, started.cluster
    computing = f"{manifest.workers} at once on {manifest.device}, {manifest.precision}, {len(cluster.nodes)} node(s)"
    lines = {
        "workers": computing,
        **({"time": _foretold(started, forecast)} if forecast else {}),
        "Ray": cluster.dashboard or "no dashboard",
        "MLflow": redact(tracking_uri or "") or f"mlflow ui --backend-store-uri {started.folder.tracking_uri}",
        **({"W&B": _at_wandb(started.folder, wandb)} if wandb else {}),
        **({"page": _serve(started.folder)} if all(map(find_spec, OF_THE_SERVICE)) else {}),
    }
    print_lines(lines)
    console.print()


def _at_wandb(folder: StudyFolder, project: str) -> str:
    """Returns where the trials' runs are; of those that are only on disk, the command that uploads them."""
    from krona_tune.record.wandb_account import is_offline

    where = f"project {project}, group {folder.name}"
    return f"{where}, on disk only: wandb sync {folder.root}/wandb/offline-run-*" if is_offline() else where


def _serve(folder: StudyFolder) -> str:
    """Returns the command that shows the study while it runs."""
    return f"krona-tune serve{folder.storage_flag}"


def _foretold(started: "Started", forecast: "Forecast") -> str:
    """What the whole request takes here, of which a resumed study has done some; and its own limit, if that is less."""
    spec, slots = started.plan.spec, started.slots
    whole, limit = forecast.study(spec, slots), spec.search.time_budget
    hours = forecast.device_hours(spec, slots)
    devices = f"{hours:.2g} {'GPU' if slots.gpus else 'core'} hours"
    cost = f", {format_money(price.of_hours(hours))} at {price.said}" if (price := started.price) else ""
    cut = f"; the budget ends it after {format_duration(limit)}, finals included" if limit and limit < whole else ""
    return f"about {format_duration(whole)} ({devices}{cost}) by a few timed steps{cut}"


def print_paths(folder: StudyFolder, took: str, tracking_uri: str | None, lacking: str = "") -> None:
    """Prints where the results are; `lacking` says what MLflow does not have."""
    place = f"{redact(folder.remote)}, with a local copy in {folder.root}" if folder.remote else folder.root
    console.print(f"Took {took}. Results in {place}:", highlight=False, markup=False, soft_wrap=True)
    lines = {
        "report.html": "the page to look at",
        "adapters/": "each task's best adapter, for krona-tune predict and krona-tune export",
        "results/": "every trial and rung as Parquet",
    }
    for key, value in lines.items():
        if (folder.root / key).exists():
            console.print(f"  {key:<13}{value}", highlight=False, soft_wrap=True)
    store = redact(tracking_uri or "") or f"mlflow ui --backend-store-uri {folder.tracking_uri}"
    last = f"{lacking}: {_sync(folder, tracking_uri)}" if lacking else f"Compare trials: {store}"
    console.print(escape(last), highlight=False, soft_wrap=True)


def print_cost(started: "Started", ledger: "Ledger") -> None:
    """Prints what the study's trials have cost, if the request names a price."""
    if price := started.price:
        said = f"The study's trials have cost {format_money(price.of(ledger.rows.values()))}, at {price.said}."
        console.print(said, highlight=False, soft_wrap=True)


def _sync(folder: StudyFolder, tracking_uri: str | None) -> str:
    """Returns the command that brings MLflow up to date."""
    at = f" --tracking-uri {shlex.quote(redact(tracking_uri))}" if tracking_uri else ""
    return f"krona-tune sync {folder.name}{folder.storage_flag}{at}"


def print_exported(left: "Exported", form: Form) -> None:
    console.print(f"Written to {left.folder}, {FORMS[form]}", highlight=False, markup=False, soft_wrap=True)
    if left.approximation:
        console.print(left.approximation.said, highlight=False, soft_wrap=True)
    console.print(f"Largest difference of a logit: {left.difference:.2g}. Load it with", highlight=False)
    console.print(indent(left.loading, "  "), highlight=False, markup=False, soft_wrap=True)


def print_pushed(address: str, *, public: bool) -> None:
    seen = "everybody sees it" if public else "private"
    console.print(f"Uploaded to {address} ({seen})", highlight=False, markup=False, soft_wrap=True)


def _indented(text: str) -> str:
    """Returns a long line wrapped into several."""
    return fill(text, width=WIDTH, subsequent_indent=" " * 10, break_long_words=False, break_on_hyphens=False)


def written_domain(domain: Any) -> str:
    """Writes which values a knob may have."""
    written = domain.plain()
    if isinstance(written, list):
        return "{" + ", ".join(map(str, written)) + "}"
    kind = " log" if written.get("log") else ""
    return f"{written['low']:g}…{written['high']:g}{kind}"


def _each(value: Any) -> str:
    return " / ".join(f"{k} {v:g}" for k, v in value.items()) if isinstance(value, dict) else f"{value:g}"
