"""Reads the recorded learning curves as points of one space, and as arrays for a surrogate."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from krona_tune.backbones.find_geometry import geometry
from krona_tune.kron.factors import effective_scale, factor_shape, first_step
from krona_tune.record.recorded_curves import BACKBONE, LEARNED, curves
from krona_tune.search.planning.earlier_study import params_of
from krona_tune.search.planning.resolved_space import resolve
from krona_tune.search.planning.space import Params, Space
from krona_tune.study.request.loader import load_spec
from krona_tune.study.request.schedule import Schedule, make_schedule
from tests.benchmarks.curves.record import DESIGN, KNOBS

EPOCHS = 9
WIDTH = BACKBONE["hidden_size"]
ROLES = ("query", "key", "value", "output", "feed_forward_in", "feed_forward_out")
Array = npt.NDArray[np.float64]
Points = tuple[Params, ...]


@cache
def space() -> Space:
    """Returns the space whose points were recorded."""
    return resolve(load_spec(DESIGN), geometry(BACKBONE), "design")


def rungs(reduction: int = 3) -> Schedule:
    """Returns the schedule of a replayed study, in hundredths of an epoch: rungs after 1, 3 and 9 epochs."""
    return make_schedule(examples_per_epoch=100, epochs=EPOCHS, grace_epochs=1, reduction=reduction)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A task's recorded configurations by their `numbers` in the design: `scores` and `losses` (n, EPOCHS), NaN after a
    divergence.

    `deviations` (m, EPOCHS) are those of repeated seeds from their configuration's mean, whose last score `around` (m,)
    says.
    """

    task: str
    numbers: tuple[int, ...]
    points: Points
    scores: Array
    losses: Array
    deviations: Array
    around: Array

    def by_number(self) -> dict[int, Params]:
        """Returns the points by their numbers."""
        return dict(zip(self.numbers, self.points, strict=True))

    @property
    def span(self) -> float:
        """Returns what the middle point loses against the best after EPOCHS, in scores; diverged ones are left out."""
        last = self.scores[:, -1]
        return float(np.nanmax(last) - np.nanmedian(last))


@cache
def recorded_tasks() -> dict[str, Recorded]:
    """Returns the recorded tasks that are learned, by name."""
    found = curves()
    return {task: recorded(found, task) for task in LEARNED}


def recorded(table: pd.DataFrame, task: str) -> Recorded:
    """Returns a task's part of the table."""
    own = table[table.task == task]
    searched = own[own.kind == "search"].sort_values(["number", "epochs"])
    groups = [group for _, group in searched.groupby("number")]
    points = tuple(point_of({name: group.iloc[0][name] for name in KNOBS}) for group in groups)
    deviations, around = _deviations(own)
    return Recorded(
        task=task,
        numbers=tuple(int(group.iloc[0].number) for group in groups),
        points=points,
        scores=np.array([_curve(group, "score") for group in groups]),
        losses=np.array([_curve(group, "train_loss") for group in groups]),
        deviations=deviations,
        around=around,
    )


def common_numbers(tasks: Iterable[Recorded]) -> tuple[int, ...]:
    """Returns the numbers of the points that all the tasks have, in order."""
    return tuple(sorted(frozenset.intersection(*(frozenset(each.numbers) for each in tasks))))


def point_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row's point in the recorded space."""
    found = space().adopted(params_of(row))
    if found is None:
        raise ValueError(f"{row} is no point of the recorded space")
    return found


def features(point: Params) -> Array:
    """Returns the knobs of a point and what it does (d,): for an attention map how large and tall A is, and the length
    of the first step, with and without the shape's part."""
    shape = factor_shape(WIDTH, WIDTH, point["a_out"], point["a_in"], point["terms"])
    scale, scaling = point["scale"], point["scaling"]
    steps = effective_scale(shape, scale, scaling), first_step(shape, "krona", scale, scaling)
    sizes = shape.a_out * shape.a_in, shape.a_out / shape.a_in
    does = np.log2([*(point["learning_rate"] * step for step in steps), *sizes])
    return np.array([*knobs(point), *does])


def knobs(point: Params) -> Array:
    """Returns the knobs of a point (d,), sizes and rates by their logarithm."""
    logarithms = [np.log2(point[name]) for name in ("learning_rate", "scale", "a_out", "a_in", "terms", "batch_size")]
    roles = str(point["roles"]).split("+")
    layers = int(str(point["layers"]).removeprefix("last "))
    switches = [point["scaling"] == "stable", point["layer_norms"] == "adapted", *(role in roles for role in ROLES)]
    return np.array([*logarithms, point["dropout"], point["warmup"], layers, *map(float, switches)])


def _curve(group: pd.DataFrame, column: str) -> list[float]:
    by_epoch = dict(zip(group.epochs.round(), group[column], strict=True))
    return [float(by_epoch.get(epoch, np.nan)) for epoch in range(1, EPOCHS + 1)]


def _deviations(own: pd.DataFrame) -> tuple[Array, Array]:
    """Returns each repeat's deviation from the mean over its configuration's seeds, the first seed included."""
    found: list[Array] = []
    around: list[float] = []
    for number in sorted(own[own.kind == "repeat"].number.unique()):
        seeds = own[(own.number == number) & own.kind.isin(["search", "repeat"])].sort_values("epochs")
        curves = np.array([_curve(group, "score") for _, group in seeds.groupby("seed")])
        curves = curves[~np.isnan(curves).any(axis=1)]
        if len(curves) > 1:
            unbiased = (curves - curves.mean(axis=0)) * np.sqrt(len(curves) / (len(curves) - 1))
            found += list(unbiased)
            around += [float(curves[:, -1].mean())] * len(curves)
    return np.array(found).reshape(-1, EPOCHS), np.array(around)
