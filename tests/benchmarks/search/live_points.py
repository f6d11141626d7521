"""Trains the first taught points and even draws of the space that is made for a backbone, on tasks that taught nothing.

python -m tests.benchmarks.search.live_points RESULT BACKBONES NAME TEXTS SEED [TASK...]

NAME is a folder of BACKBONES, as `tests.benchmarks.curves.backbones` writes it; TEXTS holds the tasks that
`tests.benchmarks.curves.held_out_tasks` and `tests.benchmarks.search.reserved` write; all of them are tried, or those
that are named. All recorded tasks of the package teach, as they do in a study; each training has three epochs of 400
examples. Rows are added to RESULT, one a report; `report RESULT` prints what follows.

Written before anything was trained: the figure that counts is the regret of the best of the first TAUGHT points divided
by that of even draws, at equal cost: draws that are all trained to their end, and draws under ASHA with rungs after one
and three epochs, in all orders of them alike. A regret is in score, against the best of a task's trainings. Aimed at is
.60 after five trainings, as the mean over the tasks of a backbone. What diverged is worth the worst score of its task.
"""

import random
import sys
import tempfile
from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
import torch

from krona_tune.search.planning.plan import Plan
from krona_tune.search.planning.space import Params
from krona_tune.search.startup.task_data import prepare_data
from krona_tune.train.backbone import load_backbone
from krona_tune.train.device import keep_freed_memory, this_device
from krona_tune.train.evaluate import Diverged
from krona_tune.train.hidden_states import HiddenStateStore
from tests.benchmarks.curves import held_out_tasks
from tests.benchmarks.curves.adapted_layers import STORED_BYTES, planned
from tests.benchmarks.one_training import add_rows, reports
from tests.benchmarks.search import reserved
from tests.benchmarks.search.tabular_stops import quantile

TAUGHT, EVEN = "taught", "even"
FULL, ASHA = "even, full", "even, ASHA"
COUNTS = {TAUGHT: 5, EVEN: 12}
"""Says how many points of each kind are trained on a task."""
BUDGETS = (1, 2, 5)
ORDERS = 2_000
FIRST_RUNG = 1 / 3
"""The share of a training after which ASHA decides, and of the trials that it lets go on."""
KNOBS = ("a_out", "a_in", "terms", "scale", "roles", "layers", "learning_rate")


def points_of(plan: Plan, seed: int) -> Iterator[tuple[str, int, Params]]:
    """Yields the points that are trained on each task, with their kind and number: those that are taught come first."""
    assert plan.taught
    rng = random.Random(seed)
    drawn = [plan.space.draw(rng) for _ in range(COUNTS[EVEN])]
    for kind, points in ((TAUGHT, plan.taught.points), (EVEN, drawn)):
        for number, point in enumerate(points[: COUNTS[kind]]):
            yield kind, number, point


def rows(name: str, folder: Path, plan: Plan, seed: int) -> Iterator[dict[str, Any]]:
    """Trains all points on each task; yields a row for each report, or one without a score where there is none."""
    backbone = load_backbone(str(folder), this_device("auto", gpu=False))
    works = prepare_data(plan, str(folder)).works
    with tempfile.TemporaryDirectory() as kept:
        store = HiddenStateStore(Path(kept), STORED_BYTES)
        for task, work in works.items():
            for kind, number, point in points_of(plan, seed):
                about = {"backbone": name, "task": task, "seed": seed, "kind": kind, "number": number}
                about |= {knob: point[knob] for knob in KNOBS}
                found: list[tuple[float, float]] = []
                with suppress(Diverged):  # the reports before stay
                    found.extend(reports(f"{task}-{kind}-{number}", point, seed, work, backbone, store))
                for epochs, score in found or [(0.0, np.nan)]:
                    yield {**about, "epochs": epochs, "score": score}


def last_scores(of_task: pd.DataFrame, kind: str) -> tuple[list[float], list[float]]:
    """Returns the scores of a kind's points after the first and the last epochs, in the order of their numbers; what
    has none has the task's worst."""
    worst, longest = of_task.score.min(), of_task.epochs.max()
    own = of_task[of_task.kind == kind]
    numbers = sorted(own.number.unique())
    ends = {
        epochs: own[own.epochs.round(6) == round(epochs, 6)].set_index("number").score.reindex(numbers).fillna(worst)
        for epochs in (longest * FIRST_RUNG, longest)
    }
    first, last = (found.tolist() for found in ends.values())
    return first, last


