"""Replays searches for the best score at every size, and compares the volume under their fronts at equal cost.

python -m tests.benchmarks.search.replay.every_size FIRST LAST
python -m tests.benchmarks.search.replay.every_size FIRST LAST table    # the tables of stored rows

Each seed makes a study of two tasks, as in `split`: no point that teaches is judged. A front's volume is the integral,
over the logarithm of the number of parameters, of the best expected score among the trials that are no larger and were
trained to the end, above the score of a middle point; it is a share of the volume under the best of all even draws.
Written down before the seeds from 100 on were run: what counts is the share of the cost of the rule before, BEFORE, at
which the default reaches the mean volume that BEFORE has after 20 and after 40 trainings; the aim is .6.

The rows are written to `results/every-size-FIRST-LAST.parquet`.
"""

import random
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from math import log2
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from krona_tune.record.recorded_curves import LEARNED
from krona_tune.search.planning.earlier_study import EarlierStudy
from krona_tune.search.planning.teaching import read_teaching
from krona_tune.search.searchers.surrogate import TransferSurrogate
from krona_tune.search.searchers.taught_points import TaughtPoints
from krona_tune.study.request.search_spec import SearchSpec
from krona_tune.study.result import Report, TrialResult
from tests.benchmarks.search.curves import Seen
from tests.benchmarks.search.engine import Event, Strategy, Trial, is_over
from tests.benchmarks.search.replay.engine import simulate_study
from tests.benchmarks.search.replay.recorded import rungs, space
from tests.benchmarks.search.replay.rivals import (
    FULL,
    STARTUP,
    TRIALS,
    MakeAll,
    Modelled,
    Teacher,
    by_task,
    rows_by_task,
    setting_of,
    with_shuffled_points,
)
from tests.benchmarks.search.replay.run import RESULTS, WORKERS
from tests.benchmarks.search.replay.split import elsewhere, instances
from tests.benchmarks.search.replay.surrogate import DRAWS, Surrogate
from tests.benchmarks.search.strategies import ByChance, Ours, RaysOwn, Setting

BUDGETS = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40)
REACHED = (10, 20, 40)
"""The trainings after which the volume of BEFORE is to be reached."""
RESAMPLES = 2000
COLUMNS = ["search", "seed", "task", "budget", "volume"]
Row = tuple[str, int, str, int, float]
DEFAULT, BEFORE = "krona_tune, the default", "krona_tune, before"
RAYS = "Ray's OptunaSearch, score and size"


def shuffled(study: Collection[str], seed: int) -> EarlierStudy:
    """Returns what teaches in `split`, with the points of each task in places of one another."""
    return with_shuffled_points(elsewhere(study, seed), seed)


def upside_down(study: Collection[str], seed: int) -> EarlierStudy:
    """Returns what teaches in `split`, with each score as far below the middle as it was above."""
    found, rows, reports = elsewhere(study, seed), list[TrialResult](), list[Report]()
    for own in rows_by_task(found):
        known = [row.score for row in own if row.score is not None]
        both = min(known) + max(known)
        rows += [row if row.score is None else replace(row, score=both - row.score) for row in own]
        trials = {row.trial_id for row in own}
        reports += [replace(each, score=both - each.score) for each in found.reports if each.trial_id in trials]
    return replace(found, rows=tuple(rows), reports=tuple(reports))


def by_model(*, points: Teacher | None = None, trials: Teacher | None = None) -> MakeAll:
    """Returns a maker of krona_tune's search at every size by the model of the study.

    Args:
        points: returns the curves that teach the first points, as in a new study.
        trials: returns the curves that the model learns from, as with `--warm-start`.
    """

    def made(seed: int, chances: Mapping[str, float]) -> dict[str, Strategy]:
        budgets = dict.fromkeys(chances, rungs().total_examples)
        earlier = [trials(chances, seed)] if trials else []
        model = TransferSurrogate(space(), budgets, seed, earlier, every_size=True)
        teachers = [points(chances, seed)] if points else []
        first = read_teaching(space(), without=LEARNED, contributed=teachers, every_size=True).points
        asked = SearchSpec(trials=TRIALS, taught=True, objective="pareto")
        return {
            task: Modelled(
                setting_of(task, seed, chance),
                task=task,
                startup=STARTUP,
                surrogate=model,
                every_size=True,
                tries_largest=True,
                taught=TaughtPoints(task, space(), first, asked) if points else None,
            )
            for task, chance in chances.items()
        }

    return made


@dataclass
class RaysFront(RaysOwn):
    """`OptunaSearch` with two metrics, the score and the number of parameters; each training runs to its end, since
    neither it nor `ASHAScheduler` stops trials by two metrics."""

    def heard(self, trial: Trial, seen: Seen) -> bool:
        if not is_over(trial, self.schedule):
            return True
        score = self.setting.chance if seen.diverged else seen.score
        told = {"score": score, "size": self.setting.space.parameters(trial.params)}
        self._search.on_trial_complete(trial.trial_id, result={**told, "training_iteration": len(trial.seen)})
        return False


def rays_front(setting: Setting) -> Strategy:
    """Returns Ray's search for the best score at every size."""
    return RaysFront(setting, metrics=("score", "size"), modes=("max", "min"), largest=_largest())


SEARCHES: dict[str, MakeAll] = {
    BEFORE: by_task(partial(Ours, startup=STARTUP, every_size=True)),
    DEFAULT: by_model(points=elsewhere),
    "the default, untaught": by_model(),
    "the default, taught by shuffled curves": by_model(points=shuffled),
    "the default, taught by the wrong sign": by_model(points=upside_down),
    "with a warm start": by_model(trials=elsewhere),
    "with a warm start of the wrong sign": by_model(trials=upside_down),
    FULL: by_task(ByChance),
    RAYS: by_task(rays_front),
}


