"""Draws one task's charts, in the order in which the page shows them."""

from collections.abc import Callable

from krona_tune.record.records import Records
from krona_tune.report.chart import Chart, Subject
from krona_tune.report.factor_shapes import draw_factor_shapes
from krona_tune.report.finals_chart import draw_seeds
from krona_tune.report.knob_charts import draw_effects, draw_importance, draw_scale_and_learning_rate
from krona_tune.report.learning_curves import draw_learning_curves
from krona_tune.report.loss_charts import draw_training_loss
from krona_tune.report.placement_chart import draw_placement
from krona_tune.report.score_charts import draw_score_against_parameters, draw_score_against_step_time
from krona_tune.report.task_summary import TaskSummary
from krona_tune.study.backbone_outline import BackboneOutline

CHARTS: tuple[Callable[[Subject], Chart | None], ...] = (
    draw_seeds,
    draw_score_against_parameters,
    draw_score_against_step_time,
    draw_learning_curves,
    draw_training_loss,
    draw_scale_and_learning_rate,
    draw_factor_shapes,
    draw_importance,
    draw_effects,
    draw_placement,
)


def draw_charts(summary: TaskSummary, recorded: Records, backbone: BackboneOutline | None) -> tuple[Chart, ...]:
    """Draws the task's charts, without those that have nothing to compare. `recorded` are the task's own records."""
    subject = Subject(summary=summary, recorded=recorded, backbone=backbone)
    drawn = (draw(subject) for draw in CHARTS)
    return tuple(chart for chart in drawn if chart is not None)
