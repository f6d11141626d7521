"""Holds what a trial returns: a report at each rung and, whatever its status, one row at its end."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, NamedTuple, TypeVar

from krona_tune.study.kinds import FULL_TRAININGS, TrialKind
from krona_tune.study.request.trial import HEAD_ONLY

Half = Literal["test", "validation"]
"""The two halves of the labelled examples that no trial is trained on."""
LARGEST_SCORE = 1e100
"""The largest score that can be compared: of larger ones, no mean and no square is a number."""


def is_score(value: float | None) -> bool:
    """Returns whether a value can be compared and averaged: neither missing, nor NaN, nor beyond LARGEST_SCORE."""
    return value is not None and abs(value) <= LARGEST_SCORE


Value = TypeVar("Value")
Key = TypeVar("Key", bound=Hashable)


def grouped(values: Iterable[Value], key: Callable[[Value], Key]) -> Mapping[Key, list[Value]]:
    """Returns the values by their key, in their order; what has no value has an empty list."""
    found: dict[Key, list[Value]] = defaultdict(list)
    for value in values:
        found[key(value)].append(value)
    return found


class Status(StrEnum):
    """The status of a trial. A trial counts as interrupted until it has ended."""

    COMPLETED = "completed"
    STOPPED_EARLY = "stopped_early"
    STOPPED_BY_USER = "stopped_by_user"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def stopped(self) -> bool:
        """Returns whether the scheduler or a person ended the trial before its full budget; its last score counts."""
        return self in {Status.STOPPED_EARLY, Status.STOPPED_BY_USER}

    @property
    def may_recover(self) -> bool:
        """Returns whether a cause that can be mended may have ended the trial: the order to retry lets it go on."""
        return self in {Status.FAILED, Status.OUT_OF_MEMORY}

    @property
    def worst(self) -> bool:
        """Returns whether a trial's end counts as worse than every score, unless it goes on after all, for what judges
        points; Optuna is told of no score. One that failed says nothing about its point."""
        return self in {Status.DIVERGED, Status.OUT_OF_MEMORY}


class CurvePoint(NamedTuple):
    """A point of a trial's training curve, after so many training examples: the mean loss of the steps since the point
    before, and the learning rate of the last of them."""

    examples: int
    loss: float
    learning_rate: float


Curve = tuple[CurvePoint, ...]
CURVE = "curve_"
"""The prefix of the columns that hold a curve, one list for each value of its points."""
METRIC, TEST_METRIC = "metric_", "test_metric_"
"""The prefixes of a metric's column, on the validation and on the test half."""
NESTED = frozenset({"params", "metrics", "test_metrics", "curve"})
"""The fields of a report or a result whose values have columns of their own."""


def metric_columns(metrics: Mapping[str, float], prefix: str = METRIC) -> dict[str, float]:
    """Returns metrics as columns, such as `metric_accuracy`."""
    return {prefix + name: value for name, value in metrics.items()}


def curve_columns(curve: Curve) -> dict[str, list[Any]]:
    """Returns the curve as the columns `curve_examples`, `curve_loss` and `curve_learning_rate`."""
    return {CURVE + name: [getattr(point, name) for point in curve] for name in CurvePoint._fields}


def curve_of(row: Mapping[str, Any]) -> Curve:
    """Returns the curve that `curve_columns` wrote into a row, empty if it has no such columns.

    Raises:
        ValueError: a point lacks a value.
    """
    columns = (row.get(CURVE + name) or () for name in CurvePoint._fields)
    curve = tuple(CurvePoint(*values) for values in zip(*columns, strict=True))
    if any(None in point for point in curve):
        raise ValueError("a point of a training curve lacks a value")
    return curve


