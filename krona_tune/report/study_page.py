"""Writes report.html: one self-contained page about one study, from its records alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from krona_tune.record.orders import given_orders
from krona_tune.record.records import Records
from krona_tune.report.chart import Chart
from krona_tune.report.cost import Cost, DeviceRates, saved_by_stopping, total_cost
from krona_tune.report.html import framed, rendered, write_page
from krona_tune.report.knobs import Knobs, knobs_among
from krona_tune.report.score_charts import draw_average
from krona_tune.report.study_charts import draw_cost, draw_overview
from krona_tune.report.study_results import StudyResults, final_average, methods_part, read_results, troubles
from krona_tune.report.task_charts import draw_charts
from krona_tune.report.task_summary import TaskSummary
from krona_tune.study.backbone_outline import BackboneOutline, recorded_outline
from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import FULL_TRAININGS, counts_by_kind
from krona_tune.study.learning import STANDARD_ERRORS
from krona_tune.study.manifest import Manifest
from krona_tune.study.order import Order
from krona_tune.study.result import TrialResult

TOP = 10
"""How many trials of a task the ranking shows at first."""
MOST_UNFOLDED = 2
"""Of more tasks than this, each one's search and charts are folded, so that a person sees all winners first."""
NOW = Markup("<!--now-->")
"""Stands in a live page's body for the part that says what runs now, which changes more often than the rest."""


@dataclass(frozen=True, kw_only=True)
class PageSection:
    """A section of the page. The contents name it by its title, unless it has no anchor; `part` is its task."""

    template: str
    anchor: str = ""
    title: str = ""
    part: "TaskPart | None" = None


@dataclass(frozen=True, kw_only=True)
class TaskPart:
    """One task on the page, with the knobs of its ranked trials and of its finalists, and its full trainings."""

    summary: TaskSummary
    knobs: Knobs
    final_knobs: Knobs
    charts: tuple[Chart, ...]
    cost: Cost
    saved: float | None
    full: tuple[TrialResult, ...]

    @property
    def section(self) -> PageSection:
        task = self.summary
        return PageSection(template="task.html.j2", anchor=task.anchor, title=task.title, part=self)


def write_report(folder: StudyFolder, *, runs: bool = False) -> Path:
    """Writes the page about what the study has recorded so far; `runs`: another process is running it.

    Raises:
        Refusal: there is no study in the folder, or its records can't be read or lack all trials; the page is left as
            it was.
    """
    results = read_results(folder, runs=runs)
    return write_page(folder.page, render(results, given_orders(folder, results.recorded.orders)))


def render(results: StudyResults, orders: Sequence[Order] = ()) -> str:
    """Returns the page's HTML. Everything from records or files is escaped."""
    body = render_body(results, orders)
    return framed(title_of(results.manifest), body)


def title_of(manifest: Manifest) -> str:
    return f"{manifest.name}: Kronecker adapters"


def render_body(results: StudyResults, orders: Sequence[Order], *, live: bool = False) -> Markup:
    """Returns the page's header, contents and parts; `live`: with `NOW` where the part about the present goes, and
    with buttons to clone trials."""
    manifest, recorded, tasks = results.manifest, results.recorded, results.tasks
    shared, backbone, rates = results.shared, recorded_outline(manifest.model), results.rates
    whole = {
        "overview": draw_overview(tasks),
        "average": draw_average(tasks, shared.front if shared else None),
        "cost": draw_cost(tasks, recorded, rates),
    }
    page = {
        **{name: getattr(results, name) for name in ("manifest", "spec", "average", "shared", "cost", "rates")},
        "search_ends": results.search_ends,
        "synthetic": manifest.synthetic,
        "parts": [
            _part(summary, recorded.of(summary.task), backbone, rates, shared=shared is not None) for summary in tasks
        ],
        "final_average": final_average(tasks),
        "tested": any(summary.finals.winner for summary in tasks),
        "shared_knobs": knobs_among([each.row for each in shared.ranked] if shared else []),
        "methods": methods_part(results),
        "trials": len(recorded.trials),
        "kinds": counts_by_kind(trial.kind for trial in recorded.trials),
        "running": recorded.running,
        "folded": len(tasks) > MOST_UNFOLDED,
        "whole": whole,
        "troubles": troubles(tasks),
        "top": TOP,
        "full_kinds": {kind: kind.facts.trained_on for kind in FULL_TRAININGS},
        "standard_errors": STANDARD_ERRORS,
        "orders": orders,
        "live": NOW if live else "",
    }
    return rendered("report.html.j2", {**page, "sections": _sections(page)})


def _sections(page: Mapping[str, Any]) -> list[PageSection]:
    """Returns the sections for which there is something to show, in their order; orders come first on a live page."""
    orders = PageSection(template="orders.html.j2", anchor="orders", title="Orders")
    listed = (
        (page["orders"] and page["live"], orders),
        (True, PageSection(template="headline.html.j2")),
        (True, PageSection(template="overall.html.j2", anchor="tasks", title="All tasks")),
        (page["shared"], PageSection(template="shared.html.j2", anchor="shared", title="One configuration for all")),
        (page["methods"], PageSection(template="methods.html.j2", anchor="methods", title="Methods")),
        *((True, part.section) for part in page["parts"]),
        (page["trials"], PageSection(template="cost.html.j2", anchor="cost", title="Time and cost")),
        (
            page["troubles"],
            PageSection(template="trouble.html.j2", anchor="trouble", title="Trials without a regular end"),
        ),
        (page["orders"] and not page["live"], orders),
        (True, PageSection(template="reproduce.html.j2", anchor="reproduce", title="How to reproduce")),
    )
    return [section for shown, section in listed if shown]


def _part(
    summary: TaskSummary, recorded: Records, backbone: BackboneOutline | None, rates: DeviceRates, *, shared: bool
) -> TaskPart:
    return TaskPart(
        summary=summary,
        knobs=knobs_among([each.trial for each in summary.ranked]),
        final_knobs=knobs_among([each.rows[0] for each in summary.finals.finalists]),
        charts=draw_charts(summary, recorded, backbone),
        cost=total_cost(recorded.trials, rates),
        saved=None if shared else saved_by_stopping(summary, recorded.trials),  # they are stopped between tasks
        full=tuple(trial for trial in recorded.trials if trial.kind in FULL_TRAININGS),
    )
