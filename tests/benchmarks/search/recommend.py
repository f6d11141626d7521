"""`python -m tests.benchmarks.search.recommend`: what a recommendation is worth on a task that teaches nothing.

Each task in turn is left out. The first point of the others is what is recommended; its regret is in spans, the best
point less the middle one. Each of the task's points has an interval foretold by the others: in how many it holds, with
the binomial interval over points and t over tasks, and its mean width over that of 90 % of the task's points. Controls
are tasks that the encoder hardly learns, all four others teach. A probe trains the others' first three points for a few
epochs; how its scores and the others' mean foretell the end is regressed on the others, each of them left out in turn,
and its interval reaches as far as nine of ten of what this misses there.
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
    LEAST,
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


PROBED = 3
"""The points that a probe trains."""
PROBES = {0: "one epoch", 1: "three epochs"}
"""After which rung of the recorded curves a probe ends, in words."""


def probe(task: str, rung: int) -> tuple[float, float, float]:
    """Returns the regret in spans of the point that a probe names, in which share of the points its interval holds,
    and its width over that of the points."""
    own, early = recorded_shares(shipped_curves()), _early_shares(rung)
    at = own.tasks.index(task)
    others = [each for each in range(len(own.tasks)) if each != at]
    seen, end = [], []
    for each in others:
        rest = [other for other in others if other != each]
        seen.append(_regressors(own.shares[:, rest].mean(axis=1), early[:, each]))
        end.append(own.shares[:, each])
    weights = np.linalg.lstsq(np.vstack(seen), np.concatenate(end), rcond=None)[0]
    left = np.array([y - x @ weights for x, y in zip(seen, end, strict=True)]).T
    reach = float(np.quantile(np.abs(left), COVERAGE))
    mean, shares = own.shares[:, others].mean(axis=1), own.shares[:, at]
    foretold = _regressors(mean, early[:, at]) @ weights
    low, high = np.maximum(foretold - reach, LEAST), np.minimum(foretold + reach, BEST)
    tried = np.argsort(-mean, kind="stable")[:PROBED]
    chosen = tried[foretold[tried].argmax()]
    return (
        float((shares.max() - shares[chosen]) / (shares.max() - np.median(shares))),
        float(((shares >= low) & (shares <= high)).mean()),
        float((high - low).mean() / _spread(shares)),
    )


def _regressors(mean: Array, early: Array) -> Array:
    """Returns (n, 4): one, the others' mean share (n,), the early share (n,), and their product."""
    return np.column_stack([np.ones_like(mean), mean, early, mean * early])


def _early_shares(rung: int) -> Array:
    """Returns the shares (n, k) of the points after a rung."""
    found = shipped_curves()
    own, numbers = recorded_shares(found), {row.trial_id: row.number for row in found.rows}
    shares = np.empty(own.shares.shape)
    for each in found.reports:
        if each.rung == rung:
            share = (each.score - CONSTANT[each.task]) / (BEST - CONSTANT[each.task])
            shares[own.numbers.index(numbers[each.trial_id]), own.tasks.index(each.task)] = share
    return shares


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
    for rung, said in PROBES.items():
        regret, kept, width = (fmean(each) for each in zip(*(probe(task, rung) for task in LEARNED), strict=True))
        lines.append(f"probe of {said}: regret {regret:.2f}, holds in {kept:.2f}, width {width:.2f}")
    return "\n".join(lines)


def main() -> None:
    assert set(CONSTANT) == set(LEARNED)
    print(report([left_out(task) for task in LEARNED]))


if __name__ == "__main__":
    main()
