"""Measures what a search that ends by itself saves and loses, on the recorded learning curves.

python -m tests.benchmarks.search.ends [SEEDS]

Each study draws TRIALS of a task's 128 recorded points, trained in full, and `search_end` looks at their last scores.
Beside it stands the search that simply has as many trials as the ended ones had on average over the tasks.
"""

import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd

from krona_tune.record.recorded_curves import LEARNED, curves
from krona_tune.study.search_end import LEAST_TRIALS, expected_gain

TRIALS = (12, 30)
LEAST_GAINS = (0.005, 0.01, 0.02, 0.03)


def recorded_scores() -> dict[str, np.ndarray]:
    """Returns the last score of each point, by task; a training without one has the task's worst."""
    found = curves()
    last = found[(found.kind == "search") & (found.epochs == found.epochs.max())]
    tables = {task: last[last.task == task].set_index("number").score.reindex(range(128)) for task in LEARNED}
    return {task: table.fillna(table.min()).to_numpy() for task, table in tables.items()}


def ended_after(scores: np.ndarray, least: float) -> int:
    """Returns after how many of these trials, in their order, the search ends."""
    for count in range(LEAST_TRIALS, len(scores)):
        gain = expected_gain(sorted(scores[:count], reverse=True), len(scores) - count)
        if gain is not None and gain < least:
            return count
    return len(scores)


def studies(seeds: int) -> Iterator[tuple[str, int, float, int, float, float]]:
    """Yields task, trials asked for, least gain, trials run, and what the rest would have gained in score and spans."""
    for task, scores in recorded_scores().items():
        span = scores.max() - np.median(scores)
        for asked in TRIALS:
            for seed in range(seeds):
                drawn = np.random.default_rng(seed).permutation(scores)[:asked]
                for least in LEAST_GAINS:
                    run = ended_after(drawn, least)
                    lost = float(drawn.max() - drawn[:run].max())
                    yield task, asked, least, run, lost, lost / span


def fixed(asked: int, run: float, seeds: int) -> tuple[float, float]:
    """Returns what a search of `run` trials loses of one of `asked`, in score and spans, as a mean over the tasks."""
    lost = []
    for scores in recorded_scores().values():
        drawn = np.array([np.random.default_rng(seed).permutation(scores)[:asked] for seed in range(seeds)])
        each = (drawn.max(1) - drawn[:, : round(run)].max(1)).mean()
        lost.append((each, each / (scores.max() - np.median(scores))))
    score, spans = np.mean(lost, axis=0)
    return float(score), float(spans)


def table(seeds: int) -> pd.DataFrame:
    """Returns one row for each number of trials and least gain."""
    columns = ["task", "asked", "least_gain", "run", "lost", "spans"]
    by_task = pd.DataFrame(studies(seeds), columns=columns).groupby(["asked", "least_gain", "task"]).mean()
    found = by_task.groupby(["asked", "least_gain"]).mean()
    found["most_lost"] = by_task.lost.groupby(["asked", "least_gain"]).max()
    asked = found.index.get_level_values("asked")
    pairs = [fixed(int(trials), run, seeds) for trials, run in zip(asked, found.run, strict=True)]
    found["fixed_lost"], found["fixed_spans"] = zip(*pairs, strict=True)
    found.insert(0, "share", found.run / asked)
    return found


if __name__ == "__main__":
    print(table(int(sys.argv[1]) if len(sys.argv) > 1 else 300).to_string(float_format="{:.4f}".format))
