"""Simulates workers that train stub trials: what a strategy proposes, which reports it gets, and at which cost."""

import heapq
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from krona_tune.search.planning.space import Params
from krona_tune.study.request.schedule import Schedule
from tests.benchmarks.search.curves import Seen, Trainer

START = 0.01
"""The cost of starting or resuming a trial, as a share of a full training."""


@dataclass(kw_only=True, eq=False)
class Trial:
    """A running trial: its point and its reports so far."""

    number: int
    params: Params
    seen: list[Seen] = field(default_factory=list)

    @property
    def trial_id(self) -> str:
        return f"stub-{self.number:04d}"


class Strategy(Protocol):
    """A strategy, which proposes and stops trials."""

    schedule: Schedule

    def next(self) -> Trial:
        """Returns a new trial, or one that continues from its last rung."""

    def heard(self, trial: Trial, seen: Seen) -> bool:
        """Takes a report, the trial's last so far; returns whether the trial continues to its next rung at once."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """A report at one moment: `cost` is what all workers have spent until then, in full trainings."""

    cost: float
    trial: Trial
    rung: int
    seen: Seen


def simulate(strategy: Strategy, trainer: Trainer, *, workers: int, budget: float) -> list[Event]:
    """Returns the reports, in order, that `workers` workers give before they have spent `budget` full trainings."""
    order, events = count(), list[Event]()
    busy: list[tuple[float, int, Trial]] = []

    def work(trial: Trial, since: float, start: float) -> None:
        curve, done = trainer.curve(trial.params, strategy.schedule), trial.seen
        trained = curve[len(done)].examples - (done[-1].examples if done else 0)
        heapq.heappush(busy, (since + start + trained / strategy.schedule.total_examples, next(order), trial))

    for _ in range(workers):
        work(strategy.next(), 0.0, START)
    while busy[0][0] * workers <= budget:
        now, _, trial = heapq.heappop(busy)
        rung = len(trial.seen)
        seen = trainer.curve(trial.params, strategy.schedule)[rung]
        trial.seen.append(seen)
        events.append(Event(cost=now * workers, trial=trial, rung=rung, seen=seen))
        if strategy.heard(trial, seen):
            work(trial, now, 0.0)
        else:
            work(strategy.next(), now, START)
    return events


def is_over(trial: Trial, schedule: Schedule) -> bool:
    """Returns whether a trial has reached its full budget or has diverged."""
    last = trial.seen[-1]
    return last.diverged or last.examples >= schedule.total_examples
