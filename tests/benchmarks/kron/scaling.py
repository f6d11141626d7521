"""Asks whether one scale serves all factor shapes, as it is, divided as "stable" is, or by the first step's length.

python -m tests.benchmarks.kron.scaling TASK DATA [SEEDS]

Every shape is trained to its end at the same lengths of the first step (`first_step`), by scales that give them. A
scaling's common scale then gives each shape a step of its own length, and its score is read between the nearest two.
The loss of a scaling is how much its best common scale scores below each shape's own best step, in the mean over the
shapes, on validation. Noise alone makes that loss positive, since the own best step is the best of several: only the
differences between scalings are read, seed by seed.
"""

import sys
from collections.abc import Callable, Sequence
from itertools import product
from math import log10
from multiprocessing import get_context
from statistics import fmean

import numpy as np
import torch

from krona_tune.kron.factors import FactorShape, effective_scale, factor_shape, first_step
from krona_tune.search.planning.plan import make_plan
from krona_tune.search.startup.task_data import prepare_data
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.request.trial import check_trial
from krona_tune.study.result import Report
from krona_tune.train.backbone import Backbone, load_backbone
from krona_tune.train.device import this_device
from krona_tune.train.evaluate import Diverged
from krona_tune.train.loop import TaskWork, train_trial
from tests.benchmarks.kron.step import MINILM

WIDTH = 384
SHAPES = tuple(
    factor_shape(WIDTH, WIDTH, *sizes)
    for sizes in ((16, 24, 1), (16, 24, 4), (192, 8, 4), (192, 2, 1), (96, 4, 4), (384, 1, 4))
)
"""Their first steps differ by 23 times at equal scale; in this order they grow."""
RATE = 3e-3
"""The learning rate, which the head has too."""
STEPS = tuple(10 ** (exponent / 2) for exponent in range(-4, 3))
"""The lengths of the first step, .01 to 10."""
SCALES = tuple(10 ** (exponent / 10) for exponent in range(-40, 41))
"""The common scales that are tried by reading between trained steps."""
SCALINGS: dict[str, Callable[[FactorShape], float]] = {
    "plain": lambda shape: effective_scale(shape, 1.0, "plain"),
    "stable": lambda shape: effective_scale(shape, 1.0, "stable"),
    "even": lambda shape: 1 / first_step(shape, "krona"),
}
"""The factor by which each scaling multiplies a scale."""
WORKERS = 2
Key = tuple[FactorShape, float, int]
"""Shape, length of the first step, seed."""


def request(task: str, data: str) -> StudySpec:
    return StudySpec.model_validate(
        {
            "model": MINILM,
            "data": data,
            "tasks": (task,),
            "adapter": {"a_out": 16, "a_in": 24},
            "schedule": {"epochs": 9, "grace_epochs": 9, "reduction": 2},
            "examples": {"train": 800, "validation": 800, "max_length": 64},
        }
    )


def score(key: Key) -> float:
    """Trains one point to its end and returns its last validation score; the worst possible one if it diverged."""
    shape, step, seed = key
    work, backbone = _WORK[0], _BACKBONE[0]
    sizes = {"a_out": shape.a_out, "a_in": shape.a_in, "terms": shape.terms, "layers": "last 3"}
    scale = step / (RATE * first_step(shape, "krona"))
    values = {**sizes, "scale": scale, "learning_rate": RATE, "dropout": 0.0}
    reports: list[Report] = []
    try:
        train_trial("grid", check_trial(work.task.name, seed, values), work, backbone, reports.append)
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


def common_scale(scores: Sequence[Sequence[float]], scaling: str) -> tuple[float, float]:
    """Returns the best common scale, and the mean score that it loses against each shape's own best step.

    Args:
        scores: (shapes, steps).
    """

    def at(scale: float) -> float:
        read = []
        for shape, row in zip(SHAPES, scores, strict=True):
            step = RATE * scale * SCALINGS[scaling](shape) * first_step(shape, "krona")
            read.append(float(np.interp(log10(step), [log10(each) for each in STEPS], row)))
        return fmean(read)

    best = max(SCALES, key=at)
    return best, fmean(map(max, scores)) - at(best)


def main(task: str, data: str, seeds: str = "1") -> None:
    """Prints the scores by shape and step and, for each scaling, what a common scale loses."""
    points: list[Key] = list(product(SHAPES, STEPS, range(int(seeds))))
    with get_context("spawn").Pool(WORKERS, _start, (task, data)) as pool:
        scores = dict(zip(points, pool.imap(score, points), strict=True))
    print(task.ljust(14), *(f"{step:6.3g}" for step in STEPS), "  first step at scale 1 and learning rate 1")
    for shape in SHAPES:
        row = [fmean(scores[shape, step, seed] for seed in range(int(seeds))) for step in STEPS]
        print(f"{shape}".ljust(14), *(f"{each:6.3f}" for each in row), f"  {first_step(shape, 'krona'):.0f}")
    for seed, scaling in product(range(int(seeds)), SCALINGS):
        table = [[scores[shape, step, seed] for step in STEPS] for shape in SHAPES]
        scale, lost = common_scale(table, scaling)
        print(f"seed {seed}, {scaling}: the best common scale {scale:.3g} loses {lost:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
