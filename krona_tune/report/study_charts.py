"""Draws a whole study: all tasks in one picture, and where the time went."""

from collections import defaultdict
from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from krona_tune.record.records import Records
from krona_tune.report.chart import BESIDE, LEGEND, Chart, Colour, empty_figure, points, uneven_bars
from krona_tune.report.cost import DeviceRates
from krona_tune.report.study_results import together
from krona_tune.report.task_summary import TaskSummary
from krona_tune.study.kinds import facts_of
from krona_tune.study.learning import STANDARD_ERRORS
from krona_tune.study.result import Status, TrialResult
from krona_tune.study.study_state import RUNNING

ROW, AROUND, LOWEST = 54, 96, 360
"""The height of a task's row, of what is around the rows, and the lowest one beside another chart; in pixels."""


def draw_overview(tasks: Sequence[TaskSummary]) -> Chart | None:
    """Draws a row per task that has a result and fits on one axis with the others; None if none does."""
    scored = [each for each in together(tasks, "validation") if each.best is not None]
    if not scored:
        return None
    final = any(each.finals.winner and each.one_scale for each in scored)
    figure = empty_figure("score", "")
    figure.add_trace(_marks("constant", [each.constant_score for each in scored], 0.0, "line-ns-open"))
    figure.add_trace(_marks("head only", [each.baseline_score for each in scored], BESIDE, "diamond"))
    figure.add_trace(_best(scored))
    if final:
        heads = [each.finals.head_only.test.mean if each.finals.head_only else None for each in scored]
        figure.add_trace(_marks("head only on test", heads, -2 * BESIDE, "diamond-open"))
        figure.add_trace(_winners(scored))
    titles = [each.title for each in scored]
    _name_rows(figure, titles)
    apart = [each.title for each in tasks if each.best is not None and each not in scored]
    left_out = f" {', '.join(apart)} would not fit on this axis." if apart else ""
    seeds = "; orange is the winner's mean test score with its 95 % interval over seeds and examples" if final else ""
    return Chart(
        name="overview",
        title="What won, and by how much",
        caption=f"Each task's best validation score ± {STANDARD_ERRORS:g} rough standard errors{seeds}.{left_out}",
        figure=figure.update_layout(
            height=max(ROW * len(scored) + AROUND, LOWEST if len(scored) > 1 else 0), margin={"l": 72}
        ),
    )


def _name_rows(figure: go.Figure, titles: Sequence[str]) -> None:
    """Puts the tasks' titles, which may be alike or numbers, beside the rows 0, 1, …, the first at the top."""
    named = [escape(title, quote=False) for title in titles]
    figure.update_yaxes(tickvals=list(range(len(titles))), ticktext=named, range=[len(titles) - 0.5, -0.5])


def _marks(name: str, scores: Sequence[float | None], shift: float, symbol: str) -> go.Scatter:
    marker = {"color": LEGEND[name], "symbol": symbol, "size": 10, "line": {"width": 2, "color": LEGEND[name]}}
    return points(name, [(score, place - shift) for place, score in enumerate(scores)], marker, f"{name}: %{{x:.4g}}")


def _best(scored: Sequence[TaskSummary]) -> go.Scatter:
    best = [each.best for each in scored if each.best]
    errors = [STANDARD_ERRORS * (each.standard_error or 0.0) for each in best]
    places = [(each.score, place - BESIDE) for place, each in enumerate(best)]
    return _intervals("best on validation", places, {"type": "data", "array": errors, "thickness": 1.5})


def _winners(scored: Sequence[TaskSummary]) -> go.Scatter:
    won = [(place, each.finals.winner.test) for place, each in enumerate(scored) if each.finals.winner]
    places = [(test.mean, place + 2 * BESIDE) for place, test in won]
    return _intervals("winner on test", places, uneven_bars([test for _, test in won]))


def _intervals(name: str, places: Sequence[tuple[float, float]], bars: dict[str, Any]) -> go.Scatter:
    error = ("error_x", bars | {"color": LEGEND[name]})
    return points(name, places, {"color": LEGEND[name], "size": 11}, f"{name}: %{{x:.4g}}", bars=error)


_ENDS = {
    Status.COMPLETED: "trained to the end",
    Status.STOPPED_EARLY: "stopped early",
    Status.STOPPED_BY_USER: "stopped by a person",
}
BAR, AROUND_BARS = 44, 96
"""The height of a task's bar and of what is around the bars, in pixels."""


def draw_cost(tasks: Sequence[TaskSummary], recorded: Records, rates: DeviceRates) -> Chart | None:
    """Draws a bar per task, by kind and end of the trials; None if no time was spent."""
    minutes: dict[str, dict[str, float]] = {kind: defaultdict(float) for kind in LEGEND}
    for trial in rates.filled_in(recorded.trials):
        kind = RUNNING if trial.trial_id in recorded.running else _kind(trial)
        minutes.setdefault(kind, defaultdict(float))[trial.task] += trial.device_seconds / 60
    if not any(sum(each.values()) for each in minutes.values()):
        return None
    figure, titles = empty_figure("device minutes", ""), [each.title for each in tasks]
    for kind, by_task in minutes.items():
        if any(by_task.values()):
            figure.add_trace(
                go.Bar(
                    name=kind,
                    orientation="h",
                    x=[by_task[each.task] for each in tasks],
                    y=list(range(len(titles))),
                    customdata=[escape(title, quote=False) for title in titles],
                    marker={"color": LEGEND.get(kind, Colour.GREY)},
                    hovertemplate=f"%{{customdata}}, {kind}: %{{x:.2f}} min<extra></extra>",
                )
            )
    _name_rows(figure, titles)
    figure.update_yaxes(showgrid=False)
    return Chart(
        name="cost",
        title="Where the time went",
        caption="Device time of training and evaluation, summed over trials, by what became of them.",
        figure=figure.update_layout(
            barmode="stack", height=BAR * len(tasks) + AROUND_BARS, margin={"l": 72}, legend={"traceorder": "normal"}
        ),
    )


def _kind(trial: TrialResult) -> str:
    return facts_of(trial.kind).words or _ENDS.get(trial.status, "without a regular end")
