"""Compares a study's methods: the winner of each on each task, and its average."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from krona_tune.study.finals import BASELINE, Finalist, rank_finals
from krona_tune.study.result import TrialResult
from krona_tune.study.standings import rank

Half = Literal["test", "validation"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A method's winner on one task.

    On the `test` half the score is a mean over `seeds`. A method without finalists has the best `validation` score of
    its trials: one seed, and somewhat too high because the trial was chosen by it.
    """

    score: float
    half: Half
    deviation: float | None
    seeds: int
    trainable_percent: float


@dataclass(frozen=True, kw_only=True)
class Average:
    """The mean over all tasks; all of its scores are on the same half."""

    score: float
    half: Half


@dataclass(frozen=True, kw_only=True)
class MethodLine:
    """One method, with a cell for each task on which it has a score.

    `average` is None unless every task has a score, all on one half.
    """

    method: str
    cells: dict[str, Cell]
    average: Average | None

    @property
    def trainable_percent(self) -> float | None:
        """Returns the mean over the tasks' winners, in percent of the backbone's parameters, without the head."""
        return fmean([cell.trainable_percent for cell in self.cells.values()]) if self.cells else None


def compare(rows: Iterable[TrialResult], tasks: Sequence[str]) -> tuple[MethodLine, ...]:
    """Returns one line per method, the best average first, the head alone last; empty for fewer than two methods.

    Methods without an average come after those with one, in the order in which they started.
    """
    known = [row for row in rows if row.task in tasks]
    searched = list(dict.fromkeys(_method(row) for row in known if row.kind == "search"))
    if len(searched) < 2:
        return ()
    lines = [_line(method, known, tasks) for method in (*searched, BASELINE)]
    return tuple(sorted(lines, key=lambda line: (line.method == BASELINE, *_by_average(line))))


def _by_average(line: MethodLine) -> tuple[bool, float]:
    return line.average is None, -line.average.score if line.average else 0.0


def _line(method: str, rows: Sequence[TrialResult], tasks: Sequence[str]) -> MethodLine:
    own = [row for row in rows if _method(row) == method]
    cells = {task: cell for task in tasks if (cell := _cell([row for row in own if row.task == task]))}
    halves = {cell.half for cell in cells.values()}
    whole = len(cells) == len(tasks) and len(halves) == 1
    average = Average(score=fmean([cell.score for cell in cells.values()]), half=halves.pop()) if whole else None
    return MethodLine(method=method, cells=cells, average=average)


def _cell(rows: Sequence[TrialResult]) -> Cell | None:
    """Returns the winner among one method's rows of one task."""
    held = rank_finals(rows)
    final = held.winner or held.head_only
    return _final_cell(final) if final else _searched_cell(rows)


def _final_cell(final: Finalist) -> Cell:
    return Cell(
        score=final.test.mean,
        half="test",
        deviation=final.test.deviation,
        seeds=final.seeds,
        trainable_percent=final.rows[0].trainable_percent,
    )


def _searched_cell(rows: Sequence[TrialResult]) -> Cell | None:
    ranked = rank(row for row in rows if row.kind in {"search", "baseline"})
    if not ranked:
        return None
    return Cell(
        score=ranked[0].score or 0.0,
        half="validation",
        deviation=None,
        seeds=1,
        trainable_percent=ranked[0].trainable_percent,
    )


def _method(row: TrialResult) -> str:
    return str(row.params["method"])
