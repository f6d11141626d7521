"""Simulates a study of one recorded task: two workers train recorded points, and every score that they see was seen."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from krona_tune.study.randomness import stream
from tests.benchmarks.search.engine import START
from tests.benchmarks.search.replay.recorded import EPOCHS, Array, Recorded

WORKERS = 2
NEAREST = 8
"""Among how many repeated seeds, the nearest by their points' last scores, the deviation of a training is drawn."""
TIE = 1e-6
"""The weight of the training loss relative to the score, to break ties."""


def regrets(table: Recorded) -> Array:
    """Returns (n,): what each point's recorded last score is below the best, in spans: best less middle point."""
    last = table.scores[:, -1]
    lost: Array = (last.max() - last) / (last.max() - np.median(last))
    return lost


def shown(table: Recorded, seed: int) -> Array:
    """Returns what a training of each point shows (n, EPOCHS): its recorded scores and the deviation of a repeated seed
    whose point ended near it, whole; the training loss breaks ties."""
    rng = np.random.default_rng(stream(seed, "shown", table.task))
    near = np.argsort(np.abs(table.scores[:, -1:] - table.around), axis=1, kind="stable")[:, :NEAREST]
    chosen = near[np.arange(len(near)), rng.integers(near.shape[1], size=len(near))]
    seen: Array = table.scores + table.deviations[chosen] - TIE * table.losses
    return seen


@dataclass(kw_only=True, eq=False)
class Trial:
    """A trial of a recorded point and its scores so far, one an epoch; `kept` ones are trained in full in any case."""

    point: int
    kept: bool = False
    seen: list[float] = field(default_factory=list)
    ended: bool = False

    @property
    def complete(self) -> bool:
        """Returns whether it was trained in full."""
        return len(self.seen) == EPOCHS


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a search may know before it begins: its task's name and its seed, which address its randomness, the tasks
    that teach, and each point's coordinates (n, d)."""

    task: str
    seed: int
    teachers: Sequence[Recorded]
    coordinates: Array

    def rng(self, use: str) -> np.random.Generator:
        """Returns the random numbers of one use."""
        return np.random.default_rng(stream(self.seed, use, self.task))


Propose = Callable[[Sequence[Trial]], Trial | None]
"""Returns a trial of a point that none of the trials so far has; None if there is none."""
Continues = Callable[[Trial, Sequence[Trial]], bool]
"""Returns whether a trial that has just shown a score, not its last, is trained on."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """A trial's last score at one moment: `cost` is what all workers have spent until then, in full trainings."""

    cost: float
    point: int
    epoch: int
    score: float


def simulate(propose: Propose, continues: Continues, curves: Array, budget: float) -> list[Event]:
    """Returns what the workers report, in order, before they have spent `budget` full trainings.

    Args:
        curves: what a training of each point shows (n, EPOCHS).
    """
    scores, order = curves.tolist(), count()
    trials: list[Trial] = []
    busy: list[tuple[float, int, Trial]] = []
    events: list[Event] = []

    def begin(now: float) -> None:
        if (trial := propose(trials)) is not None:
            trials.append(trial)
            heapq.heappush(busy, (now + START + 1 / EPOCHS, next(order), trial))

    for _ in range(WORKERS):
        begin(0.0)
    while busy and busy[0][0] * WORKERS <= budget:
        now, _, trial = heapq.heappop(busy)
        epoch = len(trial.seen)
        trial.seen.append(scores[trial.point][epoch])
        events.append(Event(cost=now * WORKERS, point=trial.point, epoch=epoch, score=trial.seen[-1]))
        if not trial.complete and (continues(trial, trials) or trial.kept):
            heapq.heappush(busy, (now + 1 / EPOCHS, next(order), trial))
        else:
            trial.ended = True
            begin(now)
    return events


def winner(events: Sequence[Event], budget: float, *, stopped_too: bool = False) -> int | None:
    """Returns the point that is named when the budget is spent: the best last score of those trained in full, or of all
    if the stopped ones count, too, or while there is none; None if nothing has been reported."""
    last = _last(events, budget)
    whole = [event for event in last if event.epoch == EPOCHS - 1 and not stopped_too]
    return max(whole or last, key=lambda event: event.score).point if last else None


def tried(events: Sequence[Event], budget: float) -> list[int]:
    """Returns the points that have been reported when the budget is spent."""
    return [event.point for event in _last(events, budget)]


def _last(events: Sequence[Event], budget: float) -> list[Event]:
    return list({event.point: event for event in events if event.cost <= budget + 1e-9}.values())
