"""Simulates a study of several tasks: workers that train replayed trials, the tasks in turn, at equal cost."""

import heapq
from collections.abc import Mapping
from itertools import count, cycle
from typing import Protocol

from krona_tune.search.planning.space import Params
from krona_tune.study.request.schedule import Schedule
from tests.benchmarks.search.curves import Seen
from tests.benchmarks.search.engine import START, Event, Strategy, Trial


class Curve(Protocol):
    """The reports of one training, one per rung; the last one is NaN if it diverged."""

    def __getitem__(self, rung: int, /) -> Seen: ...


class Task(Protocol):
    """Gives each point's curve."""

    def curve(self, params: Params, schedule: Schedule) -> Curve: ...


def simulate_study(
    strategies: Mapping[str, Strategy], tasks: Mapping[str, Task], *, workers: int, budget: float
) -> dict[str, list[Event]]:
    """Returns each task's reports until all workers have spent `budget` full trainings a task, on all tasks together.

    An event's cost is what was spent until then, a task, in full trainings.
    """
    order, turn = count(), cycle(strategies)
    busy: list[tuple[float, int, str, Trial]] = []
    events: dict[str, list[Event]] = {task: [] for task in strategies}

    def work(task: str, trial: Trial, since: float, start: float) -> None:
        schedule, done = strategies[task].schedule, trial.seen
        curve = tasks[task].curve(trial.params, schedule)
        trained = curve[len(done)].examples - (done[-1].examples if done else 0)
        heapq.heappush(busy, (since + start + trained / schedule.total_examples, next(order), task, trial))

    for _ in range(workers):
        task = next(turn)
        work(task, strategies[task].next(), 0.0, START)
    while busy[0][0] * workers <= budget * len(strategies):
        now, _, task, trial = heapq.heappop(busy)
        seen = tasks[task].curve(trial.params, strategies[task].schedule)[len(trial.seen)]
        trial.seen.append(seen)
        cost = now * workers / len(strategies)
        events[task].append(Event(cost=cost, trial=trial, rung=len(trial.seen) - 1, seen=seen))
        if strategies[task].heard(trial, seen):
            work(task, trial, now, 0.0)
        else:
            task = next(turn)
            work(task, strategies[task].next(), now, START)
    return events
