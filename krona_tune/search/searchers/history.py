"""Holds what was reported of all of a study's trials, as rows of numbers that mean the same on every task."""

import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite, log, log2, nan

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from krona_tune.adapters.method_table import shape_at
from krona_tune.adapters.placement import count, sites
from krona_tune.backbones.geometry import Geometry
from krona_tune.kron.factors import first_step
from krona_tune.refusal import Refusal
from krona_tune.search.planning.space import Params, Space, adapter_of
from krona_tune.study.randomness import stream
from krona_tune.study.request.domain import Domain, Fixed
from krona_tune.study.request.trial import SIZES

REFERENCE = 300
"""How many even draws show the least and the greatest value of a coordinate."""
Array = npt.NDArray[np.float64]


def coordinates(space: Space, params: Params, geometry: Geometry | None = None) -> dict[str, float]:
    """Returns a feasible point's coordinates by name; a coordinate that is not named is 0.

    Where a knob's values are above 0, a number counts by its logarithm, and one of another study that is below them as
    the least of them. Names count by one coordinate each, which is 1. In place of A's two sizes there are the
    parameters, the reachable rank, and how tall A is: shapes that do nearly the same are near each other. In addition
    there are the number of adapted maps and how far the first step moves a map's weight: the learning rate times the
    scale, and for a Kronecker product what its shape makes of that. Sizes are shares of the backbone's, so that they
    mean the same on another one.

    Args:
        geometry: the backbone of an earlier study's point; None for the space's own.

    Raises:
        Refusal: the sizes don't fit the backbone.
    """
    backbone = geometry or space.geometry
    adapter, method = adapter_of(params), str(params["method"])
    found = {f"method {method}": 1.0} if len(space.methods) > 1 else {}
    for name, domain in space.knobs[method].items():
        if not isinstance(domain, Fixed) and name not in SIZES and name in params:
            found |= _of_knob(name, params[name], domain)
    places = sites(backbone, adapter)
    if not places:
        return found
    counted = count(backbone, adapter, outputs=0)
    share = max(1, counted.adapter + counted.norms) / backbone.parameters
    found |= {"parameters": log2(share), "sites": log2(len(places) / len(backbone.sites))}
    scale = adapter.scale if "scale" in space.knobs[method] else 1.0
    if "a_out" in space.knobs[method]:
        shape = shape_at(places[0], adapter)
        most = log(min(shape.d_out, shape.d_in))
        rank = log(shape.max_rank) / most if most else 1.0  # a map of one output has rank 1
        found |= {"rank": rank, "tall": log2(adapter.a_out / adapter.a_in)}
        scale = first_step(shape, adapter.init, scale, adapter.scaling)
    return found | {"step": log2(params["learning_rate"] * scale)}


