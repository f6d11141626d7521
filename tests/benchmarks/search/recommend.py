"""`python -m tests.benchmarks.search.recommend`: what a recommendation is worth on a task that teaches nothing.

Each task in turn is left out. The first point of the others is what is recommended; its regret is in spans, the best
point less the middle one. Each of the task's points has an interval foretold by the others: in how many it holds, with
the binomial interval over points and t over tasks, and its mean width over that of 90 % of the task's points. Controls
are tasks that the encoder hardly learns, all four others teach. What a probe adds is in
`tests.benchmarks.search.probed_trainings`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

import numpy as np
from scipy.stats import binomtest, t

from krona_tune.record.recorded_curves import CONSTANT, LEARNED, curves
from krona_tune.search.planning.earlier_study import shipped_curves
from krona_tune.search.planning.expected_score import (
    BEST,
    COVERAGE,
    Array,
    RecordedShares,
    recorded_shares,
)
from krona_tune.search.planning.teaching import by_mean_score

CONTROLS = {"cola": 0.0, "mrpc": 0.758444, "rte": 0.471014}
"""Tasks that the encoder hardly learns, with the score of the best constant answer."""
TOP = 13
"""The tenth of the points that the others find best."""
LAST_EPOCH = 9


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """What the others foretell of a task: the regret of their first point in spans, its share beside what is expected
    of it, in how many of the points the interval holds, of how many, in which share of the others' best, and its mean
    width over that of the points."""

    task: str
    regret: float
    share: float
    expected: float
    held: int
    points: int
    held_of_best: float
    width: float


def left_out(task: str) -> LeftOut:
    """Returns what the other recorded tasks foretell of one."""
    own, curves_of_others = recorded_shares(shipped_curves()), shipped_curves(without=[task])
    others, shares = recorded_shares(curves_of_others), own.shares[:, own.tasks.index(task)]
    first = by_mean_score(curves_of_others)[0]
    number = next(row.number for row in curves_of_others.rows if row.params == first)
    held, widths = in_intervals(others, others.numbers, shares), _widths(others)
    chosen = float(shares[others.numbers.index(number)])
    best = np.argsort(-others.means, kind="stable")[:TOP]
    return LeftOut(
        task=task,
        regret=float((shares.max() - chosen) / (shares.max() - np.median(shares))),
        share=chosen,
        expected=others.expected(number).score,
        held=int(held.sum()),
        points=len(held),
        held_of_best=float(held[best].mean()),
        width=fmean(widths) / _spread(shares),
    )


def _spread(shares: Array) -> float:
    """Returns the width of 90 % of a task's points."""
    return float(np.quantile(shares, (1 + COVERAGE) / 2) - np.quantile(shares, (1 - COVERAGE) / 2))


def control(task: str) -> tuple[int, int]:
    """Returns in how many of a control's points the interval of the learned tasks holds, and of how many."""
    table = curves()
    rows = table[(table.task == task) & (table.kind == "search") & (table.epochs.round() == LAST_EPOCH)]
    shares = (rows.score.to_numpy() - CONTROLS[task]) / (BEST - CONTROLS[task])
    held = in_intervals(recorded_shares(shipped_curves()), rows.number.tolist(), shares)
    return int(held.sum()), len(held)


def in_intervals(teachers: RecordedShares, numbers: Sequence[int], shares: Array) -> Array:
    """Returns for each point whether its share lies in the interval (n,)."""
    found = [teachers.expected(number) for number in numbers]
    return np.array([each.low <= share <= each.high for each, share in zip(found, shares, strict=True)])


def _widths(teachers: RecordedShares) -> list[float]:
    return [each.high - each.low for each in map(teachers.expected, teachers.numbers)]


def over_tasks(values: Sequence[float]) -> str:
    """Returns the mean with its 95 % interval by Student's t over tasks."""
    reach = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / sqrt(len(values))
    return f"{fmean(values):.2f} ({fmean(values) - reach:.2f} to {fmean(values) + reach:.2f})"


def report(found: Sequence[LeftOut]) -> str:
    """Returns the Markdown table."""
    lines = [
        "| left out | regret, spans | its share: seen, expected | holds in | of the others' best tenth | width |",
        "|---|---|---|---|---|---|",
    ]
    for each in found:
        interval = binomtest(each.held, each.points).proportion_ci()
        holds = f"{each.held} of {each.points} ({interval.low:.2f}-{interval.high:.2f})"
        seen = f"{each.share:.2f}, {each.expected:.2f}"
        lines.append(
            f"| {each.task} | {each.regret:.2f} | {seen} | {holds} | {each.held_of_best:.2f} | {each.width:.2f} |"
        )
    held, points = sum(each.held for each in found), sum(each.points for each in found)
    whole = binomtest(held, points).proportion_ci()
    regrets, widths = [each.regret for each in found], [each.width for each in found]
    lines += [
        "",
        f"regret {over_tasks(regrets)}, width {over_tasks(widths)}, by t over tasks",
        f"holds in {held / points:.2f} ({whole.low:.2f}-{whole.high:.2f} over points), "
        f"{over_tasks([each.held / each.points for each in found])} over tasks",
    ]
    lines += [f"control {task}: holds in {inside} of {of}" for task in CONTROLS for inside, of in [control(task)]]
    return "\n".join(lines)


def main() -> None:
    assert set(CONSTANT) == set(LEARNED)
    print(report([left_out(task) for task in LEARNED]))


if __name__ == "__main__":
    main()
