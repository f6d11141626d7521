"""`python -m tests.benchmarks.finals.regret_bound [--studies N]`: the regret below which no choice can come.

`tests.benchmarks.finals.replay` has two aims: what is chosen is worse than the default in a share AIMED of all studies
at most, and its regret is a share of the winner's. Here chooses who knows every recorded seed of every configuration,
so how often each is worse than the default and what it loses on average, and not which seeds report. Printed is the
least regret that such a choice can have, tasks together, while it harms in no more than that share.

A choice that harms in a share h of the studies and has a regret r has r + L (h - AIMED) >= r - or less than r, if it
keeps the aim - for any price L >= 0. So the mean over studies of the least r + L h among the finalists, less L AIMED,
is a bound at each price (weak duality of linear programs), and the highest of them the best one.
"""

import argparse
from collections.abc import Mapping
from itertools import combinations

import numpy as np
import numpy.typing as npt

from krona_tune.study.finals import DEFAULT
from tests.benchmarks.curves.record import PACKAGED
from tests.benchmarks.finals.record import RESULTS
from tests.benchmarks.finals.replay import HARM, REPORTED, RecordedFinals, draw, read

AIMED = 0.01
PRICES = np.linspace(0.0, 5.0, 501)


def options(finals: RecordedFinals, studies: int) -> list[npt.NDArray[np.float64]]:
    """Returns for each study a row for each finalist: the share in which it harms, and its mean regret.

    Both are over all that REPORTED of the seeds report.
    """
    reports = list(combinations(finals.seeds, REPORTED))
    worths = {number: np.array([finals.worth(number, seeds) for seeds in reports]) for number in finals.rows}
    harms = {number: np.mean(worth < worths[DEFAULT] - HARM) for number, worth in worths.items()}
    found = []
    for study in draw(finals, studies):
        best = np.max([worths[number] for number in study.all], axis=0)
        found.append(np.array([(harms[number], np.mean(best - worths[number])) for number in study.all]))
    return found


def least_regret(tasks: Mapping[str, list[npt.NDArray[np.float64]]], aimed: float = AIMED) -> float:
    """Returns the regret below which no choice comes that harms in a share `aimed` of all studies at most.

    Args:
        tasks: by name, what `options` returns; each task has the same weight.
    """
    bounds = [
        np.mean([np.mean([np.min(rows @ (price, 1.0)) for rows in own]) for own in tasks.values()]) - price * aimed
        for price in PRICES
    ]
    return float(max(bounds))


def main() -> None:
    """Prints the least regret on each backbone."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--studies", type=int, default=1000, help="how many studies of each task")
    studies = flags.parse_args().studies
    for folder in [RESULTS, *sorted(path for path in RESULTS.iterdir() if path.is_dir())]:
        tasks = {path.stem: options(read(path), studies) for path in sorted(folder.glob("*.parquet"))}
        print(
            f"{PACKAGED if folder == RESULTS else folder.name}, {', '.join(tasks)}: {least_regret(tasks):.4f}, "
            f"and {least_regret(tasks, 1.0):.4f} where harm does not count"
        )


if __name__ == "__main__":
    main()
