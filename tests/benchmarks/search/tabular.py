"""`python -m tests.benchmarks.search.tabular`: compares searches and stopping rules on the recorded curves themselves.

python -m tests.benchmarks.search.tabular [--seeds N] [--first SEED] [--stopped-too] [--rows NAME…]

A search chooses only among a task's recorded points, and the other tasks teach it. What a training shows is what was
recorded and the deviation of a repeated seed; what a point is worth is its recorded score after the last epoch. Two
workers a task, starts cost 1 % of a full training, and budgets count epochs. Regrets are in spans: the best point less
the middle one. Intervals are over seeds, and t's over the tasks.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np

from tests.benchmarks.search.replay.recorded import Array, Recorded, features, recorded_tasks
from tests.benchmarks.search.tabular_proposals import (
    MakeProposals,
    by_chance,
    by_mean,
    portfolio_first,
    shuffled,
    wrong_sign,
)
from tests.benchmarks.search.tabular_ratios import Regrets, gap_lines, ratio_lines, task_lines
from tests.benchmarks.search.tabular_stops import MakeStop, asha, forecast, in_full
from tests.benchmarks.search.tabular_study import (
    Continues,
    Propose,
    Setting,
    regrets,
    shown,
    simulate,
    tried,
    winner,
)
from tests.benchmarks.search.tabular_taught import Taught
from tests.benchmarks.search.tabular_tpe import by_tpe

BUDGETS = (2.0, 5.0, 10.0, 20.0, 40.0)
SHOWN_BY_TASK = (5.0, 10.0, 20.0)
REFERENCE = "random, ASHA 1-3-9"


Search = tuple[Propose, Continues]
Make = Callable[[Setting], Search]


def plain(proposals: MakeProposals, stop: MakeStop = in_full) -> Make:
    """Returns a search that proposes and stops by two rules that know nothing of each other."""
    return lambda setting: (proposals(setting), stop(setting))


def taught(
    untaught: MakeProposals = by_chance,
    *,
    teachers: Callable[[Setting], Setting] = lambda setting: setting,
    trials: int = 10**6,
    switch: bool = True,
) -> Make:
    """Returns a search that begins with a portfolio; `teachers` changes what teaches."""

    def make(setting: Setting) -> Search:
        search = Taught(teachers(setting), untaught=untaught(setting), stop=ASHA(setting), trials=trials, switch=switch)
        return search.propose, search.continues

    return make


ASHA, LATER, HALF = asha((1, 3)), asha((3,)), asha((3, 5), 2)
FORECAST = forecast((3, 5), chance=0.02, teachers_weigh=10)
ROWS = {
    REFERENCE: plain(by_chance, ASHA),
    "random, full": plain(by_chance),
    "random, ASHA 3-9": plain(by_chance, LATER),
    "random, the upper half after 3 and 5": plain(by_chance, HALF),
    "random, forecast": plain(by_chance, FORECAST),
    "portfolio, full": plain(portfolio_first),
    "portfolio, ASHA 1-3-9": plain(portfolio_first, ASHA),
    "order by others' mean, full": plain(by_mean),
    "order by others' mean, ASHA 3-9": plain(by_mean, LATER),
    "order by others' mean, forecast": plain(by_mean, FORECAST),
    "portfolio, forecast": plain(portfolio_first, FORECAST),
    "portfolio, the upper half after 3 and 5": plain(portfolio_first, HALF),
    "taught, then random": taught(),
    "the same, shuffled": taught(teachers=shuffled),
    "the same, wrong sign": taught(teachers=wrong_sign),
    "the same, wrong sign, no switch": taught(teachers=wrong_sign, switch=False),
}


SLOW = {
    "TPE, ASHA 1-3-9": plain(by_tpe, ASHA),
    "taught, then TPE": taught(by_tpe),
    "taught, then TPE, shuffled": taught(by_tpe, teachers=shuffled),
    "taught, then TPE, wrong sign": taught(by_tpe, teachers=wrong_sign),
}
"""Searches that take a second a study; they are run if they are named."""


@cache
def coordinates() -> Array:
    """Returns the recorded points' coordinates (n, d), each between 0 and 1."""
    found = np.array([features(point) for point in next(iter(recorded_tasks().values())).points])
    low, high = found.min(axis=0), found.max(axis=0)
    scaled: Array = (found - low)[:, high > low] / (high - low)[high > low]
    return scaled


def measure(
    make: Make,
    tables: Mapping[str, Recorded],
    places: Array,
    seeds: Sequence[int],
    budgets: Sequence[float] = BUDGETS,
    *,
    teachers: Mapping[str, Recorded] | None = None,
    stopped_too: bool = False,
) -> Regrets:
    """Returns a search's regrets on each task, where the other tasks teach.

    Args:
        teachers: the tables that teach, of the same points; those of the tasks themselves without it. A task's own
            table is left out of either.
        stopped_too: a trial that was stopped can be named, too.
    """
    named, best = np.empty((2, len(seeds), len(tables), len(budgets)))
    for column, (task, table) in enumerate(tables.items()):
        others = tuple(other for name, other in (teachers or tables).items() if name != task)
        lost = regrets(table)
        for line, seed in enumerate(seeds):
            setting = Setting(task=task, seed=seed, teachers=others, coordinates=places)
            events = simulate(*make(setting), shown(table, seed), max(budgets))
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
    flags.add_argument(
        "--rows",
        nargs="*",
        choices=[*ROWS, *SLOW, []],
        default=[],
        help="which searches; all but the slow ones without",
    )
    flags.add_argument("--stopped-too", action="store_true", help="a trial that was stopped can be named, too")
    given = flags.parse_args()
    seeds = range(given.first, given.first + given.seeds)
    chosen = [REFERENCE, *(name for name in given.rows or ROWS if name != REFERENCE)]
    tables = recorded_tasks()
    found = {
        name: measure((ROWS | SLOW)[name], tables, coordinates(), seeds, stopped_too=given.stopped_too)
        for name in chosen
    }
    print(report(found, tuple(tables)))


if __name__ == "__main__":
    main()
