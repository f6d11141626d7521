"""Counts the trials of a study from its request alone."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from krona_tune.study.kinds import TrialKind
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.request.trial import Frozen
from krona_tune.study.result import TrialResult


@dataclass(frozen=True, kw_only=True)
class Counts:
    """The number of trials of each kind that a task has; with `search.per_method`, each method has its own search."""

    searched: int
    heads: int
    repeats: int
    finals: int
    final_heads: int

    @classmethod
    def of(cls, spec: StudySpec, *, text_to_text: bool) -> "Counts":
        """Returns a request's counts; a text-to-text backbone has no head, so it uses one baseline rate only."""
        search, top, seeds = spec.search, spec.finalists.top, spec.finalists.seeds
        groups = len(spec.domains()["method"].ends()) if search.per_method else 1
        return cls(
            searched=groups * search.trials,
            heads=len(search.baseline_learning_rates[: 1 if text_to_text else None]),
            repeats=min(search.repeats.points, groups * search.trials) * search.repeats.seeds,
            finals=groups * top * seeds,
            final_heads=seeds if top and search.baseline_learning_rates else 0,
        )

    @property
    def by_kind(self) -> dict[str, int]:
        finals = self.finals + self.final_heads
        return {
            TrialKind.SEARCH: self.searched,
            TrialKind.BASELINE: self.heads,
            TrialKind.REPEAT: self.repeats,
            TrialKind.FINALIST: finals,
        }


def not_begun(spec: StudySpec, rows: Iterable[TrialResult], *, text_to_text: bool) -> Mapping[str, int]:
    """Returns the number of each task's trials that have no row yet."""
    begun = Counter((row.task, row.kind) for row in rows)
    asked = Counts.of(spec, text_to_text=text_to_text).by_kind
    return {task: sum(max(0, count - begun[task, kind]) for kind, count in asked.items()) for task in spec.tasks}


Stage = Literal["search", "finals", "repeats", "full training", "end"]
End = Literal["", "finished", "cancelled", "interrupted", "terminated", "halted", "lost"]
"""How a driver ended: the study's end, an order, Ctrl-C, the system's SIGTERM, a fault, the loss of Ray."""


class DriverState(Frozen):
    """How far a study is. `trials` counts those of its whole plan, `ended` those that have ended; `seconds_left` is the
    forecast, None if nobody knows; `slots` is how many trials may run at once, `most` is that without the `share` that
    a queue leaves to the study (None: no queue runs it); `at` is when the driver wrote this (seconds since the epoch).
    `end` says how the driver ended, `reason` why; both are empty before."""

    stage: Stage
    trials: int
    ended: int
    seconds_left: float | None = None
    slots: int
    most: int | None = None
    share: int | None = None
    paused: bool = False
    end: End = ""
    reason: str = ""
    at: float

    @property
    def waits(self) -> bool:
        """Returns whether no trial may run: somebody paused the study, or its queue gives it nothing now."""
        return self.paused or self.share == 0