@dataclass(frozen=True, kw_only=True)
class Report:
    """One evaluation on the validation half. `score` is the mean of `metrics`, higher is better; not a number if no
    example was held out. `train_loss` is the mean since the report before, `curve` has it point by point."""

    trial_id: str
    task: str
    rung: int
    examples: int
    epochs: float
    step: int
    score: float
    metrics: dict[str, float]
    train_loss: float
    train_seconds: float
    evaluation_seconds: float
    peak_memory_bytes: int
    curve: Curve = ()

    @property
    def scored(self) -> bool:
        """Returns whether its score can be compared."""
        return is_score(self.score)

    def row(self) -> dict[str, Any]:
        """Returns the report as plain values, with its metrics as columns `metric_…` and its curve as `curve_…`."""
        values = {name: value for name, value in vars(self).items() if name not in NESTED}
        return values | metric_columns(self.metrics) | curve_columns(self.curve)

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as plain values that JSON keeps as they are."""
        return {**vars(self), "curve": [list(point) for point in self.curve]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Report":
        """Returns the report that `to_dict` gave, also in a version whose reports had no curve."""
        return cls(**{**values, "curve": tuple(CurvePoint(*point) for point in values.get("curve", ()))})


@dataclass(frozen=True, kw_only=True)
class ScoreOnTest:
    """A finalist's one evaluation on the test half.

    `resampled` are its scores on as many examples drawn again with replacement. All finalists of a task use the same
    draws, so that their differences are paired; a draw without a score has NaN. It is empty if nothing can be said of
    how much the score varies; `note` says why, and how many draws have none. `validation` are its scores on draws of
    the validation half, by which finalists are chosen.
    """

    score: float
    metrics: dict[str, float]
    examples: int
    resampled: tuple[float, ...] = ()
    note: str = ""
    validation: tuple[float, ...] = ()


NO_INTERVAL = "no interval: "
"""Begins the note of a score of which nothing can be said of how much it varies."""


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """One trial's row. Seconds are sums over its reports; `score` is that of the last rung it reached.

    `paused_seconds` is the time between the drivers that ran it: `ended_at - started_at - paused_seconds` is its
    running time.

    `failed_at` is when a trial that was retried later had failed.

    `devices` of the kind `device` (cuda, or cpu for cores) are what it had when it ran last; `device_seconds` are the
    seconds of its training and evaluation, each times the devices that it had then, and of the step in which it ended
    without a report. The three are empty or 0 if an earlier version recorded it.

    `proposed_by` says who proposed a searched trial's point, as `Proposer` has it; the study's model also says which
    final score it expects, and one deviation of that expectation, without the noise of a single training.

    `of` is the searched trial that a finalist or a repeat trains again, or that a clone changes. If a clone goes on
    from the other's last rung, `copied_examples` of its `examples` were seen by the other only; there are none if its
    first report is of the first rung. Only a finalist has the `test_…` fields of its `ScoreOnTest`, and
    its scores on draws of the validation half.

    `curve` are the points of its training curve after its last report: a trial that diverged, failed or was stopped
    between two rungs has some.
    """

    trial_id: str
    task: str
    kind: str
    number: int
    seed: int
    fingerprint: str
    params: dict[str, Any]
    status: Status = Status.INTERRUPTED
    score: float | None = None
    rung: int | None = None
    epochs: float = 0.0
    examples: int = 0
    copied_examples: int = 0
    adapter_parameters: int = 0
    norm_parameters: int = 0
    head_parameters: int = 0
    trainable_parameters: int = 0
    trainable_percent: float = 0.0
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    device: str = ""
    devices: float = 0.0
    device_seconds: float = 0.0
    peak_memory_bytes: int = 0
    started_at: float = 0.0
    paused_seconds: float = 0.0
    ended_at: float | None = None
    failed_at: float | None = None
    error: str = ""
    checkpoint: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    of: str = ""
    proposed_by: str = ""
    expected_score: float | None = None
    expected_deviation: float | None = None
    test_score: float | None = None
    test_examples: int = 0
    test_metrics: dict[str, float] = field(default_factory=dict)
    test_resampled: tuple[float, ...] = field(default=(), repr=False)
    test_note: str = ""
    validation_resampled: tuple[float, ...] = field(default=(), repr=False)
    curve: Curve = field(default=(), repr=False)

    @property
    def head_alone(self) -> bool:
        """Returns whether it trains the head alone, without an adapter."""
        return self.params.get("method") == HEAD_ONLY

    @property
    def searched(self) -> bool:
        """Returns whether it is a trial of the search: a proposed configuration or a clone."""
        return self.kind == TrialKind.SEARCH

    @property
    def ended(self) -> bool:
        """Returns whether its end is known, however it ended."""
        return self.status is not Status.INTERRUPTED

    @property
    def reason(self) -> str:
        """Returns the last line of its error; empty without one."""
        return (self.error.strip().splitlines() or [""])[-1]

    @property
    def scored(self) -> bool:
        """Returns whether it has a score that can be ranked."""
        return is_score(self.score)

    @property
    def point(self) -> tuple[int, float]:
        """Returns (trainable parameters, score) of a scored trial, as on a Pareto front."""
        return self.trainable_parameters, self.score or 0.0

    @property
    def own_examples(self) -> int:
        """Returns the training examples that it has seen itself."""
        return max(0, self.examples - self.copied_examples)

    @property
    def busy_seconds(self) -> float:
        """Returns the seconds of training and evaluation."""
        return self.train_seconds + self.evaluation_seconds

    def with_seconds(self, train: float, evaluation: float) -> "TrialResult":
        """Returns the row with these sums of seconds; what they grew by was used on the devices that it has now."""
        grown = train + evaluation - self.busy_seconds
        return replace(
            self,
            train_seconds=train,
            evaluation_seconds=evaluation,
            device_seconds=self.device_seconds + self.devices * grown,
        )

    def with_report(self, report: Report) -> "TrialResult":
        """Returns the row of a trial that has come as far as a report; its seconds stay."""
        return replace(
            self,
            score=report.score if report.scored else None,
            metrics=report.metrics,
            rung=report.rung,
            epochs=report.epochs,
            examples=report.examples,
            copied_examples=self.copied_examples if report.rung else 0,
            peak_memory_bytes=max(self.peak_memory_bytes, report.peak_memory_bytes),
        )

    def with_test(self, look: ScoreOnTest) -> "TrialResult":
        """Returns the row of a trial that was evaluated on the test half."""
        return replace(
            self,
            test_score=look.score,
            test_examples=look.examples,
            test_metrics=look.metrics,
            test_resampled=tuple(look.resampled),
            test_note=look.note,
            validation_resampled=tuple(look.validation),
        )

    @property
    def finished(self) -> bool:
        """Returns whether it was trained to the end, with a score."""
        return self.status is Status.COMPLETED and self.scored

    @property
    def fully_trained(self) -> bool:
        """Returns whether it is a full training that was trained to its end."""
        return self.kind in FULL_TRAININGS and self.status is Status.COMPLETED

    def row(self) -> dict[str, Any]:
        """Returns the result as plain values: its parameters under their own names, its metrics as `metric_…` and
        `test_metric_…`, its curve as `curve_…`."""
        values = {name: value for name, value in vars(self).items() if name not in NESTED}
        values |= curve_columns(self.curve) | {"status": str(self.status)} | self.params
        return values | metric_columns(self.metrics) | metric_columns(self.test_metrics, TEST_METRIC)
