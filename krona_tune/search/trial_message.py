"""Holds the messages between driver and workers: a trial for a worker, and the result of one of its steps."""

from dataclasses import asdict, dataclass
from typing import Any

from krona_tune.study.formatting import describe_adapter
from krona_tune.study.kinds import TrialKind
from krona_tune.study.randomness import stream
from krona_tune.study.request.trial import TrialConfig, check_trial
from krona_tune.study.result import Curve, CurvePoint, Report, ScoreOnTest, Status, TrialResult


@dataclass(frozen=True)
class TrialMessage:
    """A trial as a worker receives it. `of` is the trial whose configuration a finalist or a repeat trains again; the
    next three say who proposed a searched one. A clone that goes on from another trial's state has `copied_examples`,
    which the other has seen."""

    trial_id: str
    task: str
    number: int
    kind: str
    seed: int
    params: dict[str, Any]
    of: str = ""
    proposed_by: str = ""
    expected_score: float | None = None
    expected_deviation: float | None = None
    copied_examples: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, which Tune passes to the worker."""
        return asdict(self)

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> "TrialMessage":
        return cls(**config)

    @classmethod
    def of_row(cls, row: TrialResult) -> "TrialMessage":
        """Returns a trial that has begun as its next worker receives it."""
        same = ("trial_id", "task", "number", "kind", "seed", "params", "of", "proposed_by")
        return cls(**{name: getattr(row, name) for name in same})

    @property
    def size(self) -> str:
        """Returns in words what decides about the trial's memory: its batches and its adapter."""
        return f"batches of {self.checked().training.batch_size}; {describe_adapter(self.params)}"

    def checked(self) -> TrialConfig:
        """Returns the checked trial. Raises a pydantic.ValidationError if a value is out of its field's range."""
        return check_trial(self.task, self.seed, self.params, self.kind)


def repeat_of(row: TrialResult, kind: TrialKind, source: str, index: int, seed: int) -> TrialMessage:
    """Returns a trial that trains a row's configuration again.

    Args:
        kind: what is trained again.
        source: the trial that it is named after.
        index: its number among the trials that do the same, from 1.
        seed: the study's; together with the index it decides the trial's.
    """
    own = stream(seed, kind, row.task, index) % 2**31
    trial_id = kind.facts.id_of(source=source, index=index)
    return TrialMessage(trial_id, row.task, row.number, kind, own, row.params, source)


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """The result of a step: the report of a rung and where its state is, or the `error` that ended the trial; both if
    only its evaluation on the test half failed.

    `status` is the trial's final status, None while it continues. `test` is a finalist's only score on the test half.
    `curve` are the points of a trial that ended between two rungs since the last one, and `seconds` what it took since.
    """

    report: Report | None = None
    checkpoint: str = ""
    status: Status | None = None
    test: ScoreOnTest | None = None
    error: str = ""
    curve: Curve = ()
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, with what Tune, its searcher and its scheduler read; only a report has scores."""
        values: dict[str, Any] = {"done": self.status is not None}
        if self.report:
            read = {name: getattr(self.report, name) for name in ("score", "examples", "train_loss")}
            values |= {"report": self.report.to_dict(), "checkpoint": self.checkpoint, **read}
        if self.status:
            values |= {"status": str(self.status), "error": self.error}
        if self.test:
            values["test"] = asdict(self.test)
        if self.curve:
            values["curve"] = [list(point) for point in self.curve]
        if self.seconds:
            values["seconds"] = self.seconds
        return values

    @classmethod
    def from_dict(cls, result: dict[str, Any] | None) -> "StepResult":
        """Returns the result that a worker sent; an empty result if it sent none."""
        found = result or {}
        return cls(
            report=Report.from_dict(found["report"]) if "report" in found else None,
            checkpoint=found.get("checkpoint", ""),
            status=Status(found["status"]) if "status" in found else None,
            test=ScoreOnTest(**found["test"]) if "test" in found else None,
            error=found.get("error", ""),
            curve=tuple(CurvePoint(*point) for point in found.get("curve", ())),
            seconds=found.get("seconds", 0.0),
        )
