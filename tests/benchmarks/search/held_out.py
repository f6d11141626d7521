"""`python -m tests.benchmarks.search.held_out [--seeds N]`: what the packaged curves teach about tasks outside them.

The tasks are those of `tests.benchmarks.curves.held_out_tasks`, with points of the same design and the packaged
encoder. All four packaged tasks teach, as they do in a study of one's own data; a search chooses among the recorded
points of a further task, as in `tests.benchmarks.search.tabular`.

Written before any of it was trained. The figure that counts is the regret of the taught default (its points first, then
even draws) divided by that of random points under ASHA 1-3-9, after 5 and after 10 full trainings, as the mean over
the tasks; aimed at is .60. Beside it the regret of the point that is recommended, at most .25 spans, and how often the
interval of a point's score holds, 85 to 95 %. Controls are the same teachers with their points shuffled, and of the
wrong sign. A task on which no point passes the constant answer by LEARNED_BY is named and left out. The deviations of
repeated seeds are those of Newsgroups, whose score is an accuracy, too. A diverged training is worth the constant
answer. Added when 32 points were recorded: in how many of the best eighth, by the teachers, the interval holds.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import ceil

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from krona_tune.record.recorded_curves import curves
from krona_tune.search.planning.earlier_study import shipped_curves
from krona_tune.search.planning.expected_score import BEST, RecordedShares, recorded_shares
from tests.benchmarks.curves.held_out_tasks import NAMES
from tests.benchmarks.curves.record import FURTHER, KNOBS, OTHERS, PACKAGED
from tests.benchmarks.search.other_backbones import (
    BUDGETS,
    COMPARED,
    CONTROLS,
    LEARNED_BY,
    SHOWN_BY_TASK,
    only,
    recommendation_line,
)
from tests.benchmarks.search.recommend import in_intervals
from tests.benchmarks.search.replay.recorded import Recorded, recorded, recorded_tasks
from tests.benchmarks.search.tabular import REFERENCE, ROWS, coordinates, measure
from tests.benchmarks.search.tabular_proposals import mean_of_teachers
from tests.benchmarks.search.tabular_ratios import ratio_lines, task_lines

CONSTANT = {"tweets": 0.5, "verses": 0.5}
"""The validation score of the best constant answer: both tasks have two labels of equal shares."""
EIGHT = 8
"""Of how many points one is among the best."""
ALIKE = "newsgroups"
"""The recorded task whose seeds' deviations stand for those of these tasks."""


def tables() -> dict[str, Recorded]:
    """Returns the further tasks; a point is described as in the packaged curves."""
    rows = pd.concat(map(pd.read_parquet, sorted((OTHERS / PACKAGED).glob(f"{FURTHER}*.parquet"))))
    described = curves().query("kind == 'search'").drop_duplicates("number")[["number", *KNOBS]]
    searched = rows[rows.kind == "search"].drop(columns=KNOBS).merge(described, on="number")
    alike = recorded_tasks()[ALIKE]
    found = {task: recorded(searched, task) for task in NAMES}
    return {
        task: replace(
            table,
            scores=np.nan_to_num(table.scores, nan=CONSTANT[task]),
            losses=np.nan_to_num(table.losses, nan=np.nanmax(table.losses)),
            deviations=alike.deviations,
            around=alike.around,
        )
        for task, table in found.items()
    }


def agreement_lines(own: Mapping[str, Recorded], teachers: Mapping[str, Recorded]) -> list[str]:
    """Returns a Markdown table of rank correlations of a task's last scores with each teacher's and with their mean."""
    lines = [f"| | {' | '.join(teachers)} | their mean |", "|---" * (len(teachers) + 2) + "|"]
    for task, table in own.items():
        told = [*(each.scores[:, -1] for each in teachers.values()), mean_of_teachers(list(teachers.values()))]
        cells = (f"{spearmanr(table.scores[:, -1], each).statistic:.2f}" for each in told)
        lines.append(f"| {task} | {' | '.join(cells)} |")
    return lines


def best_lines(
    own: Mapping[str, Recorded], teachers: Mapping[str, Recorded], foretold: RecordedShares
) -> Iterator[str]:
    """Yields of each task in how many of the points that the teachers find best the interval of the score holds."""
    order = np.argsort(-mean_of_teachers(list(teachers.values())), kind="stable")
    for task, table in own.items():
        shares = (table.scores[:, -1] - CONSTANT[task]) / (BEST - CONSTANT[task])
        held = in_intervals(foretold, table.numbers, shares)[order]
        best = held[: ceil(len(held) / EIGHT)]
        first = "holds" if held[0] else "does not hold"
        yield f"{task}: of the point recommended the interval {first}, of the best {len(best)} that of {best.sum()}"


def report(seeds: Sequence[int]) -> str:
    """Returns what was recorded and what it says."""
    found = tables()
    numbers = next(iter(found.values())).numbers
    learned = {task: each for task, each in found.items() if each.scores[:, -1].max() > CONSTANT[task] + LEARNED_BY}
    teachers = {task: only(table, numbers) for task, table in recorded_tasks().items()}
    lines = [f"{len(numbers)} points, {len(seeds)} seeds", ""]
    lines += [
        f"{task}: best {table.scores[:, -1].max():.3f}, middle {np.median(table.scores[:, -1]):.3f}, "
        f"constant {CONSTANT[task]:.3f}{'' if task in learned else ', not learned'}"
        for task, table in found.items()
    ]
    lines += ["", *agreement_lines(learned, teachers), ""]
    lines += ["| | regret of the point recommended, spans | in scores | intervals hold |", "|---|---|---|---|"]
    shares = recorded_shares(shipped_curves())
    lines += [
        recommendation_line(task, table, list(teachers.values()), shares, CONSTANT[task])
        for task, table in learned.items()
    ]
    lines += ["", *best_lines(learned, teachers, shares)]
    places = coordinates()[list(numbers)]
    regrets = {
        name: measure(ROWS[name], learned, places, seeds, BUDGETS, teachers=teachers) for name in (*COMPARED, *CONTROLS)
    }
    lines += ["", *ratio_lines(regrets, REFERENCE, BUDGETS), ""]
    lines += task_lines(regrets, REFERENCE, tuple(learned), BUDGETS, SHOWN_BY_TASK)
    return "\n".join(lines)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--seeds", type=int, default=71, help="how many studies of each task")
    print(report(range(flags.parse_args().seeds)))


if __name__ == "__main__":
    main()
