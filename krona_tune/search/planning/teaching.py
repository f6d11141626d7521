"""Finds what the recorded curves teach a new study: points of its space that are near the best recorded ones."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from math import ceil
from statistics import fmean, pstdev
from typing import Any

from krona_tune.search.planning.earlier_study import EarlierStudy, points_by_task, shipped_curves
from krona_tune.search.planning.nearest_point import RateRule, nearest_point
from krona_tune.search.planning.space import Params, Space
from krona_tune.study.standings import front_of

MOST, MOST_OWN, ONE_OF = 24, 3, 5
"""How many of the points that are best on all recorded tasks are kept, and of those that are best on one; and of how
many points of a design the best one is kept, since few points have no more good ones."""
Points = tuple[dict[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """Points of a space near those that were best on the recorded `tasks`, the best first; none if nothing is near.

    `own` has the points that were best on one task alone, by the hash of its data (`TaskData.contents`). `contributed`
    says how many of the tasks are of which contributed file, and `synthetic` how many have generated data. `unlearned`
    are contributed tasks that teach nothing: no trial scores above the constant answer there. `rule` says how their
    learning rates were carried over.
    """

    tasks: tuple[str, ...]
    points: Points
    own: Mapping[str, Points]
    contributed: Mapping[str, int] = field(default_factory=dict)
    synthetic: int = 0
    unlearned: tuple[str, ...] = ()
    rule: RateRule = field(default_factory=RateRule)

    def __bool__(self) -> bool:
        return bool(self.points)

    def first(self, contents: str = "") -> Points:
        """Returns the points in the order in which a task tries them: its own, if its data are recorded, then all."""
        return (*self.own.get(contents, ()), *self.points)


def read_teaching(
    space: Space,
    without: Collection[str] = (),
    contributed: Sequence[EarlierStudy] = (),
    *,
    every_size: bool = False,
    rule: RateRule | None = None,
) -> Teaching:
    """Returns what the recorded curves teach a space.

    Args:
        space: the space of the new study.
        without: recorded tasks of the package to leave out.
        contributed: further curves; their points and the package's take turns, theirs first.
        rule: how learning rates are carried over.
        every_size: teaches the points of each design's front of score against parameters instead of its best ones, from
            the largest down.
    """

    def near(curves: EarlierStudy, points: Sequence[Params], most: int) -> Points:
        if every_size:
            return _front(space, _near(space, curves, points, len(points), by))
        return _near(space, curves, points, most, by)

    by = rule or RateRule()
    designs = (*(curves.without(curves.unlearned) for curves in contributed), shipped_curves(without))
    ordered = [(curves, by_mean_score(curves)) for curves in designs]
    orders = [near(curves, best, min(MOST, ceil(len(best) / ONE_OF))) for curves, best in ordered]
    in_turn = {space.meaning(point): point for turn in zip_longest(*orders) for point in turn if point is not None}
    first = list(in_turn.values())
    if every_size:
        first.sort(key=space.parameters, reverse=True)
    own: dict[str, Points] = {}
    for curves in designs:
        for task, points in points_by_task(curves.rows).items():
            if contents := curves.contents.get(task):
                own.setdefault(contents, near(curves, points, MOST_OWN))
    return Teaching(
        tasks=tuple(sorted(task for curves in designs for task in curves.budgets)),
        points=tuple(first[:MOST]),
        own=own,
        contributed=Counter(curves.name for curves in designs[:-1] for _ in curves.budgets),
        synthetic=sum(len(curves.synthetic) for curves in designs),
        unlearned=tuple(curves.task(task) for curves in contributed for task in sorted(curves.unlearned)),
        rule=by,
    )


def near_point(space: Space, curves: EarlierStudy, params: Params, rule: RateRule) -> dict[str, Any] | None:
    """Returns the point of a space that is nearest to one of the curves, by a rule for its learning rate."""
    assert curves.geometry is not None, "the curves come with their backbone"
    return nearest_point(space, params, curves.geometry, rule, fmean(curves.budgets.values()))


def by_mean_score(curves: EarlierStudy) -> list[Params]:
    """Returns the points of a design, the best first: by the mean over its tasks of the final score, in deviations from
    the task's mean. A training without a score counts as the task's worst."""
    found: dict[int, list[float]] = {}
    points: dict[int, Params] = {}
    for task in sorted(curves.budgets):
        rows = [row for row in curves.rows if row.task == task]
        worst = min(row.score for row in rows if row.score is not None)
        scores = {row.number: worst if row.score is None else row.score for row in rows}
        mean, deviation = fmean(scores.values()), pstdev(scores.values()) or 1.0
        for number, score in scores.items():
            found.setdefault(number, []).append((score - mean) / deviation)
        points |= {row.number: row.params for row in rows}
    return [points[number] for number in sorted(found, key=lambda number: (-fmean(found[number]), number))]


def _near(space: Space, curves: EarlierStudy, points: Iterable[Params], most: int, rule: RateRule) -> Points:
    """Returns the nearest points of a space to the first of the given ones, each once."""
    found: dict[str, dict[str, Any]] = {}
    for params in points:
        if len(found) < most and (near := near_point(space, curves, params, rule)):
            found.setdefault(space.meaning(near), near)
    return tuple(found.values())


def _front(space: Space, points: Points) -> Points:
    """Returns, of points in the order of their scores, those that have fewer parameters than every better one."""
    placed = front_of(enumerate(points), lambda each: (space.parameters(each[1]), -each[0]))
    return tuple(point for _, point in reversed(placed))
