"""Measures what it is worth to a taught search that the judge is fitted at the points that teach.

python -m tests.benchmarks.search.replay.leak FIRST LAST

Each seed draws two tasks and halves the recorded points. The judge of both tasks is fitted at one half; what the other
tasks scored at the same half teaches, or what they scored at the other half, of equal size. The figure is the regret of
each task's first choice, as a share of its span: before any trial of its own, so that only teaching decides it. The
rows are written to `results/leak-FIRST-LAST.csv`.
"""

import random
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pandas as pd

from krona_tune.search.planning.earlier_study import EarlierStudy, shipped_curves
from krona_tune.search.searchers.surrogate import TransferSurrogate
from krona_tune.study.randomness import stream
from tests.benchmarks.search.replay.recorded import common_numbers, recorded_tasks, rungs, space
from tests.benchmarks.search.replay.run import RESULTS, tasks_of
from tests.benchmarks.search.replay.surrogate import surrogates

SAME, OTHER = "the judge's points", "the other half"
COLUMNS = ["seed", "task", "teachers", "regret"]
Numbers = frozenset[int]


def halves(seed: int) -> tuple[Numbers, Numbers]:
    """Returns the numbers of the recorded points in two halves, which the seed draws."""
    numbers = list(common_numbers(recorded_tasks().values()))
    random.Random(stream(seed, "halves")).shuffle(numbers)
    return frozenset(numbers[::2]), frozenset(numbers[1::2])


def taught_at(study: Collection[str], numbers: Numbers) -> EarlierStudy:
    """Returns the recorded curves of the tasks that are not in the study, at the points of these numbers alone."""
    found = shipped_curves(without=study)
    rows = tuple(row for row in found.rows if row.number in numbers)
    kept = {row.trial_id for row in rows}
    return replace(found, rows=rows, reports=tuple(each for each in found.reports if each.trial_id in kept))


def first_choices(seed: int) -> list[tuple[int, str, str, float]]:
    """Returns (seed, task, which points teach, regret of the first choice) of one study."""
    study, (judged, other) = tasks_of(seed), halves(seed)
    instances = surrogates({task: recorded_tasks()[task] for task in study}, seed, without=tuple(other))
    found: list[tuple[int, str, str, float]] = []
    for teachers, numbers in ((SAME, judged), (OTHER, other)):
        budgets = dict.fromkeys(study, rungs().total_examples)
        model = TransferSurrogate(space(), budgets, seed, [taught_at(study, numbers)])
        for task, each in instances.items():
            point = next(iter(model.suggest(task, 0))).point
            found.append((seed, task, teachers, (each.best - each.final(point)) / each.span))
    return found


def as_markdown(frame: pd.DataFrame) -> list[str]:
    """Returns the lines of a Markdown table: the mean regret over studies' tasks, and of each task."""
    means = frame.pivot_table(index="teachers", columns="task", values="regret", aggfunc="mean")
    every = frame.groupby("teachers").regret.mean()
    lines = [f"| teachers at | all | {' | '.join(means.columns)} |", "|---|---|" + "---|" * len(means.columns)]
    for teachers in dict.fromkeys(frame.teachers):
        of_tasks = " | ".join(f"{regret:.3f}" for regret in means.loc[teachers])
        lines.append(f"| {teachers} | {every[teachers]:.3f} | {of_tasks} |")
    return lines


def main(first: int, last: int, folder: Path = RESULTS) -> None:
    """Measures the seeds FIRST to LAST, writes the rows and prints their means."""
    rows = [row for seed in range(first, last + 1) for row in first_choices(seed)]
    found = pd.DataFrame(rows, columns=COLUMNS)
    found.to_csv(folder / f"leak-{first}-{last}.csv", index=False, float_format="%.5f")
    print("\n".join(as_markdown(found)))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
