"""`python -m tests.benchmarks.search.tabular`: compares searches and stopping rules on the recorded curves themselves.

python -m tests.benchmarks.search.tabular [--seeds N] [--first SEED] [--stopped-too] [--rows NAME…]

A search chooses only among a task's recorded points, and the other tasks teach it. What a training shows is what was
recorded and the deviation of a repeated seed; what a point is worth is its recorded score after the last epoch. Two
workers a task, starts cost 1 % of a full training, and budgets count epochs. Regrets are in spans: the best point less
the middle one. Intervals are over seeds, and t's over the tasks.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from tests.benchmarks.search.replay.recorded import Array, Recorded, features, recorded_tasks
from tests.benchmarks.search.tabular_proposals import MakeProposals, by_chance, by_mean, portfolio_first
from tests.benchmarks.search.tabular_ratios import Regrets, gap_lines, ratio_lines, task_lines
from tests.benchmarks.search.tabular_stops import MakeStop, asha, in_full
from tests.benchmarks.search.tabular_study import Setting, regrets, shown, simulate, tried, winner

BUDGETS = (2.0, 5.0, 10.0, 20.0, 40.0)
SHOWN_BY_TASK = (5.0, 10.0, 20.0)
REFERENCE = "random, ASHA 1-3-9"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A search of the table."""

    proposals: MakeProposals
    stop: MakeStop = in_full


ASHA, LATER = asha((1, 3)), asha((3,))
ROWS = {
    REFERENCE: Row(proposals=by_chance, stop=ASHA),
    "random, full": Row(proposals=by_chance),
    "random, ASHA 3-9": Row(proposals=by_chance, stop=LATER),
    "portfolio, full": Row(proposals=portfolio_first),
    "portfolio, ASHA 1-3-9": Row(proposals=portfolio_first, stop=ASHA),
    "order by others' mean, full": Row(proposals=by_mean),
    "order by others' mean, ASHA 3-9": Row(proposals=by_mean, stop=LATER),
}


@cache
def coordinates() -> Array:
    """Returns the recorded points' coordinates (n, d), each between 0 and 1."""
    found = np.array([features(point) for point in next(iter(recorded_tasks().values())).points])
    low, high = found.min(axis=0), found.max(axis=0)
    scaled: Array = (found - low)[:, high > low] / (high - low)[high > low]
    return scaled


def measure(
    row: Row,
    tables: Mapping[str, Recorded],
    places: Array,
    seeds: Sequence[int],
    budgets: Sequence[float] = BUDGETS,
    *,
    stopped_too: bool = False,
) -> Regrets:
    """Returns a search's regrets on each task, where the other tasks teach; `stopped_too`: a trial that was stopped can
    be named, too."""
    named, best = np.empty((2, len(seeds), len(tables), len(budgets)))
    for column, (task, table) in enumerate(tables.items()):
        teachers = tuple(other for name, other in tables.items() if name != task)
        lost = regrets(table)
        for line, seed in enumerate(seeds):
            setting = Setting(task=task, seed=seed, teachers=teachers, coordinates=places)
            events = simulate(row.proposals(setting), row.stop(setting), shown(table, seed), max(budgets))
            for at, budget in enumerate(budgets):
                point = winner(events, budget, stopped_too=stopped_too)
                named[line, column, at] = 1.0 if point is None else lost[point]
                best[line, column, at] = min((lost[each] for each in tried(events, budget)), default=1.0)
    return Regrets(named=named, tried=best)


def report(found: Mapping[str, Regrets], tasks: Sequence[str]) -> str:
    """Returns the tables of a comparison."""
    seeds = len(next(iter(found.values())).named)
    return "\n".join(
        [
            f"Regret's ratio to {REFERENCE}, {seeds} seeds × {len(tasks)} tasks, by full trainings a task",
            "",
            *ratio_lines(found, REFERENCE, BUDGETS),
            "",
            *task_lines(found, REFERENCE, tasks, BUDGETS, SHOWN_BY_TASK),
            "",
            *gap_lines(found, BUDGETS),
        ]
    )


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--seeds", type=int, default=71, help="how many studies of each task")
    flags.add_argument("--first", type=int, default=0, help="the first seed")
    flags.add_argument("--rows", nargs="*", choices=[*ROWS, []], default=[], help="which searches; all without")
    flags.add_argument("--stopped-too", action="store_true", help="a trial that was stopped can be named, too")
    given = flags.parse_args()
    seeds = range(given.first, given.first + given.seeds)
    chosen = [REFERENCE, *(name for name in given.rows or ROWS if name != REFERENCE)]
    tables = recorded_tasks()
    found = {name: measure(ROWS[name], tables, coordinates(), seeds, stopped_too=given.stopped_too) for name in chosen}
    print(report(found, tuple(tables)))


if __name__ == "__main__":
    main()
