"""Draws one task's charts, in the order in which the page shows them."""

from collections.abc import Callable

from krona_tune.record.records import Records
from krona_tune.report.chart import Chart, Subject
from krona_tune.report.factor_shapes import factor_shapes
from krona_tune.report.knob_charts import effects, importance, scale_and_learning_rate
from krona_tune.report.learning_curves import learning_curves
from krona_tune.report.placement_chart import placement
from krona_tune.report.score_charts import score_against_parameters, score_against_step_time
from krona_tune.report.task_summary import TaskSummary
from krona_tune.study.network import Network

CHARTS: tuple[Callable[[Subject], Chart | None], ...] = (
    score_against_parameters,
    score_against_step_time,
    learning_curves,
    scale_and_learning_rate,
    factor_shapes,
    importance,
    effects,
    placement,
)


def charts(summary: TaskSummary, recorded: Records, network: Network | None = None) -> tuple[Chart, ...]:
    """Draws the task's charts, without those that have nothing to compare. `recorded` are the task's own records."""
    subject = Subject(summary=summary, recorded=recorded, network=network)
    drawn = (draw(subject) for draw in CHARTS)
    return tuple(chart for chart in drawn if chart is not None)
