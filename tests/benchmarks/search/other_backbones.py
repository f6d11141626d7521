"""`python -m tests.benchmarks.search.other_backbones [NAME…] [--seeds N]`: what curves teach about another backbone.

MiniLM's recorded curves teach searches among the points that were recorded on another backbone too, as in
`tests.benchmarks.search.tabular`. A task of that backbone in turn is searched, and MiniLM's curves of the *other*
three tasks teach: neither backbone nor task has taught anything. Beside it the same backbone's other tasks teach.

Written before any other backbone was recorded. The figure that counts is the regret of the taught default (its points
first, then even draws) divided by that of random points under ASHA 1-3-9, after 5 and after 10 full trainings, as the
mean over the tasks; aimed at is .60. Controls are the same teachers with their points shuffled, and of the wrong sign.
Added when one block was recorded: the regret of the point that is recommended, and how often its interval holds.
A task on which no point passes the constant answer by LEARNED_BY is named and left out. A repeated seed's deviation is
that of MiniLM's task. A diverged training is worth the constant answer.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import binomtest, spearmanr

from krona_tune.record.recorded_curves import CONSTANT, curves
from krona_tune.search.planning.earlier_study import shipped_curves
from krona_tune.search.planning.expected_score import BEST, RecordedShares, recorded_shares
from tests.benchmarks.curves.record import KNOBS, OTHERS
from tests.benchmarks.search.recommend import in_intervals
from tests.benchmarks.search.replay.recorded import Recorded, recorded, recorded_tasks
from tests.benchmarks.search.tabular import REFERENCE, ROWS, coordinates, measure
from tests.benchmarks.search.tabular_proposals import mean_of_teachers
from tests.benchmarks.search.tabular_ratios import ratio_lines, task_lines
from tests.benchmarks.search.tabular_study import regrets

LEARNED_BY = 0.1
BUDGETS = (2.0, 5.0, 10.0)
SHOWN_BY_TASK = (5.0, 10.0)
COMPARED = (REFERENCE, "random, full", "portfolio, full", "taught, then random")
CONTROLS = ("the same, shuffled", "the same, wrong sign")


def recorded_backbones() -> list[str]:
    """Returns the names of the other backbones with recorded blocks."""
    return sorted({path.parent.name for path in OTHERS.glob("*/points-*.parquet")})


def tables_of(backbone: str) -> dict[str, Recorded]:
    """Returns a backbone's recorded tasks; a point is described by MiniLM's of the same number in the design."""
    rows = pd.concat(map(pd.read_parquet, sorted((OTHERS / backbone).glob("points-*.parquet"))))
    described = curves().query("kind == 'search'").drop_duplicates("number")[["number", *KNOBS]]
    searched = rows[rows.kind == "search"].drop(columns=KNOBS).merge(described, on="number")
    return {task: _whole(recorded(searched, task), task) for task in recorded_tasks()}


def _whole(found: Recorded, task: str) -> Recorded:
    """Returns a table without gaps and with the deviations of MiniLM's."""
    shown = recorded_tasks()[task]
    scores = np.nan_to_num(found.scores, nan=CONSTANT[task])
    losses = np.nan_to_num(found.losses, nan=np.nanmax(found.losses))
    return replace(found, scores=scores, losses=losses, deviations=shown.deviations, around=shown.around)


def only(table: Recorded, numbers: Sequence[int]) -> Recorded:
    """Returns the part of a table that holds these points."""
    at = [table.numbers.index(number) for number in numbers]
    points = tuple(table.points[each] for each in at)
    return replace(table, numbers=tuple(numbers), points=points, scores=table.scores[at], losses=table.losses[at])


def is_learned(task: str, table: Recorded) -> bool:
    """Returns whether a point passes the constant answer."""
    return bool(table.scores[:, -1].max() > CONSTANT[task] + LEARNED_BY)


def agreement_lines(own: Mapping[str, Recorded], minilm: Mapping[str, Recorded]) -> list[str]:
    """Returns a Markdown table of rank correlations of a task's last scores with what foretells them."""
    lines = ["| | MiniLM's same task | MiniLM's others | its own others |", "|---|---|---|---|"]
    for task, table in own.items():
        last = table.scores[:, -1]
        told = (
            minilm[task].scores[:, -1],
            mean_of_teachers([other for name, other in minilm.items() if name != task]),
            mean_of_teachers([other for name, other in own.items() if name != task]),
        )
        cells = (f"{spearmanr(last, each).statistic:.2f}" for each in told)
        lines.append(f"| {task} | {' | '.join(cells)} |")
    return lines


def recommendation_lines(own: Mapping[str, Recorded], minilm: Mapping[str, Recorded]) -> list[str]:
    """Returns a Markdown table of what MiniLM's other tasks foretell of a task: the regret in spans of the point that
    they find best, and in how many of the points the interval of its score holds."""
    lines = ["| | regret of the point recommended, spans | in scores | intervals hold |", "|---|---|---|---|"]
    for task, table in own.items():
        others = [other for name, other in minilm.items() if name != task]
        shares = recorded_shares(shipped_curves(without=[task]))
        lines.append(recommendation_line(task, table, others, shares, CONSTANT[task]))
    return lines


def recommendation_line(
    task: str, table: Recorded, teachers: Sequence[Recorded], foretold: RecordedShares, constant: float
) -> str:
    """Returns the row of one task, whose best constant answer has the score `constant`."""
    first = int(np.argmax(mean_of_teachers(teachers)))
    last = table.scores[:, -1]
    held = int(in_intervals(foretold, table.numbers, (last - constant) / (BEST - constant)).sum())
    interval = binomtest(held, len(last)).proportion_ci()
    cells = (
        f"{regrets(table)[first]:.2f}",
        f"{last.max() - last[first]:.3f}",
        f"{held} of {len(last)} ({interval.low:.2f}-{interval.high:.2f})",
    )
    return f"| {task} | {' | '.join(cells)} |"


def report(backbone: str, seeds: Sequence[int]) -> str:
    """Returns the tables of one backbone."""
    tables = tables_of(backbone)
    numbers = next(iter(tables.values())).numbers
    learned = {task: table for task, table in tables.items() if is_learned(task, table)}
    minilm = {task: only(table, numbers) for task, table in recorded_tasks().items()}
    places = coordinates()[list(numbers)]
    lines = [f"{backbone}: {len(numbers)} points, {len(seeds)} seeds", ""]
    lines += [
        f"{task}: best {table.scores[:, -1].max():.3f}, middle {np.median(table.scores[:, -1]):.3f}, "
        f"constant {CONSTANT[task]:.3f}{'' if task in learned else ', not learned'}"
        for task, table in tables.items()
    ]
    lines += ["", *agreement_lines(learned, minilm), "", *recommendation_lines(learned, minilm)]
    for said, teachers in (("MiniLM's other tasks teach", minilm), ("its own other tasks teach", learned)):
        found = {
            name: measure(ROWS[name], learned, places, seeds, BUDGETS, teachers=teachers)
            for name in (*COMPARED, *CONTROLS)
        }
        lines += ["", said, "", *ratio_lines(found, REFERENCE, BUDGETS), ""]
        lines += task_lines(found, REFERENCE, tuple(learned), BUDGETS, SHOWN_BY_TASK)
    return "\n".join(lines)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("names", nargs="*", metavar="NAME", help="which backbones; all that are recorded without")
    flags.add_argument("--seeds", type=int, default=71, help="how many studies of each task")
    given = flags.parse_args()
    print("\n\n".join(report(name, range(given.seeds)) for name in given.names or recorded_backbones()))


if __name__ == "__main__":
    main()
