"""Compares a study's methods: the winner of each on each task, and its average."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import get_args

from krona_tune.study.finals import Finalist
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.request.trial import HEAD_ONLY
from krona_tune.study.result import Half, TrialResult
from krona_tune.study.standings import Standings


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A method's winner on one task.

    On the `test` half the score is a mean over seeds. A method without finalists has the best `validation` score of
    its trials: one seed, and somewhat too high because the trial was chosen by it.
    """

    mean: float
    half: Half
    deviation: float | None
    trainable_percent: float


@dataclass(frozen=True, kw_only=True)
class Average:
    """The mean over all tasks whose scores have one; all of them are on the same half."""

    score: float
    half: Half


@dataclass(frozen=True, kw_only=True)
class MethodLine:
    """One method, with a cell for each task on which it has a score.

    `average` is None unless every task that is averaged has a score, all on one half.
    """

    method: str
    cells: dict[str, Cell]
    average: Average | None

    @property
    def trainable_percent(self) -> float | None:
        """Returns the mean over the tasks' winners, in percent of the backbone's parameters, without the head."""
        return fmean([cell.trainable_percent for cell in self.cells.values()]) if self.cells else None


def averaged(tasks: Mapping[str, TaskFacts | None], half: Half) -> tuple[str, ...]:
    """Returns the tasks whose scores on a half have a mean: those that average, and a task that is the only one.

    A task without facts counts as one that averages.
    """
    alone = len(tasks) == 1
    return tuple(task for task, facts in tasks.items() if alone or facts is None or facts.averages_on(half))


def left_out(tasks: Mapping[str, TaskFacts | None], halves: Iterable[Half]) -> tuple[str, ...]:
    """Returns the tasks that an average on some of these halves leaves out."""
    kept = [averaged(tasks, half) for half in halves]
    return tuple(task for task in tasks if not all(task in names for names in kept))


def compare_methods(
    rows: Iterable[TrialResult], tasks: Mapping[str, TaskFacts | None], shared_by: tuple[str, ...] = ()
) -> tuple[MethodLine, ...]:
    """Returns one line per method, the best average first, the head alone last; empty for fewer than two methods.

    Averages on validation come after those on test, since one seed that was chosen by its score looks better than it
    is, and methods without an average last, in the order in which they started.

    Args:
        shared_by: the tasks that share their configurations, if any: then a method has the scores of the one of its own
            that is best on average, and none before one was trained on every task.
    """
    known = [row for row in rows if row.task in tasks]
    searched = list(dict.fromkeys(_method(row) for row in known if row.searched))
    if len(searched) < 2:
        return ()
    lines = [_line(method, known, tasks, shared_by) for method in (*searched, HEAD_ONLY)]
    return tuple(sorted(lines, key=lambda line: (line.method == HEAD_ONLY, *_by_average(line))))


def _by_average(line: MethodLine) -> tuple[int, float]:
    halves: tuple[Half, ...] = get_args(Half)
    return (halves.index(line.average.half), -line.average.score) if line.average else (len(halves), 0.0)


def _line(
    method: str, rows: Sequence[TrialResult], tasks: Mapping[str, TaskFacts | None], shared_by: tuple[str, ...]
) -> MethodLine:
    own = Standings([row for row in rows if _method(row) == method], shared_by)
    cells = {task: cell for task in tasks if (cell := _cell(own, task, tasks[task]))}
    averages = (_average(cells, averaged(tasks, half), half) for half in get_args(Half))
    return MethodLine(method=method, cells=cells, average=next(filter(None, averages), None))


def _average(cells: Mapping[str, Cell], together: Sequence[str], half: Half) -> Average | None:
    scores = [cells[task].mean for task in together if task in cells and cells[task].half == half]
    return Average(score=fmean(scores), half=half) if scores and len(scores) == len(together) else None


def _cell(own: Standings, task: str, facts: TaskFacts | None) -> Cell | None:
    """Returns the winner among one method's rows on one task."""
    held = own.finals(task, facts)
    if final := held.winner or held.head_only:
        return _final_cell(final)
    searched = own.best(task) if own.shared or not own.shared_by else None
    best = searched or own.baseline(task)
    return _searched_cell(best) if best else None


def _final_cell(final: Finalist) -> Cell:
    percent = final.rows[0].trainable_percent
    return Cell(mean=final.test.mean, half="test", deviation=final.test.deviation, trainable_percent=percent)


def _searched_cell(best: TrialResult) -> Cell:
    return Cell(mean=best.score or 0.0, half="validation", deviation=None, trainable_percent=best.trainable_percent)


def _method(row: TrialResult) -> str:
    return str(row.params["method"])
