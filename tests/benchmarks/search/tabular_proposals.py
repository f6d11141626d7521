"""Holds what proposes the points of a tabular replay: chance, and what is good on other tasks, rightly or not."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from tests.benchmarks.search.replay.recorded import Array, Recorded
from tests.benchmarks.search.tabular_study import Propose, Setting, Trial

MakeProposals = Callable[[Setting], Propose]


def normal_scores(table: Recorded) -> Array:
    """Returns the last scores of a task's points (n,) with mean 0 and deviation 1."""
    last = table.scores[:, -1]
    normal: Array = (last - last.mean()) / last.std()
    return normal


def mean_of_teachers(teachers: Sequence[Recorded]) -> Array:
    """Returns each point's mean normal score over the tasks that teach (n,)."""
    mean: Array = np.mean([normal_scores(table) for table in teachers], axis=0)
    return mean


def portfolio(teachers: Sequence[Recorded]) -> list[int]:
    """Returns all points: in turn each teaching task's best that is not taken yet."""
    orders = [iter(np.argsort(-table.scores[:, -1], kind="stable").tolist()) for table in teachers]
    taken: dict[int, None] = {}
    while len(taken) < len(teachers[0].scores):
        for order in orders:
            found = next((point for point in order if point not in taken), None)
            if found is not None:
                taken[found] = None
    return list(taken)


def by_chance(setting: Setting) -> Propose:
    """Returns even draws."""
    return in_order(setting.rng("order").permutation(len(setting.coordinates)).tolist())


def portfolio_first(setting: Setting) -> Propose:
    """Returns the portfolio, which ends with what is worst on the other tasks."""
    return in_order(portfolio(setting.teachers))


def by_mean(setting: Setting) -> Propose:
    """Returns the points by their mean normal score on the other tasks."""
    return in_order(np.argsort(-mean_of_teachers(setting.teachers), kind="stable").tolist())


def in_order(points: Iterable[int]) -> Propose:
    """Returns those of these points that are not taken yet, one after the other."""
    remaining = iter(points)

    def propose(trials: Sequence[Trial]) -> Trial | None:
        taken = {trial.point for trial in trials}
        point = next((each for each in remaining if each not in taken), None)
        return None if point is None else Trial(point=point)

    return propose


def shuffled(setting: Setting) -> Setting:
    """Returns a setting whose teachers' curves have changed places by chance, each task's on its own."""
    rng = setting.rng("shuffled teachers")
    orders = [rng.permutation(len(table.scores)) for table in setting.teachers]
    moved = [replace(t, scores=t.scores[o], losses=t.losses[o]) for t, o in zip(setting.teachers, orders, strict=True)]
    return replace(setting, teachers=tuple(moved))


def wrong_sign(setting: Setting) -> Setting:
    """Returns a setting whose teachers call the worst the best."""
    return replace(setting, teachers=tuple(replace(table, scores=-table.scores) for table in setting.teachers))
