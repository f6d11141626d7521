"""`python -m tests.benchmarks.search.tabular_plans [--seeds N]`: taught studies of so many trials, at equal cost.

The regret of a study of 5 to 40 trials a task that begins with a portfolio, as a share of what random proposals under
ASHA 1-3-9 have when they have cost as much: with true teachers, with shuffled ones and with those of the wrong sign.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tests.benchmarks.search.replay.recorded import Array, Recorded, recorded_tasks
from tests.benchmarks.search.tabular import REFERENCE, ROWS, coordinates, taught
from tests.benchmarks.search.tabular_proposals import shuffled, wrong_sign
from tests.benchmarks.search.tabular_ratios import ratio
from tests.benchmarks.search.tabular_study import Event, Setting, regrets, shown, simulate, winner
from tests.benchmarks.search.tabular_taught import portfolio_size

PLANS = (5, 10, 20, 30, 40)
TEACHERS: Mapping[str, Callable[[Setting], Setting]] = {
    "true": lambda setting: setting,
    "shuffled": shuffled,
    "wrong sign": wrong_sign,
}
ENOUGH = 100.0
"""A budget that no study of these spends."""


def study(
    trials: int, teachers: Callable[[Setting], Setting], tables: Mapping[str, Recorded], places: Array, seed: int
) -> list[tuple[float, float, float]]:
    """Returns for each task what a study costs, its regret, and that of the reference at the same cost."""
    found = []
    for task, table in tables.items():
        others = tuple(other for name, other in tables.items() if name != task)
        setting = Setting(task=task, seed=seed, teachers=others, coordinates=places)
        curves, lost = shown(table, seed), regrets(table)
        events = simulate(*taught(teachers=teachers, trials=trials)(setting), curves, ENOUGH)
        cost = events[-1].cost
        reference = simulate(*ROWS[REFERENCE](setting), curves, cost)
        found.append((cost, _regret(events, lost), _regret(reference, lost)))
    return found


def _regret(events: Sequence[Event], lost: Array) -> float:
    point = winner(events, ENOUGH)
    return 1.0 if point is None else float(lost[point])


def lines(tables: Mapping[str, Recorded], places: Array, seeds: Sequence[int]) -> list[str]:
    """Returns the Markdown table."""
    found = [f"| trials | portfolio | full trainings | {' | '.join(TEACHERS)} |", "|---|---|---|---|---|---|"]
    for trials in PLANS:
        results = {
            name: np.array([study(trials, teachers, tables, places, seed) for seed in seeds])
            for name, teachers in TEACHERS.items()
        }
        ratios = [ratio(each[..., 1], each[..., 2]) for each in results.values()]
        cells = " | ".join(f"{each.middle:.2f} ({each.low:.2f}-{each.high:.2f})" for each in ratios)
        found.append(f"| {trials} | {portfolio_size(trials)} | {results['true'][..., 0].mean():.1f} | {cells} |")
    return found


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--seeds", type=int, default=71, help="how many studies of each task")
    flags.add_argument("--first", type=int, default=0, help="the first seed")
    given = flags.parse_args()
    seeds = range(given.first, given.first + given.seeds)
    print("\n".join(lines(recorded_tasks(), coordinates(), seeds)))


if __name__ == "__main__":
    main()
