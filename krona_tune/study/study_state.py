"""Computes the state of a study: what its request asks for, how far its trials are, and a word for it."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from krona_tune.study.frozen_value import FrozenValue
from krona_tune.study.kinds import FULL_TRAININGS, TrialKind
from krona_tune.study.manifest import PlanFacts
from krona_tune.study.order import Order, OrderKind
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.result import Status, TrialResult

StateWord = Literal["running", "paused", "stopped", "finished", "unreadable"]
"""The word for a study: its driver runs, or waits; none runs and something is left, or nothing; it can't be read."""
UNREADABLE: Final = "unreadable"
FINISHED: Final = "finished"
"""The words for a study that can't be read, and for one of which nothing is left."""
NOT_BEGUN = "not begun"
"""What is said of a study that has no records yet."""
RUNNING: Final = "running"
"""The word for a trial that runs; each other trial has the word of its status."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """The number of trials of each kind that a task has; with `search.per_method`, each method has its own search.
    `may_add` is how many its finals may add to these where the best can't be told."""

    searched: int
    heads: int
    repeats: int
    finals: int
    final_heads: int
    may_add: int

    @classmethod
    def of(cls, spec: StudySpec, planned: PlanFacts) -> "Counts":
        """Returns what is expected of a request before its search has ended, if all searched trials may be finalists.

        A text-to-text backbone has no head, so it uses one baseline rate only.
        """
        search, finalists = spec.search, spec.finalists
        searched = search.trials * (planned.methods if search.per_method else 1)
        groups, compares = searched // search.trials, bool(planned.compares and finalists.top)
        top = min(finalists.top, search.trials - (compares and planned.tries_default)) + compares
        finals = groups * top * finalists.seeds
        heads = finalists.seeds if finalists.top and search.baseline_learning_rates else 0
        return cls(
            searched=searched,
            heads=len(search.baseline_learning_rates[: 1 if planned.text_to_text else None]),
            repeats=min(search.repeats.points, searched) * search.repeats.seeds,
            finals=finals,
            final_heads=heads,
            may_add=max(0, (finalists.budget or 0) - finals - heads),
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


def asked_trials(spec: StudySpec, planned: PlanFacts) -> int:
    """Returns how many trials of all tasks a request asks for, as far as that is known before its search has ended."""
    return len(spec.tasks) * sum(Counts.of(spec, planned).by_kind.values())


Stage = Literal["search", "finals", "repeats", "full training", "end"]
End = Literal["", "finished", "cancelled", "interrupted", "terminated", "halted", "lost"]
"""How a driver ended: the study's end, an order, Ctrl-C, the system or a closed terminal, a fault, Ray's loss."""
ALL_DONE: End = "finished"
"""The end of a driver that did all."""
STARTED_AGAIN: frozenset[End] = frozenset({"terminated", "halted", "lost"})
"""The ends after which a queue starts a study's next driver, until it gives the study up."""


class DriverState(FrozenValue):
    """Holds how far a study is. `search_over`: this driver trains nothing more of the search. `trials` counts those of
    its whole plan, `ended` those that have ended, `later` the finals and repeats that only follow the search;
    `seconds_left` is the forecast, None if nobody knows; `slots` is how many trials may run at once, `most` is that
    without the `share` that a queue leaves to the study (None: no queue runs it); `at` is when the driver wrote this
    (seconds since the epoch). `end` says how the driver ended, `reason` why; both are empty before. `cut_short`: a
    second request or Ray's loss left it no time to write what a study leaves. `training`: it only trained a
    configuration on all examples; None: an earlier version did not say. `fulfilled` is what the request asked for
    (`asked_trials`) when nothing of it was left; None if that has never been so. `start` is the id of the
    driver's start; empty if it has none, as in earlier versions."""

    stage: Stage
    search_over: bool = False
    trials: int
    ended: int
    later: int = 0
    seconds_left: float | None = None
    slots: int
    most: int | None = None
    share: int | None = None
    paused: bool = False
    end: End = ""
    reason: str = ""
    cut_short: bool = False
    training: bool | None = None
    fulfilled: int | None = None
    start: str = ""
    at: float

    @property
    def word(self) -> StateWord:
        """Returns whether trials may run; none may if somebody paused the study, or its queue gives it nothing now."""
        return "paused" if self.paused or self.share == 0 else "running"

    @property
    def ends(self) -> bool:
        """Returns whether the driver has come to its end: it takes no more orders."""
        return self.stage == "end"

    @property
    def cut_off(self) -> bool:
        """Returns whether the driver may not have written the study's adapters, if it runs no more: it was killed, a
        fault or Ray's loss ended it, or a second request. A full training writes
        those of the study once more at its end."""
        if self.stage == "full training":
            return False
        if self.training:
            return self.stage == "end" and self.end in {"", "halted"}  # maybe while it wrote them again
        return self.end in {"", "halted", "lost"} or self.cut_short

    @property
    def left(self) -> int:
        """Returns how many trials of the plan have not ended, without those that only follow the search."""
        return self.trials - self.ended - self.later


def running_trials(rows: Iterable[TrialResult]) -> frozenset[str]:
    """Returns the trials that have begun and not ended: they run if the study does, else they were interrupted."""
    return frozenset(row.trial_id for row in rows if not row.ended and row.ended_at is None)


def in_plan(row: TrialResult, running: Collection[str]) -> bool:
    """Returns whether a study's plan has this trial, if those with the ids `running` run.

    A full training that was cut off is none of it: whoever asks for it again lets it go on.
    """
    return row.ended or row.kind not in FULL_TRAININGS or row.trial_id in running


def recoverable(rows: Iterable[TrialResult]) -> list[TrialResult]:
    """Returns the trials that an order lets go on: those of the study's phases that failed or ran out of memory."""
    return [row for row in rows if row.status.may_recover and row.kind not in FULL_TRAININGS]


@dataclass(frozen=True, kw_only=True)
class TrialStates:
    """Counts how many trials are in which state.

    Attributes:
        by_state: their numbers, those that run first, then those of each status.
        to_come: how many more the plan has; None if that is not known.
    """

    by_state: Mapping[str, int]
    to_come: int | None

    @classmethod
    def of(
        cls, rows: Iterable[TrialResult], running: Collection[str] = (), to_come: int | None = None
    ) -> "TrialStates":
        """Returns the states of rows; those whose ids are in `running` run, whatever their status."""
        found = Counter(RUNNING if row.trial_id in running else str(row.status) for row in rows)
        return cls(by_state={state: found[state] for state in (RUNNING, *map(str, Status))}, to_come=to_come)

    @property
    def running(self) -> int:
        return self.by_state[RUNNING]

    @property
    def completed(self) -> int:
        return self.by_state[Status.COMPLETED]

    @property
    def stopped(self) -> int:
        """Returns how many the scheduler or a person has stopped."""
        return sum(self.by_state[status] for status in Status if status.stopped)

    @property
    def ended(self) -> int:
        """Returns how many have ended, however they ended."""
        return sum(self.by_state[status] for status in Status if status is not Status.INTERRUPTED)

    @property
    def failed(self) -> int:
        """Returns how many have ended without a last score that counts."""
        return self.ended - self.completed - self.stopped

    @property
    def trials(self) -> int | None:
        """Returns how many the plan has, begun or not; None if that is not known."""
        return None if self.to_come is None else sum(self.by_state.values()) + self.to_come

    @property
    def to_go(self) -> int | None:
        """Returns how many of the plan neither have ended nor run; None if that is not known."""
        return None if self.to_come is None else self.by_state[Status.INTERRUPTED] + self.to_come


@dataclass(frozen=True, kw_only=True)
class StudyState:
    """A study's state now.

    Attributes:
        runs: whether a process has the study.
        states: its trials by their state, as the records say it.
        ordered: more was ordered of it that no driver has carried out yet.
        driver: what its driver wrote last, which is newer than the records; None if none runs, or it wrote nothing.
        cut_off: its last driver may not have written the adapters, as `DriverState.cut_off` says.
        failed: how many trials an order lets go on (`recoverable`).
    """

    runs: bool
    states: TrialStates
    ordered: bool = False
    driver: DriverState | None = None
    cut_off: bool = False
    failed: int = 0

    @classmethod
    def of(
        cls,
        rows: Sequence[TrialResult],
        orders: Iterable[Order] = (),
        *,
        runs: bool,
        to_come: int | None = None,
        driver: DriverState | None = None,
        cut_off: bool = False,
    ) -> "StudyState":
        """Returns the state of a study with these rows and orders, and so many trials that have not begun."""
        running = running_trials(rows) if runs else frozenset[str]()
        states = TrialStates.of([row for row in rows if in_plan(row, running)], running, to_come)
        ordered = any(order.is_left for order in orders)
        failed = len(recoverable(rows))
        return cls(runs=runs, states=states, ordered=ordered, driver=driver, cut_off=cut_off, failed=failed)

    @property
    def word(self) -> StateWord:
        if self.driver:
            return self.driver.word
        return "running" if self.runs else FINISHED if self.finished else "stopped"

    @property
    def stopped(self) -> bool:
        """Returns whether no process has the study, and something of it is left."""
        return not (self.runs or self.finished)

    @property
    def finished(self) -> bool:
        """Returns whether nothing is left: every trial of the plan has ended, nothing more was ordered, and the last
        driver has come to its own end."""
        return self.states.to_go == 0 and not (self.states.running or self.ordered or self.cut_off)

    @property
    def paused(self) -> bool:
        """Returns whether somebody has paused the study; one that only waits for its queue is not."""
        return self.driver is not None and self.driver.paused

    def waits(self, kind: OrderKind) -> bool:
        """Returns whether an order of this kind waits for the next driver of the search: a full training runs."""
        return self.driver is not None and bool(self.driver.training) and not kind.facts.in_full_training

    @property
    def trials(self) -> int | None:
        """Returns how many trials the plan has; None if that is not known."""
        return self.driver.trials if self.driver else self.states.trials

    @property
    def ended(self) -> int:
        return self.driver.ended if self.driver else self.states.ended

    @property
    def seconds_left(self) -> float | None:
        """Returns in how many seconds the driver expects the study's end; None if none runs or it can't say yet."""
        return self.driver.seconds_left if self.driver else None

    @property
    def progress(self) -> float | None:
        """Returns which share of the plan's trials has ended, from 0 to 1; None if that is not known."""
        return min(self.ended / self.trials, 1.0) if self.trials else None

    @property
    def text(self) -> str:
        """Returns what its trials do, in words; empty if it has none and does not run."""
        others, running = dict(self.states.by_state), self.states.running
        del others[RUNNING]
        words = [f"{count} {state.replace('_', ' ')}" for state, count in others.items() if count]
        if self.word == "paused":
            words.insert(0, f"paused, {running} begun" if running else "paused")
        elif self.runs:
            words.insert(0, f"running {running} now" if running else "running")
        return ", ".join(words)
