"""Compares what a search names by one seed for all trials, by a seed for each, and with leaders trained once more.

python -m tests.benchmarks.search.seeds

The twelve recorded points that were trained with four seeds on each of four tasks stand for a search: SEARCHED of them
are tried, and the one with the best score is named. Its regret is what its mean over the seeds that the search has not
seen loses against the best mean of the tried points, in the task's score.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

from krona_tune.record.recorded_curves import LEARNED, curves
from krona_tune.study.kinds import TrialKind

SEARCHED, LEADERS, DRAWS = 6, 2, 20_000
Table = npt.NDArray[np.float64]
Rule = Callable[[Table, np.random.Generator], tuple[int, set[int]]]
"""Returns which of the points (rows of scores by seed) is named, and the seeds of it that were seen."""


def one_seed(scores: Table, rng: np.random.Generator) -> tuple[int, set[int]]:
    """Names the best by the same seed for all."""
    seed = int(rng.integers(scores.shape[1]))
    return int(scores[:, seed].argmax()), {seed}


def a_seed_each(scores: Table, rng: np.random.Generator) -> tuple[int, set[int]]:
    """Names the best, each judged by a seed of its own."""
    seeds = rng.integers(scores.shape[1], size=len(scores))
    best = int(scores[np.arange(len(scores)), seeds].argmax())
    return best, {int(seeds[best])}


def leaders_again(scores: Table, rng: np.random.Generator) -> tuple[int, set[int]]:
    """Names the best by the same seed for all, after the leaders were trained with one seed more."""
    first, second = rng.choice(scores.shape[1], 2, replace=False)
    leaders = np.argsort(-scores[:, first])[:LEADERS]
    means = scores[leaders][:, [first, second]].mean(axis=1)
    return int(leaders[means.argmax()]), {int(first), int(second)}


RULES: dict[str, Rule] = {
    "one seed for all": one_seed, "a seed for each": a_seed_each, "the two leaders again": leaders_again,
}  # fmt: skip


def scores_of(recorded: pd.DataFrame, task: str) -> Table:
    """Returns the last scores of a task's repeated points, (points, seeds)."""
    last = recorded.sort_values("epochs").groupby(["task", "kind", "number", "seed"]).tail(1)
    own = last[last.task == task]
    again = own[own.kind == TrialKind.REPEAT].number.unique()
    tried = own[own.kind.isin([TrialKind.SEARCH, TrialKind.REPEAT]) & own.number.isin(again)]
    return tried.pivot_table(index="number", columns="seed", values="score").to_numpy()


def regret(scores: Table, rule: Rule, draws: int = DRAWS) -> float:
    """Returns the mean regret of what a rule names, over draws of the tried points and the seeds."""
    rng, lost = np.random.default_rng(5), []
    for _ in range(draws):
        tried = scores[rng.choice(len(scores), SEARCHED, replace=False)]
        named, seen = rule(tried, rng)
        unseen = [seed for seed in range(scores.shape[1]) if seed not in seen]
        lost.append(tried.mean(axis=1).max() - tried[named, unseen].mean())
    return float(np.mean(lost))


def deviations(scores: Table) -> tuple[float, float]:
    """Returns how much seeds differ: what they share for all points, and what is of a point and a seed alone."""
    shared = scores.mean(axis=0)
    rest = scores - shared - scores.mean(axis=1, keepdims=True) + scores.mean()
    freedom = (scores.shape[0] - 1) * (scores.shape[1] - 1)
    return float(shared.std(ddof=1)), float(np.sqrt((rest**2).sum() / freedom))


def main() -> None:
    """Prints a table: a row for each task."""
    recorded = curves()
    print(f"| task | seeds, all points alike | seeds, each point | {' | '.join(RULES)} |")
    print("|---" * (3 + len(RULES)) + "|")
    for task in LEARNED:
        scores = scores_of(recorded, task)
        both = [*deviations(scores), *(regret(scores, rule) for rule in RULES.values())]
        print(f"| {task} | {' | '.join(f'{value:.4f}' for value in both)} |")


if __name__ == "__main__":
    main()
