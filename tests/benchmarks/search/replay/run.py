"""`python -m tests.benchmarks.search.replay`: compares searches on studies that are replayed from recorded curves.

python -m tests.benchmarks.search.replay look                # correlations, the forest's fidelity, the default
python -m tests.benchmarks.search.replay compare 0 20 [NAME…]  # rivals on the studies of these seeds; without names
                                                             # all of them, which needs `pip install syne-tune`
"""

import random
import sys
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from krona_tune.record.recorded_curves import curves
from krona_tune.study.randomness import stream
from tests.benchmarks.search.replay.engine import simulate_study
from tests.benchmarks.search.replay.portfolio import first_numbers
from tests.benchmarks.search.replay.recorded import recorded, recorded_tasks
from tests.benchmarks.search.replay.rivals import RIVALS
from tests.benchmarks.search.replay.surrogate import Surrogate, fidelity
from tests.benchmarks.search.table import RULES, winners

RESULTS = Path(__file__).parents[1] / "results"
BUDGETS = (5.0, 10.0, 20.0, 40.0)
WORKERS = 4
TASKS = 3
"""The number of tasks of a replayed study."""
LEAST = 1e-3
"""The least regret whose logarithm counts: less is no difference that a score shows."""


def look() -> None:
    """Prints what is to be known before any comparison."""
    found = curves()
    every = {task: recorded(found, task) for task in sorted(found.task.unique())}
    last = pd.DataFrame({task: each.scores[:, -1] for task, each in every.items()})
    print("rank correlation of the last scores between tasks\n", last.corr("spearman").round(2).to_string())
    print("rank correlation between epochs 1, 3 and the last")
    for task, each in every.items():
        pairs = [spearmanr(each.scores[:, e - 1], each.scores[:, -1], nan_policy="omit").statistic for e in (1, 3)]
        fits = fidelity(each)
        print(
            f"{task:6} {pairs[0]:.2f} {pairs[1]:.2f}   forest: rank correlation {fits.rank_correlation:.2f}, residual "
            f"{fits.residual:.3f}, seeds {fits.seeds:.3f}, {'accepted' if fits.accepted else 'not accepted'}"
        )


def tasks_of(seed: int) -> list[str]:
    """Returns the tasks of a replayed study, which its seed draws; at least one is left for a search to learn from."""
    every = sorted(recorded_tasks())
    return sorted(random.Random(stream(seed, "tasks")).sample(every, min(TASKS, len(every) - 1)))


def one_study(name: str, seed: int) -> list[tuple[str, int, str, float, str, float]]:
    """Returns (rival, seed, task, budget, rule, regret as a share of the span) of one replayed study."""
    warnings.simplefilter("ignore")  # about empty rungs and experimental parts of Optuna
    study = tasks_of(seed)
    instances = {task: Surrogate(recorded_tasks()[task], seed, first_numbers(frozenset(study))) for task in study}
    worst = {task: float(np.nanmin(each.recorded.scores[:, -1])) for task, each in instances.items()}
    events = simulate_study(RIVALS[name](seed, worst), instances, workers=WORKERS, budget=max(BUDGETS))
    return [
        (name, seed, task, budget, rule, (each.best - each.final(winner.trial.params)) / each.span)
        for (task, each), budget in product(instances.items(), BUDGETS)
        for rule, winner in winners(events[task], budget).items()
    ]


def compare(seeds: Sequence[int], names: Sequence[str]) -> None:
    """Replays the rivals on every seed and prints the mean regrets; writes all of them if no rival is left out."""
    began = time.monotonic()
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        jobs = [pool.submit(one_study, name, seed) for seed, name in product(seeds, names)]
        found = [row for job in jobs for row in job.result()]
    frame = pd.DataFrame(found, columns=["rival", "seed", "task", "budget", "rule", "regret"])
    if set(names) == set(RIVALS):
        frame.to_csv(RESULTS / f"replay-{seeds[0]}-{seeds[-1]}.csv", index=False, float_format="%.5f")
    print(summary(frame), f"\n{len(seeds)} studies, {time.monotonic() - began:.0f} s")


def summary(frame: pd.DataFrame) -> str:
    """Returns the mean regret, and the study-mean logarithm's ratio to Ray's own search with its 95 % interval."""
    rule = next(iter(RULES))
    own = frame[frame.rule == rule].assign(log=lambda rows: np.log(np.maximum(rows.regret, LEAST)))
    logs = own.pivot_table(index=["budget", "seed"], columns="rival", values="log", aggfunc="mean")
    means = own.pivot_table(index="rival", columns="budget", values="regret", aggfunc="mean")
    reference = "Ray's OptunaSearch + ASHA"
    lines = [f"{'':30}" + "".join(f"{budget:>26g}" for budget in BUDGETS)]
    for name in dict.fromkeys(own.rival):
        cells = []
        for budget in BUDGETS:
            cell = f"{means.loc[name, budget]:.3f}"
            if reference in logs.columns and name != reference:
                difference = (logs.loc[budget][name] - logs.loc[budget][reference]).to_numpy()
                spread = 1.96 * difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else np.nan
                low, middle, high = np.exp(difference.mean() + np.array([-spread, 0, spread]))
                cell += f" ({middle:.2f}, {low:.2f}-{high:.2f})"
            cells.append(f"{cell:>26}")
        lines.append(f"{name:30}" + "".join(cells))
    return "\n".join(lines)


def main() -> None:
    """Does what the words after the program's name ask for."""
    if sys.argv[1:2] == ["compare"]:
        compare(range(int(sys.argv[2]), int(sys.argv[3])), sys.argv[4:] or list(RIVALS))
    else:
        look()
