"""Computes what a study cost: device time, wall time, memory, and what early stopping saved."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from krona_tune.record.records import Records
from krona_tune.refusal import refusing
from krona_tune.report.chart import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    PURPLE,
    RED,
    TEAL,
    YELLOW,
    Chart,
    empty_figure,
)
from krona_tune.report.task_summary import TaskSummary
from krona_tune.study.devices import UNKNOWN, Devices, Price, price_of
from krona_tune.study.kinds import TrialKind, facts_of
from krona_tune.study.manifest import Manifest
from krona_tune.study.request.plain_yaml import read_yaml
from krona_tune.study.request.study_spec import ResourcesSpec
from krona_tune.study.result import Status, TrialResult
from krona_tune.study.study_state import RUNNING

_COLOURS = {
    "trained to the end": BLUE,
    "stopped early": GREY,
    "stopped by a person": PINK,
    "without a regular end": RED,
    "repeats": YELLOW,
    "finalists": ORANGE,
    "full trainings": TEAL,
    "head only": GREEN,
    RUNNING: PURPLE,
}
_ENDS = {
    Status.COMPLETED: "trained to the end",
    Status.STOPPED_EARLY: "stopped early",
    Status.STOPPED_BY_USER: "stopped by a person",
}
ROW, AROUND = 44, 96
"""The height of a task's bar and of what is around the bars, in pixels."""


@dataclass(frozen=True, kw_only=True)
class DeviceRates:
    """Holds the devices of each trial whose row does not say what it had, and the price of a device, if known."""

    unrecorded: Devices = UNKNOWN
    price: Price | None = None

    def counted(self, trials: Iterable[TrialResult]) -> list[TrialResult]:
        """Returns the trials, each with what it used."""
        return list(map(self.unrecorded.counted, trials))


_READ = ("cpus_per_trial", "gpus_per_trial", "price_per_hour")
"""The keys of resources that are read here: a study of an earlier version may have others."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of some trials. Seconds are sums over trials, those of devices over each trial's devices too;
    `wall_seconds` are those in which at least one of the ended trials ran. `devices` says what they had when they ran
    last. `money` is None without a price."""

    trials: int
    train_seconds: float
    evaluation_seconds: float
    device_seconds: float
    wall_seconds: float
    peak_memory_bytes: int
    devices: tuple[str, ...] = ()
    money: float | None = None


def device_rates(spec: str, manifest: Manifest) -> DeviceRates:
    """Returns what the text of study.yaml says of devices and their price. Raises a Refusal if that can't be read."""
    written = read_yaml(spec, "study.yaml") if "resources" in spec else None
    with refusing("study.yaml", "its resources can't be read", "put back what the study was begun with"):
        resources = ((written or {}).get("resources") or {}).items()
        asked = ResourcesSpec.model_validate({key: value for key, value in resources if key in _READ})
    return DeviceRates(unrecorded=manifest.unrecorded_devices(asked), price=price_of(asked))


def cost(trials: Sequence[TrialResult], rates: DeviceRates) -> Cost:
    counted = rates.counted(trials)
    return Cost(
        trials=len(trials),
        train_seconds=sum(trial.train_seconds for trial in trials),
        evaluation_seconds=sum(trial.evaluation_seconds for trial in trials),
        device_seconds=sum(trial.device_seconds for trial in counted),
        wall_seconds=_under_way(trials),
        peak_memory_bytes=max((trial.peak_memory_bytes for trial in trials), default=0),
        devices=tuple(dict.fromkeys(Devices.of(trial).said for trial in counted)),
        money=rates.price.of(counted) if rates.price else None,
    )


def _under_way(trials: Sequence[TrialResult]) -> float:
    """Returns the length of the union of the trials' time spans; the pause between two drivers does not count."""
    spans = sorted(
        (t.started_at + t.paused_seconds, t.ended_at) for t in trials if t.started_at and t.ended_at is not None
    )
    total, until = 0.0, 0.0
    for start, end in spans:
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def saved_by_stopping(summary: TaskSummary, trials: Sequence[TrialResult]) -> float | None:
    """Returns the share of the searched trials' full budget, in training examples, that early stopping saved.

    None if the full budget is not known or no searched trial was completed or stopped early. What a person stopped
    does not count.
    """
    judged = {Status.COMPLETED, Status.STOPPED_EARLY}
    searched = [trial for trial in trials if trial.kind == TrialKind.SEARCH and trial.status in judged]
    full = summary.facts.rungs[-1] if summary.facts and summary.facts.rungs else 0
    if not searched or not full:
        return None
    left = sum(full - trial.examples for trial in searched if trial.status is Status.STOPPED_EARLY)
    return left / (full * len(searched))


def cost_chart(tasks: Sequence[TaskSummary], recorded: Records, rates: DeviceRates) -> Chart | None:
    """Draws a bar per task, by kind and end of the trials; None if no time was spent."""
    minutes: dict[str, dict[str, float]] = {kind: defaultdict(float) for kind in _COLOURS}
    for trial in rates.counted(recorded.trials):
        kind = RUNNING if trial.trial_id in recorded.running else _kind(trial)
        minutes[kind][trial.task] += trial.device_seconds / 60
    if not any(sum(each.values()) for each in minutes.values()):
        return None
    figure = empty_figure("device minutes", "")
    for kind, by_task in minutes.items():
        if any(by_task.values()):
            figure.add_trace(
                go.Bar(
                    name=kind,
                    orientation="h",
                    x=[by_task[each.task] for each in tasks],
                    y=[each.title for each in tasks],
                    marker={"color": _COLOURS[kind]},
                    hovertemplate=f"%{{y}}, {kind}: %{{x:.2f}} min<extra></extra>",
                )
            )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return Chart(
        name="cost",
        title="Where the time went",
        caption="Device time of training and evaluation, summed over trials, by what became of them.",
        figure=figure.update_layout(
            barmode="stack", height=ROW * len(tasks) + AROUND, margin={"l": 72}, legend={"traceorder": "normal"}
        ),
    )


def _kind(trial: TrialResult) -> str:
    return facts_of(trial.kind).words or _ENDS.get(trial.status, "without a regular end")
