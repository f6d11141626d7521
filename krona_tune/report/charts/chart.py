"""Defines a chart of the page, and what a task's charts are drawn from."""

from dataclasses import dataclass

import plotly.graph_objects as go

from krona_tune.record.records import Records
from krona_tune.report.frame import factor_shape
from krona_tune.report.summary.task_summary import RankedTrial, TaskSummary
from krona_tune.study.network import Network
from krona_tune.study.result import TrialResult

SCORE = "validation score"


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A figure with its name, its title and a caption."""

    name: str
    title: str
    caption: str
    figure: go.Figure


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One task: its summary, its own records, and the network if the study has recorded it."""

    summary: TaskSummary
    recorded: Records
    network: Network | None = None


def hover(each: RankedTrial) -> str:
    """Returns what a trial's point says under the mouse."""
    params = each.trial.params
    lines = [
        f"<b>{each.score:.3f}</b> {each.trial.trial_id}",
        f"{params.get('method', '')} {each.trial.trainable_parameters:,} parameters".strip(),
    ]
    if shape := factor_shape(each.trial):
        lines.append(f"A {shape}" + (f", {params['terms']} terms" if params.get("terms", 1) > 1 else ""))
    lines += [f"{name} {params[name]:.3g}" for name in ("scale", "learning_rate") if name in params]
    lines += ["stable scaling"] if params.get("scaling") == "stable" else []
    return "<br>".join([*lines, *_origin(each.trial)])


def _origin(trial: TrialResult) -> list[str]:
    if not trial.proposed_by:
        return []
    expected = ""
    if trial.expected_score is not None and trial.expected_deviation is not None:
        expected = f", expected {trial.expected_score:.3f} ± {trial.expected_deviation:.3f}"
    return [f"proposed by {trial.proposed_by}{expected}"]