def _of_knob(name: str, value: object, domain: Domain) -> Mapping[str, float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return {f"{name} {value}": 1.0}
    numbers = [each for each in domain.ends() if isinstance(each, int | float)]
    least = min(numbers) if len(numbers) == len(domain.ends()) else 0
    return {name: log2(max(value, least)) if least > 0 else float(value)}


class Encoder:
    """Turns points of a space into rows of numbers between 0 and 1, which even draws whose sizes fit span."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        rng = random.Random(stream(seed, "coordinates"))
        rows: list[dict[str, float]] = []
        for _ in range(REFERENCE):
            with suppress(Refusal):  # a limit on parameters is no matter here: few draws may be within it
                rows.append(coordinates(space, space.draw(rng)))
        self.names = sorted({name for row in rows for name in row})
        table = np.array([[row.get(name, 0.0) for name in self.names] for row in rows or [{}]])
        self._low: Array = table.min(axis=0)
        spread = table.max(axis=0) - self._low
        self._width = np.where(spread > 0, spread, 1.0)

    @property
    def width(self) -> int:
        """Returns the number of coordinates."""
        return len(self.names)

    def __call__(self, point: Params, geometry: Geometry | None = None) -> Array:
        """Returns (d,): the point's coordinates in the order of `names`; of an earlier study's point with the geometry
        of its backbone. Raises a Refusal if its sizes don't fit."""
        found = coordinates(self._space, point, geometry)
        encoded: Array = (np.array([found.get(name, 0.0) for name in self.names]) - self._low) / self._width
        return encoded


WORST = 2.0
"""A value is at most this far from 0: the worst of many trials says little more than a bad one."""
OWN_SHARE = 3 / 4
"""The most of a limited number of rows that a task's or the study's own reports take while others have some."""
SMALLEST_SHARE = 1 / 30
"""The share of the full budget whose coordinate is 0; that of the full budget is 1."""
BEFORE = -1
"""Stands for the number of an end in an earlier study."""

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Observation:
    """One report: the share of the full budget, the score, and the training loss; a diverged trial has no numbers."""

    share: float
    score: float = nan
    loss: float = nan

    @cached_property
    def place(self) -> tuple[float, float]:
        """Returns what orders a task's reports, the better the greater: the training loss breaks ties."""
        score = self.score if isfinite(self.score) else -np.inf
        return score, -self.loss if isfinite(self.loss) else -np.inf


@dataclass(eq=False, kw_only=True)
class Trial:
    """A trial with its coordinates and its reports. `running` until its end is known; `ended` is the number of its end
    among those of the study's trials that had reported, if it had; BEFORE for a trial of an earlier study."""

    trial_id: str
    task: str
    params: Params
    coordinates: Array
    reports: list[Observation] = field(default_factory=list)
    running: bool = True
    ended: int | None = None


class History:
    """The trials of a study. Everything that is read from it is in the order of the trials' names.

    Args:
        budgets: the examples of a full training, by task of the study.
        further: the same, by task of earlier studies.
    """

    def __init__(self, encode: Encoder, budgets: Mapping[str, int], further: Mapping[str, int]) -> None:
        self._encode, self._budgets, self._own = encode, {**budgets, **further}, len(budgets)
        self._tasks = tuple(self._budgets)
        self._trials: dict[str, Trial] = {}
        self.ends = self.ends_before = 0

    @property
    def known(self) -> int:
        """Returns how many trials have ended after a report, those of earlier studies among them."""
        return self.ends + self.ends_before

    def begin(self, trial_id: str, task: str, params: Params, geometry: Geometry | None = None) -> None:
        """Adds a trial, one of an earlier study with the geometry of its backbone; does nothing if it is known."""
        if trial_id not in self._trials:
            coordinates = self._encode(params, geometry)
            self._trials[trial_id] = Trial(trial_id=trial_id, task=task, params=params, coordinates=coordinates)

    def report(self, trial_id: str, examples: int, score: float, loss: float) -> None:
        """Adds a score; one that comes again after a fault replaces the first. Does nothing if the trial is unknown or
        the score is not finite."""
        trial = self._trials.get(trial_id)
        if trial is None or not isfinite(score):
            return
        share = examples / self._budgets[trial.task]
        trial.reports = [*(each for each in trial.reports if each.share < share), Observation(share, score, loss)]

    def reopen(self, trial_id: str) -> None:
        """Lets a trial that has ended go on; what counted it as the worst is taken back."""
        if trial := self._trials.get(trial_id):
            trial.running, trial.reports = True, [each for each in trial.reports if isfinite(each.score)]

    def end(self, trial_id: str, *, diverged: bool) -> None:
        """Marks the end of a trial; a trial that diverged counts as the worst at the full budget."""
        trial = self._trials.get(trial_id)
        if trial and trial.running:
            trial.running = False
            trial.reports += [Observation(1.0)] if diverged else []
            if not trial.reports or trial.ended is not None:
                return
            if self._tasks.index(trial.task) < self._own:
                trial.ended, self.ends = self.ends, self.ends + 1
            else:
                trial.ended, self.ends_before = BEFORE, self.ends_before + 1

    def trials(self, until: int | None = None) -> list[Trial]:
        """Returns all trials, or those of earlier studies and the first `until` of this one to end after a report."""
        ordered = sorted(self._trials.values(), key=lambda trial: trial.trial_id)
        return [each for each in ordered if until is None or (each.ended is not None and each.ended < until)]

    def rows(self, trials: Sequence[Trial], most: int, task: str | None = None) -> tuple[Array, Array]:
        """Returns a row (n, d) and a value (n,) per report of the trials.

        If they are more than `most`, other tasks' trials have their last report only, and without a task all have; if
        they are still more, rows are taken evenly over the trials, and the task's own, or without one the study's own,
        get as much of the room as they need, up to OWN_SHARE. A value is the score's normal quantile among its task's
        reports.
        """
        told = [each for trial in trials for each in trial.reports]
        of = np.repeat(np.arange(len(trials)), [len(trial.reports) for trial in trials])
        tasks = np.array([self._tasks.index(trial.task) for trial in trials])[of]
        kept = np.arange(len(told))
        if len(told) > most:
            last = np.append(of[1:] != of[:-1], True)
            own = tasks == self._tasks.index(task) if task else last & (tasks < self._own)
            others = np.flatnonzero(~own & last)
            mine = _evenly(np.flatnonzero(own), max(round(OWN_SHARE * most), most - len(others)))
            kept = np.append(mine, _evenly(others, most - len(mine)))
        table = self.at([told[index].share for index in kept], [trials[index] for index in of[kept]])
        return table, _values(told, tasks)[kept]

    def scores(self, task: str, values: Array) -> list[float]:
        """Returns the scores that such values stand for: the quantiles of the task's reports so far, where a diverged
        trial counts as the lowest score. Empty if the task has no score yet."""
        told = [told.score for trial in self.trials() if trial.task == task for told in trial.reports]
        lowest = min(filter(isfinite, told), default=None)
        if lowest is None:
            return []
        known = [score if isfinite(score) else lowest for score in told]
        return [float(score) for score in np.quantile(known, ndtr(values))]

    def at(self, shares: Sequence[float], trials: Sequence[Trial]) -> Array:
        """Returns a row (n, d) per trial, each at its share of the full budget."""
        beside = [self._share_and_task(trial.task, share) for trial, share in zip(trials, shares, strict=True)]
        return np.hstack([[trial.coordinates for trial in trials], beside])

    def complete(self, coordinates: Array, task: str) -> Array:
        """Returns rows (n, d) of points (n, c) of a task at the full budget."""
        return np.hstack([coordinates, np.tile(self._share_and_task(task, 1.0), (len(coordinates), 1))])

    def _share_and_task(self, task: str, share: float) -> list[float]:
        """Returns what a row has beside a point's coordinates: the share's logarithm, and the task."""
        return [1 - log(share) / log(SMALLEST_SHARE), *(float(task == each) for each in self._tasks)]


def _evenly(indices: Indices, most: int) -> Indices:
    """Returns at most that many of the indices, evenly taken."""
    kept: Indices = indices[np.linspace(0, len(indices) - 1, min(most, len(indices))).round().astype(int)]
    return kept


def _values(told: Sequence[Observation], tasks: Indices) -> Array:
    """Returns the normal quantile (n,) of each report among its task's."""
    places, values = np.array([each.place for each in told]), np.empty(len(told))
    for task in np.unique(tasks):
        own = tasks == task
        values[own] = ndtri((_ranks(places[own]) - 0.5) / own.sum())
    return np.clip(values, -WORST, WORST)


def _ranks(places: Array) -> Array:
    """Returns the ranks (n,) of pairs (n, 2), from 1; equal pairs share their mean rank."""
    _, order = np.unique(places.view(np.complex128), return_inverse=True)  # complex numbers are ordered as pairs
    ranks: Array = rankdata(order.ravel())
    return ranks
