"""`python -m tests.benchmarks.search.probed_trainings`: what the first part of a training foretells of its end.

The point that MiniLM's other tasks find best is trained for one or three of nine epochs. How much of the way from its
score to a perfect one do the epochs that are left close? The quantiles of that over the good points (the eighth that
MiniLM's other tasks find best) of all backbones and tasks, each backbone and task alike, make an interval of the end.
Each backbone and task in turn is foretold by those that share neither with it; controls, tasks that MiniLM hardly
learns, share only no task, and all of their few points count as good. Beside it: the regret of the point that MiniLM's
other tasks find best, and of the best of their first three after so many epochs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from scipy.stats import binomtest

from krona_tune.record.recorded_curves import CONSTANT, curves
from krona_tune.search.planning.expected_score import BEST, COVERAGE, LEAST, Array
from tests.benchmarks.search.other_backbones import recorded_backbones, tables_of
from tests.benchmarks.search.recommend import CONTROLS, over_tasks
from tests.benchmarks.search.replay.recorded import Recorded, recorded, recorded_tasks
from tests.benchmarks.search.tabular_proposals import mean_of_teachers

MINILM = "minilm"
PROBES = {1: "one epoch", 3: "three epochs"}
"""After how many of the nine epochs a probe ends, in words."""
THIRD = 3
GOOD = 1 / 8
TRIED = 3
"""The points of which the best after a probe is named, beside the first."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A backbone's training of a task: how good MiniLM's other tasks find the points (n,), None on a control, and the
    points' shares (n, EPOCHS) of the way from the constant answer to a perfect score."""

    backbone: str
    task: str
    foretold: Array | None
    shares: Array

    @property
    def good(self) -> Array:
        """Returns the shares of the good points (m, EPOCHS), the best one first; of a control those of all."""
        if self.foretold is None:
            return self.shares
        count = int(np.ceil(GOOD * len(self.shares)))
        return self.shares[np.argsort(-self.foretold, kind="stable")[:count]]

    def closed(self, epochs: int) -> Array:
        """Returns which share of what was missing after so many epochs each good point gained until the end (m,)."""
        early = self.good[:, epochs - 1]
        closed: Array = (self.good[:, -1] - early) / (BEST - early)
        return closed


def recorded_cells() -> list[Cell]:
    """Returns each recorded backbone and task, the controls last."""
    minilm = recorded_tasks()
    tables = {MINILM: minilm} | {name: tables_of(name) for name in recorded_backbones()}
    cells = [_cell(name, table, minilm) for name, of_backbone in tables.items() for table in of_backbone.values()]
    found = curves()
    return [*cells, *(_control(recorded(found, task), constant) for task, constant in CONTROLS.items())]


def _cell(backbone: str, table: Recorded, minilm: Mapping[str, Recorded]) -> Cell:
    others = [other for task, other in minilm.items() if task != table.task]
    at = [others[0].numbers.index(number) for number in table.numbers]
    return Cell(
        backbone=backbone,
        task=table.task,
        foretold=mean_of_teachers(others)[at],
        shares=_shares(table, CONSTANT[table.task]),
    )


def _control(table: Recorded, constant: float) -> Cell:
    return Cell(backbone=MINILM, task=table.task, foretold=None, shares=_shares(table, constant))


def _shares(table: Recorded, constant: float) -> Array:
    """Returns the shares of a table's scores, of what diverged none."""
    shares: Array = np.maximum((np.nan_to_num(table.scores, nan=constant) - constant) / (BEST - constant), LEAST)
    return shares


def quantiles(cells: Sequence[Cell], epochs: int) -> tuple[float, float, float]:
    """Returns the ends and the middle of what good points gain after so many epochs, each cell with the same weight."""
    gained = np.concatenate([cell.closed(epochs) for cell in cells])
    weights = np.concatenate([np.full(len(cell.good), 1 / len(cell.good)) for cell in cells]) / len(cells)
    order = np.argsort(gained, kind="stable")
    below = np.cumsum(weights[order])
    low, middle, high = (
        gained[order][np.searchsorted(below, at)] for at in ((1 - COVERAGE) / 2, 0.5, (1 + COVERAGE) / 2)
    )
    return float(low), float(middle), float(high)


@dataclass(frozen=True, kw_only=True)
class Foretold:
    """Of a cell's good points: in how many the interval holds, of how many, how wide it is on average, and the mean
    distance of its middle to the end."""

    cell: Cell
    held: int
    points: int
    width: float
    wrong: float

    @property
    def rate(self) -> float:
        """Returns the share of the points in which the interval holds."""
        return self.held / self.points


def foretell(cell: Cell, cells: Sequence[Cell], epochs: int) -> Foretold:
    """Returns how well the cells that share nothing with this one foretell its good points after so many epochs."""
    control = cell.foretold is None
    teachers = [each for each in cells if each.task != cell.task and (control or each.backbone != cell.backbone)]
    early, end = cell.good[:, epochs - 1], cell.good[:, -1]
    low, middle, high = (early + closed * (BEST - early) for closed in quantiles(teachers, epochs))
    low = np.maximum(low, LEAST)
    return Foretold(
        cell=cell,
        held=int(((low <= end) & (end <= high)).sum()),
        points=len(end),
        width=float((high - low).mean()),
        wrong=float(np.abs(end - middle).mean()),
    )


def regret(cell: Cell, epochs: int, tried: int) -> float:
    """Returns what is lost in spans by the best after so many epochs of the points that others find best."""
    assert cell.foretold is not None, "what is recommended on a control is not recorded"
    first = np.argsort(-cell.foretold, kind="stable")[:tried]
    end = cell.shares[:, -1]
    chosen = end[first[cell.shares[first, epochs - 1].argmax()]]
    return float((end.max() - chosen) / (end.max() - np.median(end)))


def report() -> str:
    """Returns the Markdown tables."""
    cells = recorded_cells()
    learned = [cell for cell in cells if cell.foretold is not None]
    lines = ["| after a third | holds in | width | wrong by |", "|---|---|---|---|"]
    for each in (foretell(cell, cells, THIRD) for cell in cells):
        said = f"{each.cell.backbone}: {each.cell.task}"
        lines.append(f"| {said} | {each.held} of {each.points} | {each.width:.2f} | {each.wrong:.2f} |")
    lines += ["", "| | gains: 5 %, 50 %, 95 % | holds in | width | wrong by | regret of one | of the best of three |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for epochs, said in PROBES.items():
        found = [foretell(cell, cells, epochs) for cell in learned]
        gains = ", ".join(f"{each:.2f}" for each in quantiles(cells, epochs))
        holds = over_tasks([each.rate for each in found])
        width, wrong = fmean(each.width for each in found), fmean(each.wrong for each in found)
        regrets = " | ".join(over_tasks([regret(cell, epochs, tried) for cell in learned]) for tried in (1, TRIED))
        lines.append(f"| {said} | {gains} | {holds} | {width:.2f} | {wrong:.2f} | {regrets} |")
    controls = [foretell(cell, cells, THIRD) for cell in cells if cell.foretold is None]
    held, points = sum(each.held for each in controls), sum(each.points for each in controls)
    interval = binomtest(held, points).proportion_ci()
    lines += ["", f"controls after a third: {held} of {points} ({interval.low:.2f}-{interval.high:.2f})"]
    return "\n".join(lines)


def main() -> None:
    print(report())


if __name__ == "__main__":
    main()
