"""Holds a proposed point together with who proposed it, and finds points of earlier studies that are worth it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from krona_tune.search.planning.space import Params, Space
from krona_tune.study.kinds import TrialKind
from krona_tune.study.result import TrialResult
from krona_tune.study.standings import rank


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Who proposed a trial's point: "even draw", "TPE", "Sobol", "earlier study" or "study model".

    The model of the study also says which score it expects at the full budget, and the deviation of that expectation.
    """

    proposed_by: str = ""
    expected_score: float | None = None
    expected_deviation: float | None = None

    def plain(self) -> dict[str, Any]:
        """Returns what is known, as plain values."""
        return {name: value for name, value in asdict(self).items() if value not in {"", None}}


@dataclass(frozen=True)
class Proposal:
    """A point and its origin."""

    point: Params
    origin: Origin


Suggest = Callable[[int], Iterable[Proposal]]
"""Returns proposals from elsewhere for the trial of a number, the best first; none to leave it to Optuna."""
EVEN, TPE, SOBOL, EARLIER, MODEL = "even draw", "TPE", "Sobol", "earlier study", "study model"


BEST = 3
"""How many of a task's best points in an earlier study the same task tries."""


def earlier_points(rows: Sequence[TrialResult], tasks: Sequence[str]) -> dict[str, list[Params]]:
    """Returns each task's points from an earlier study: the best on the same task, then the best on every other."""
    of_task = points_by_task(rows)
    return {
        task: [*of_task.get(task, [])[:BEST], *(points[0] for other, points in of_task.items() if other != task)]
        for task in tasks
    }


def points_by_task(rows: Iterable[TrialResult]) -> dict[str, list[Params]]:
    """Returns each task's points whose search trials ran to their end, the best first."""
    found: dict[str, list[Params]] = {}
    for row in rank(row for row in rows if row.kind == TrialKind.SEARCH and row.finished):
        found.setdefault(row.task, []).append(row.params)
    return found


def adopt_points(space: Space, points: Iterable[Params]) -> list[Proposal]:
    """Returns those of the points that the space has, each once."""
    adopted = {space.meaning(point): point for params in points if (point := space.adopted(params)) is not None}
    return [Proposal(point, Origin(proposed_by=EARLIER)) for point in adopted.values()]
