"""Asks whether one learning rate serves all factor shapes, by plain and by stable scaling, with both starts.

python -m tests.benchmarks.kron.learning_rates TASK [DATA] [seeds]

Every shape is trained to its end with every learning rate. The loss of a common rate is how much the best common rate
scores below each shape's own best one, in the mean over the shapes, on validation. Noise alone makes that loss
positive, since the own best rate is the best of several: only the difference between plain and stable scaling is read,
seed by seed, with its 95 % interval.
"""

import json
import sys
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from krona_tune.search.planning.plan import make_plan
from krona_tune.search.startup.task_data import prepare_data
from krona_tune.study.result import Report
from krona_tune.study.spec.study_spec import StudySpec
from krona_tune.study.spec.trial import check_trial
from krona_tune.train.backbone import Backbone, load_backbone
from krona_tune.train.device import this_device
from krona_tune.train.loop import Diverged, TaskWork, train_trial
from tests.benchmarks.kron.near_or_tall import interval
from tests.benchmarks.kron.step import MINILM

SHAPES = ((16, 24, 1), (16, 24, 4), (96, 4, 4), (192, 8, 4), (192, 2, 1), (384, 1, 4))
"""a_out, a_in and terms: terms·a_in lies between 2 and 96, and is 14.5 in the geometric mean."""
RATES = (5e-4, 1.4e-3, 4e-3, 1.1e-2, 3.2e-2)
SCALES = {"plain": 4.0, "stable": 16.0}
"""Equal at terms·a_in = 16, near the middle of the shapes."""
INITS = ("krona", "cdka")
WORKERS = 2
Key = tuple[str, str, tuple[int, int, int], float, int]
"""Init, scaling, shape, learning rate, seed."""


def request(task: str, data: str) -> StudySpec:
    sizes = {"train": 512, "validation": 256} if data == "mini" else {"train": 1000, "validation": 1000}
    return StudySpec.model_validate(
        {
            "model": MINILM,
            "data": data,
            "tasks": (task,),
            "adapter": {"a_out": 16, "a_in": 24},
            "schedule": {"epochs": 9, "grace_epochs": 9, "reduction": 2},
            "examples": {**sizes, "max_length": 64},
        }
    )


def score(key: Key) -> float:
    """Trains one point to its end and returns its last validation score; the worst possible one if it diverged."""
    init, scaling, (a_out, a_in, terms), rate, seed = key
    work, backbone = _WORK[0], _BACKBONE[0]
    knobs = {"a_out": a_out, "a_in": a_in, "terms": terms, "init": init, "scaling": scaling}
    training = {"learning_rate": rate, "scale": SCALES[scaling], "dropout": 0.0}
    reports: list[Report] = []
    try:
        train_trial("grid", check_trial(work.task.name, seed, {**knobs, **training}), work, backbone, reports.append)
    except Diverged:
        return 0.0
    return reports[-1].score


_WORK: list[TaskWork] = []
_BACKBONE: list[Backbone] = []


def _start(task: str, data: str) -> None:
    torch.set_num_threads(1)
    spec = request(task, data)
    _WORK[:] = [prepare_data(make_plan(spec, "benchmark"), MINILM).works[task]]
    _BACKBONE[:] = [load_backbone(MINILM, this_device("auto", gpu=False))]


def common_rate(scores: dict[Key, float], init: str, scaling: str, seed: int) -> tuple[float, float]:
    """Returns the best common learning rate and the mean score that it loses against each shape's own best."""
    mean = {(shape, rate): scores[init, scaling, shape, rate, seed] for shape, rate in product(SHAPES, RATES)}
    common = max(RATES, key=lambda rate: sum(mean[shape, rate] for shape in SHAPES))
    own = [max(mean[shape, rate] for rate in RATES) for shape in SHAPES]
    return common, fmean(best - mean[shape, common] for shape, best in zip(SHAPES, own, strict=True))


def main(task: str, data: str = "mini", seeds: str = "1") -> None:
    """Prints the scores and, for each start and scaling, what a common learning rate loses."""
    points: list[Key] = list(product(INITS, SCALES, SHAPES, RATES, range(int(seeds))))
    with get_context("spawn").Pool(WORKERS, _start, (task, data)) as pool:
        scores = dict(zip(points, pool.imap(score, points), strict=True))
    lost: dict[tuple[str, str, int], float] = {}
    for init, scaling in product(INITS, SCALES):
        print(f"{task}{' (synthetic)' if data == 'mini' else ''}, init {init}, {scaling} scaling")
        for shape in SHAPES:
            row = [fmean(scores[init, scaling, shape, rate, seed] for seed in range(int(seeds))) for rate in RATES]
            print(f"  {shape[2]}·{shape[0]}x{shape[1]}".ljust(14), *(f"{each:.3f}" for each in row))
        for seed in range(int(seeds)):
            common, lost[init, scaling, seed] = common_rate(scores, init, scaling, seed)
            print(f"  seed {seed}: the best common rate {common:g} loses {lost[init, scaling, seed]:.3f}")
    for init in INITS if int(seeds) > 1 else ():
        differences = [lost[init, "stable", seed] - lost[init, "plain", seed] for seed in range(int(seeds))]
        print(f"init {init}: stable - plain {fmean(differences):+.3f} ± {interval(differences):.3f}")
    folder = Path(__file__).parents[1] / "results"
    lines = [[*map(str, key), value] for key, value in scores.items()]
    (folder / f"learning_rates_{task}_{'mini' if data == 'mini' else 'real'}.json").write_text(json.dumps(lines))


if __name__ == "__main__":
    args: list[Any] = sys.argv[1:]
    main(*args)