@cache
def _sizes() -> npt.NDArray[np.float64]:
    """Returns log₂ of the parameters of the judge's even draws (DRAWS,)."""
    rng, of = random.Random(0), space()
    drawn = (of.draw_where(of.feasible, rng) for _ in range(DRAWS))
    return np.array([log2(of.parameters(point)) for point in drawn if point is not None])


def _largest() -> int:
    return round(2 ** float(_sizes().max()))


def volume(points: Iterable[tuple[float, float]], low: float, high: float, floor: float) -> float:
    """Returns the integral of the best score with no more than a size, above a floor, over sizes from low to high.

    Args:
        points: (size, score) of each point; one beyond the ends counts as if it was there.
    """
    found, best, at = 0.0, 0.0, low
    for size, score in sorted(points):
        if score - floor > best:
            reached = min(max(size, low), high)
            found += best * (reached - at)
            at, best = reached, score - floor
    return found + best * (high - at)


def volumes(each: Surrogate, events: Sequence[Event]) -> list[float]:
    """Returns the share of the best volume that a task's trials have within each of BUDGETS."""
    sizes, finals = _sizes(), each.finals[:DRAWS]
    ends = float(sizes.min()), float(sizes.max()), float(np.median(finals))
    whole = volume(zip(sizes, finals, strict=True), *ends)
    done = [
        (event.cost, log2(space().parameters(event.trial.params)), each.final(event.trial.params))
        for event in events
        if event.seen.examples >= rungs().total_examples and not event.seen.diverged
    ]
    within = ([(size, score) for cost, size, score in done if cost <= budget] for budget in BUDGETS)
    return [volume(points, *ends) / whole for points in within]


def one_study(name: str, seed: int) -> list[Row]:
    """Returns the rows of one search of one study."""
    tasks = instances(seed)
    worst = {task: float(np.nanmin(each.recorded.scores[:, -1])) for task, each in tasks.items()}
    events = simulate_study(SEARCHES[name](seed, worst), tasks, workers=WORKERS, budget=max(BUDGETS))
    found = {task: zip(BUDGETS, volumes(each, events[task]), strict=True) for task, each in tasks.items()}
    return [(name, seed, task, budget, share) for task, shares in found.items() for budget, share in shares]


def reached_at(curve: Sequence[float], share: float) -> float:
    """Returns the trainings after which a mean volume by BUDGETS reaches a share, between two of them in proportion;
    infinity if it does not."""
    budgets, rising = (0.0, *map(float, BUDGETS)), np.maximum.accumulate([0.0, *curve])
    return float(np.interp(share, rising, budgets)) if rising[-1] >= share else float("inf")


def cost_ratios(found: pd.DataFrame, name: str, after: int) -> tuple[float, float, float]:
    """Returns the share of BEFORE's cost at which a search reaches the mean volume of BEFORE after so many trainings,
    and its 95 % interval over resampled studies."""
    by_study = found.pivot_table(index=["search", "seed"], columns="budget", values="volume", aggfunc="mean")
    ours, before = by_study.loc[name].to_numpy(), by_study.loc[BEFORE].to_numpy()
    at, rng = BUDGETS.index(after), np.random.default_rng(0)

    def ratio(chosen: npt.NDArray[np.intp]) -> float:
        share = float(before[chosen].mean(axis=0)[at])
        return reached_at(ours[chosen].mean(axis=0).tolist(), share) / after

    every = np.arange(len(ours))
    drawn = [ratio(rng.choice(every, len(every))) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, (0.025, 0.975), method="closest_observation")
    return ratio(every), float(low), float(high)


def report(found: pd.DataFrame) -> None:
    """Prints the mean volumes, and the shares of BEFORE's cost, over studies and by task."""
    means = found.pivot_table(index="search", columns="budget", values="volume", aggfunc="mean")
    print(f"| volume after | {' | '.join(map(str, BUDGETS))} |\n|---|{'---|' * len(BUDGETS)}")
    for name in dict.fromkeys(found.search):
        print(f"| {name} | {' | '.join(f'{share:.3f}' for share in means.loc[name])} |")
    print(f"\n| cost, as a share | {' | '.join(map(str, REACHED))} |\n|---|{'---|' * len(REACHED)}")
    parts = {"all": found} | {str(task): own for task, own in found.groupby("task")}
    for name in dict.fromkeys(found.search):
        if name == BEFORE:
            continue
        for task, own in parts.items():
            cells = ["{:.2f} ({:.2f}-{:.2f})".format(*cost_ratios(own, name, after)) for after in REACHED]
            print(f"| {name}, {task} | {' | '.join(cells)} |")


def main(first: int, last: int, *, replays: bool = True, folder: Path = RESULTS) -> None:
    """Replays the seeds FIRST to LAST and writes the rows, or reads them, and prints the tables."""
    path = folder / f"every-size-{first}-{last}.parquet"
    if replays:
        pd.DataFrame(every_row(range(first, last + 1)), columns=COLUMNS).to_parquet(path, index=False)
    report(pd.read_parquet(path))


def every_row(seeds: Sequence[int]) -> list[Row]:
    """Returns the rows of all searches of these seeds."""
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        jobs = [pool.submit(one_study, name, seed) for seed, name in product(seeds, SEARCHES)]
        return [row for job in jobs for row in job.result()]


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), replays="table" not in sys.argv)
