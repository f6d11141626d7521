"""Replays studies in which no point that teaches is judged: the judge is fitted at one half of the points, and what the
other tasks scored at the other half teaches.

python -m tests.benchmarks.search.replay.split FIRST LAST

Each seed draws two tasks and the halves, as in `leak`. Beside it stands the same search, taught at the judge's half:
what the leak is worth to it. The rows are written to `results/split-FIRST-LAST.parquet`, and the ratios to Ray's search
are printed.
"""

import sys
from collections.abc import Collection, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import pandas as pd

from krona_tune.search.planning.earlier_study import EarlierStudy
from tests.benchmarks.search.replay.leak import halves, taught_at
from tests.benchmarks.search.replay.recorded import recorded_tasks
from tests.benchmarks.search.replay.rivals import FULL, REFERENCE, RIVALS, TAUGHT, MakeAll, by_taught_points
from tests.benchmarks.search.replay.run import COLUMNS, RESULTS, Row, replayed, report, tasks_of
from tests.benchmarks.search.replay.surrogate import Surrogate, surrogates

LEAKING = "krona_tune, the default, taught where it is judged"


def elsewhere(study: Collection[str], seed: int) -> EarlierStudy:
    """Returns what the other tasks scored at the half of the points that does not judge."""
    return taught_at(study, halves(seed)[1])


def where_judged(study: Collection[str], seed: int) -> EarlierStudy:
    """Returns what the other tasks scored at the half of the points that judges."""
    return taught_at(study, halves(seed)[0])


SEARCHES: dict[str, MakeAll] = {
    **{name: RIVALS[name] for name in (REFERENCE, FULL, "random + ASHA")},
    TAUGHT: by_taught_points(elsewhere),
    LEAKING: by_taught_points(where_judged),
}


def instances(seed: int) -> dict[str, Surrogate]:
    """Returns the tasks of a study, whose judge is fitted at one half of the points."""
    of_study = {task: recorded_tasks()[task] for task in tasks_of(seed)}
    return surrogates(of_study, seed, without=tuple(halves(seed)[1]))


def one_study(name: str, seed: int) -> list[Row]:
    """Returns the rows of one search of one study."""
    return replayed(name, SEARCHES[name], seed, instances(seed))


def every_row(seeds: Sequence[int]) -> list[Row]:
    """Returns the rows of all searches of these seeds."""
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        jobs = [pool.submit(one_study, name, seed) for seed, name in product(seeds, SEARCHES)]
        return [row for job in jobs for row in job.result()]


def main(first: int, last: int, folder: Path = RESULTS) -> None:
    """Replays the seeds FIRST to LAST, writes the rows and prints the tables."""
    found = pd.DataFrame(every_row(range(first, last + 1)), columns=COLUMNS)
    found.to_parquet(folder / f"split-{first}-{last}.parquet", index=False)
    report(found)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
