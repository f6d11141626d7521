"""Holds a proposed point and who proposed it; proposes points of earlier studies and of a Sobol sequence."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from scipy.stats.qmc import Sobol

from krona_tune.search.planning.earlier_study import points_by_task
from krona_tune.search.planning.space import EVEN_DRAWS, Params, Space
from krona_tune.study.proposer import Proposer
from krona_tune.study.randomness import stream
from krona_tune.study.result import TrialResult


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Says who proposed a trial's point, as `Proposer` has it; empty if nobody knows. The study's model also says which
    score it expects at the full budget, and the deviation of that expectation."""

    proposed_by: str = ""
    expected_score: float | None = None
    expected_deviation: float | None = None

    def plain(self) -> dict[str, Any]:
        """Returns the fields that are known by their names, as the records keep them."""
        return {name: value for name, value in asdict(self).items() if value not in {"", None}}


@dataclass(frozen=True)
class Proposal:
    """Holds a point of the space, and who proposed it."""

    point: Params
    origin: Origin


@dataclass(frozen=True, kw_only=True)
class TriedPoint:
    """A point that a task has tried or tries, with its scores by step; `ended` if it is not trained any more, `worst`
    if it diverged or ran out of memory, which is worse than every score, `ordered` if a person made it of another."""

    point: Params
    scores: Mapping[int, float]
    ended: bool
    worst: bool = False
    ordered: bool = False


Suggest = Callable[[int, Callable[[], Sequence[TriedPoint]]], Iterable[Proposal]]
"""Returns proposals from elsewhere for the trial of a number, the best first, given what returns the points that the
task has tried; none to leave it to Optuna."""


BEST = 3
"""How many of a task's best points in an earlier study the same task tries."""


def earlier_points(rows: Sequence[TrialResult], tasks: Sequence[str]) -> dict[str, list[Params]]:
    """Returns each task's points from an earlier study: the best on the same task, then the best on every other."""
    of_task = points_by_task(rows)
    return {
        task: [*of_task.get(task, [])[:BEST], *(points[0] for other, points in of_task.items() if other != task)]
        for task in tasks
    }


def adopt_points(space: Space, points: Iterable[Params]) -> list[Proposal]:
    """Returns those of the points that the space has, each once."""
    adopted = {space.meaning(point): point for params in points if (point := space.adopted(params)) is not None}
    return [Proposal(point, Origin(proposed_by=Proposer.EARLIER_STUDY)) for point in adopted.values()]


def sobol_points(space: Space, seed: int, first: int = 0) -> Suggest:
    """Returns a function that gives a trial its point: feasible points of the sequence, each once, from `first` on."""
    remaining, found = islice(_points(space, seed), first, None), list[dict[str, Any]]()

    def suggest(number: int, tried: Callable[[], Sequence[TriedPoint]]) -> Iterator[Proposal]:
        found.extend(islice(remaining, max(0, number + 1 - len(found))))
        return (Proposal(point, Origin(proposed_by=Proposer.SOBOL)) for point in found[number : number + 1])

    return suggest


def _points(space: Space, seed: int) -> Iterator[dict[str, Any]]:
    """Yields feasible points until none was found among EVEN_DRAWS in a row."""
    labels = list(space.searched())
    if not labels:
        yield space.at({})
        return
    sequence = Sobol(d=len(labels), scramble=True, seed=stream(seed, "sobol") % 2**32)
    tried: set[str] = set()
    in_vain = 0
    while in_vain < EVEN_DRAWS:
        point = space.at(dict(zip(labels, map(float, sequence.random()[0]), strict=True)))
        in_vain += 1
        if space.feasible(point) and (meaning := space.meaning(point)) not in tried:
            tried.add(meaning)
            in_vain = 0
            yield point