def best_under_asha(first: Sequence[float], last: Sequence[float], budget: float) -> float:
    """Returns the best last score of trials in this order at a cost in whole trainings, if ASHA stops the others."""
    cost = 0.0
    seen: list[float] = []
    ended: list[float] = []
    for early, end in zip(first, last, strict=True):
        if cost + FIRST_RUNG > budget + 1e-9:
            break
        cost += FIRST_RUNG
        survives = not seen or early >= quantile(seen, 1 - FIRST_RUNG)
        insort(seen, early)
        if survives and cost + 1 - FIRST_RUNG <= budget + 1e-9:
            cost += 1 - FIRST_RUNG
            ended.append(end)
    return max(ended)


def regrets(of_task: pd.DataFrame) -> dict[str, list[float]]:
    """Returns by what proposes the regrets of a task after BUDGETS trainings."""
    taught = last_scores(of_task, TAUGHT)[1]
    first, last = last_scores(of_task, EVEN)
    best = max(*taught, *last)
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(last)) for _ in range(ORDERS)]

    def mean_of(found: Iterable[float]) -> float:
        return best - fmean(found)

    def under_asha(budget: int) -> float:
        in_order = ((np.take(first, order).tolist(), np.take(last, order).tolist()) for order in orders)
        return mean_of(best_under_asha(*each, budget) for each in in_order)

    return {
        TAUGHT: [best - max(taught[:budget]) for budget in BUDGETS],
        FULL: [mean_of(max(last[at] for at in order[:budget]) for order in orders) for budget in BUDGETS],
        ASHA: [under_asha(budget) for budget in BUDGETS],
    }


def means_over_tasks(frame: pd.DataFrame) -> dict[str, dict[str, list[float]]]:
    """Returns by backbone and what proposes the mean over the tasks of the regrets after BUDGETS trainings."""
    found: dict[str, dict[str, list[float]]] = {}
    for backbone, of_backbone in frame.groupby("backbone"):
        of_tasks = [regrets(of_task) for _, of_task in of_backbone.groupby("task")]
        found[str(backbone)] = {
            kind: [fmean(each) for each in zip(*(of_task[kind] for of_task in of_tasks), strict=True)]
            for kind in of_tasks[0]
        }
    return found


def report(result: str) -> str:
    """Returns the Markdown tables: each task's regrets, and by backbone their means over tasks with the ratios to the
    taught points'."""
    frame = pd.read_parquet(result)
    lines = [f"| after {', '.join(map(str, BUDGETS))} trainings | best | taught | even, full | even, ASHA |"]
    lines += ["|---|---|---|---|---|"]
    for (backbone, task), of_task in frame.groupby(["backbone", "task"]):
        cells = map(_listed, regrets(of_task).values())
        lines.append(f"| {backbone}: {task} | {of_task.score.max():.3f} | {' | '.join(cells)} |")
    tasks = frame.groupby("backbone").task.nunique()
    for backbone, means in means_over_tasks(frame).items():
        lines += ["", f"{backbone}, {tasks[backbone]} tasks, lost in the mean and taught over the draws:"]
        for kind, lost in means.items():
            pairs = zip(means[TAUGHT], lost, strict=True)
            ratios = (f"{ours / theirs:.2f}" if theirs else "-" for ours, theirs in pairs)
            lines.append(f"{kind} {_listed(lost)}; {', '.join(ratios)}")
    return "\n".join(lines)


def _listed(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def main(*words: str) -> None:
    """Trains and adds rows, or prints what there is."""
    if words[0] == "report":
        print(report(words[1]))
        return
    result, backbones, name, texts, seed, *only = words
    torch.set_num_threads(1)
    keep_freed_memory()
    folder, path = Path(backbones) / name, Path(result)
    described = held_out_tasks.tasks(Path(texts)) | reserved.tasks(Path(texts))
    plan = planned(folder, {task: described[task] for task in only or described}, texts)
    for row in rows(name, folder, plan, int(seed)):
        print(row, flush=True)
        add_rows(path, [row])


if __name__ == "__main__":
    main(*sys.argv[1:])
