"""What crosses the process border: a trial on its way to a worker, and what one of its steps gave on the way back."""

from dataclasses import asdict, dataclass
from typing import Any

from krona_tune.study.result import Report, ScoreOnTest, Status
from krona_tune.study.spec.trial import TrialConfig, check_trial


@dataclass(frozen=True)
class TrialMessage:
    """A trial as a worker gets it. `of` is the searched trial that a finalist repeats."""

    trial_id: str
    task: str
    number: int
    kind: str
    seed: int
    params: dict[str, Any]
    of: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As Tune hands it on: plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> "TrialMessage":
        return cls(**config)

    def checked(self) -> TrialConfig:
        """The trial, checked. Raises a pydantic.ValidationError as `krona_tune.study.spec.trial.check_trial`."""
        return check_trial(self.task, self.seed, self.params, self.kind)


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What a step gave: the report of a rung and where its state is kept, or the `error` that ended the trial.

    `status` is what became of the trial, None while it goes on. `test` is a finalist's one look at the test half.
    """

    report: Report | None = None
    checkpoint: str = ""
    status: Status | None = None
    test: ScoreOnTest | None = None
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain values, with what Tune, its searcher and its scheduler read; a failure has no score."""
        values: dict[str, Any] = {"done": self.status is not None}
        if self.report:
            read = {name: getattr(self.report, name) for name in ("score", "examples", "train_loss")}
            values |= {"report": asdict(self.report), "checkpoint": self.checkpoint, **read}
        if self.status:
            values |= {"status": str(self.status), "error": self.error}
        if self.test:
            values["test"] = asdict(self.test)
        return values

    @classmethod
    def from_dict(cls, result: dict[str, Any] | None) -> "StepResult":
        """What a worker gave; an empty result where it gave none."""
        found = result or {}
        return cls(
            report=Report(**found["report"]) if "report" in found else None,
            checkpoint=found.get("checkpoint", ""),
            status=Status(found["status"]) if "status" in found else None,
            test=ScoreOnTest(**found["test"]) if "test" in found else None,
            error=found.get("error", ""),
        )
