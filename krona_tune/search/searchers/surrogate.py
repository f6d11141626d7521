"""Proposes the points of all tasks by one Gaussian process of the whole study, and says what it expects of knobs."""

import logging
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from math import log, nan, sqrt
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern, WhiteKernel

from krona_tune.backbones.geometry import Geometry
from krona_tune.record.records import Effect
from krona_tune.refusal import Refusal
from krona_tune.search.planning.earlier_study import EarlierStudy, points_by_task
from krona_tune.search.planning.space import EVEN_DRAWS, Params, Space
from krona_tune.search.searchers.history import Array, Encoder, History, Trial
from krona_tune.search.searchers.proposal import Origin, Proposal, adopt_points
from krona_tune.study.proposer import Proposer
from krona_tune.study.randomness import stream
from krona_tune.study.request.domain import Domain, Range, Value
from krona_tune.study.result import Report, Status, TrialResult, grouped

STEPS = 25
"""The most steps of the optimiser that fits the lengths."""
LENGTH, SPREAD = 0.6, 1.0
"""The prior of a length: log-normal around LENGTH·√d, with this deviation of its logarithm."""


def first_kernel(dimensions: int) -> Kernel:
    """Returns the kernel before anything is known: Matérn 5/2 with one length per coordinate, and noise."""
    lengths = np.full(dimensions, LENGTH * sqrt(dimensions))
    return ConstantKernel(1.0, (0.1, 4.0)) * Matern(lengths, (0.05, 50.0), nu=2.5) + WhiteKernel(0.2, (1e-2, 1.0))


def fitted_kernel(x: Array, y: Array, start: Kernel) -> Kernel:
    """Returns the kernel with the most probable lengths and noise, given rows x (n, d) with values y (n,)."""
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        # a length or the noise may end at its bound
        return _regressor(start, _most_probable).fit(x, y).kernel_


def condition(x: Array, y: Array, kernel: Kernel) -> GaussianProcessRegressor:
    """Returns the process with this kernel, conditioned on rows x (n, d) with values y (n,)."""
    return _regressor(kernel, None).fit(x, y)


def predict(process: GaussianProcessRegressor, x: Array) -> tuple[Array, Array]:
    """Returns the expected value and its deviation, without noise, of each row of x (n, d)."""
    noise = float(process.kernel_.k2.noise_level)
    mean, deviation = process.predict(x, return_std=True)
    return mean, np.sqrt(np.maximum(deviation**2 - noise, 1e-12))


def predict_mean(process: GaussianProcessRegressor, x: Array) -> tuple[float, float]:
    """Returns the expected mean of the rows of x (n, d) and its deviation, without noise."""
    mean, covariance = process.predict(x, return_cov=True)
    noise = float(process.kernel_.k2.noise_level) * len(x)
    return float(mean.mean()), float(np.sqrt(max(covariance.sum() - noise, 1e-12)) / len(x))


def _regressor(kernel: Kernel, optimizer: Any) -> GaussianProcessRegressor:
    return GaussianProcessRegressor(kernel, alpha=1e-8, optimizer=optimizer, copy_X_train=False)


def _most_probable(loss: Callable[[Array], tuple[float, Array]], start: Array, bounds: Array) -> tuple[Array, float]:
    """Minimises scikit-learn's loss over the logarithms (variance, lengths, noise) together with the lengths' prior."""
    lengths = slice(1, len(start) - 1)
    middle = log(LENGTH * sqrt(len(start) - 2))

    def with_prior(theta: Array) -> tuple[float, Array]:
        value, slope = loss(theta)
        off = (theta[lengths] - middle) / SPREAD
        slope = slope.copy()
        slope[lengths] += off / SPREAD
        return value + 0.5 * float(off @ off), slope

    found = minimize(with_prior, start, method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": STEPS})
    return found.x, float(found.fun)


logger = logging.getLogger(__name__)

EVEN_FIRST, EVEN_EVERY = 2, 8
"""A task's first trials that are even draws, and every how many it has another one, in case the surrogate is wrong."""
DRAWN, CHANGED, BEST = 500, 120, 3
"""Candidates that are even draws, those that are changes of good points, and how many of those are the task's own."""
CHANGED_BEFORE = 6
"""Limits how many of the points that were best in earlier studies are changed for one proposal."""
FIRST_FIT, GROWTH = 6, 1.4
"""Say when the kernel is fitted: first when FIRST_FIT trials are known, then after FIRST_FIT, FIRST_FIT·GROWTH,
FIRST_FIT·GROWTH² … of the study's own trials have ended."""
ROWS, ROWS_FITTED = 400, 180
"""The most rows that the process is conditioned on, and that its kernel is fitted to."""


class TransferSurrogate:
    """A Gaussian process over all reports of a study: their point, their share of the budget and their task.

    A candidate is judged by its expected improvement at the full budget on its task, over the expected score of the
    task's best point or, where every size counts, of the best one with no more parameters. Everything depends on the
    reports and their order alone, so that with one worker a resumed study proposes what an uninterrupted one would.

    Args:
        budgets: the examples of a full training, by task.
        earlier: studies whose tasks are further tasks, and whose best points are among the candidates; with one, no
            trial is drawn evenly at the beginning.
        every_size: whether the best score at every size is looked for.
    """

    def __init__(
        self,
        space: Space,
        budgets: Mapping[str, int],
        seed: int,
        earlier: Sequence[EarlierStudy] = (),
        *,
        every_size: bool = False,
    ) -> None:
        self._space, self._seed, self._every_size = space, seed, every_size
        self._encode = Encoder(space, seed)
        # two folders may hold studies of one name
        earlier = [replace(study, name=f"{number} {study.name}") for number, study in enumerate(earlier)]
        further = {study.task(task): budget for study in earlier for task, budget in study.budgets.items()}
        self.history = History(self._encode, budgets, further)
        self._even_first = 0 if earlier else EVEN_FIRST
        best = [(task, points[0]) for study in earlier for task, points in points_by_task(study.rows).items()]
        self._best_before = adopt_points(space, (params for _, params in best))
        self._own_before = {
            task: adopt_points(space, (params for of, params in best if of == task)) for task in budgets
        }
        for study in earlier:
            self._learn(study)
        self._kernels: dict[int, Kernel] = {}
        rng = random.Random(stream(seed, "even candidates"))
        self._even = self._encoded(space.draw(rng) for _ in range(4 * DRAWN))

    def recall(self, rows: Iterable[TrialResult], reports: Iterable[Report]) -> None:
        """Adds the searched trials of an interrupted study from its records, in the order of their ends."""
        searched = (row for row in rows if row.searched)
        self._add([replace(row, params=self._space.adopted(row.params) or row.params) for row in searched], reports)

    def _learn(self, study: EarlierStudy) -> None:
        """Adds an earlier study's trials that have ended, under names of their own; those whose sizes fit no map of its
        backbone, as far as it is known, are left out."""
        reports = grouped(study.reports, lambda report: report.trial_id)
        for row in study.rows:
            if row.ended:
                named = replace(row, trial_id=study.task(row.trial_id), task=study.task(row.task))
                own = (replace(each, trial_id=named.trial_id) for each in reports[row.trial_id])
                with suppress(Refusal):
                    self._add([named], own, study.geometry)

    def _add(self, rows: Sequence[TrialResult], reports: Iterable[Report], geometry: Geometry | None = None) -> None:
        known = sorted(rows, key=lambda row: row.ended_at or 0.0)
        for row in known:
            self.history.begin(row.trial_id, row.task, row.params, geometry)
        reported: dict[str, int] = {row.trial_id: 0 for row in known}
        for report in sorted(reports, key=lambda report: report.examples):
            if report.trial_id in reported:
                reported[report.trial_id] = report.examples
                self.history.report(report.trial_id, report.examples, report.score, report.train_loss)
        for row in known:
            if row.score is not None and row.examples > reported[row.trial_id]:  # its reports were damaged
                self.history.report(row.trial_id, row.examples, row.score, nan)
            if row.ended:
                lacked_memory = row.status.worst and geometry is None  # another study's device may have been smaller
                self.history.end(row.trial_id, diverged=row.status is Status.DIVERGED or lacked_memory)

    def suggest(self, task: str, number: int) -> Iterator[Proposal]:
        """Yields points for a task's trial of that number, the most promising first; none if the surrogate fails.

        What was best on a task of that name in earlier studies comes before what the surrogate proposes; while it knows
        too little, what was best on any task does. They are yielded again and again: who asks knows what was tried.
        """
        unknown = self.history.known < FIRST_FIT
        yield from self._own_before[task]
        yield from self._best_before if unknown else ()
        if number < self._even_first or number % EVEN_EVERY == EVEN_EVERY - 1 or unknown:
            yield from self._drawn(task, number)
            return
        try:
            yield from self._ranked(task, number)
        except (ValueError, np.linalg.LinAlgError):
            logger.exception("the model of the study could not be fitted for trial %d of %s", number, task)

    def average(self, task: str, points: Sequence[Params]) -> tuple[float, float, float] | None:
        """Returns the mean expected score of the points at the full budget, one deviation less, itself, and one more;
        None if the surrogate knows too little, or no point's sizes fit."""
        history = self.history
        _, coordinates = self._encoded(points)
        if not len(coordinates) or history.known < FIRST_FIT:
            return None
        rows, values = history.rows(history.trials(), ROWS, task)
        mean, deviation = predict_mean(condition(rows, values, self._kernel()), history.complete(coordinates, task))
        scores = history.scores(task, np.array([mean - deviation, mean, mean + deviation]))
        return (scores[0], scores[1], scores[2]) if scores else None

    def _drawn(self, task: str, number: int) -> Iterator[Proposal]:
        rng = random.Random(stream(self._seed, "even draw", task, number))
        return (Proposal(self._space.draw(rng), Origin(proposed_by=Proposer.EVEN_DRAW)) for _ in range(EVEN_DRAWS))

    def _ranked(self, task: str, number: int) -> Iterator[Proposal]:
        """Returns the candidates; trials that have not reported yet count at what is expected of them."""
        history, trials = self.history, self.history.trials()
        kernel = self._kernel()
        rows, values = history.rows(trials, ROWS, task)
        process = condition(rows, values, kernel)
        awaited = [trial for trial in trials if trial.running and not trial.reports]
        if awaited:
            expected = history.at([1.0] * len(awaited), awaited)
            rows, values = np.vstack([rows, expected]), np.append(values, predict(process, expected)[0])
            process = condition(rows, values, kernel)
        own = [trial for trial in trials if trial.task == task and trial.reports]
        points, coordinates = self._candidates(task, number, own)
        mean, deviation = predict(process, history.complete(coordinates, task))
        expected = predict(process, history.at([1.0] * len(own), own))[0] if own else np.zeros(1)
        best = self._best_no_larger(points, own, expected) if self._every_size else expected.max()
        gain = (mean - best) / deviation
        improvement = deviation * (gain * norm.cdf(gain) + norm.pdf(gain))
        ranked = np.argsort(-improvement, kind="stable")
        return (Proposal(points[index], self._origin(task, mean[index], deviation[index])) for index in ranked)

    def _best_no_larger(self, points: Sequence[Params], own: Sequence[Trial], expected: Array) -> Array:
        """Returns the highest expected value (n,) of a task's own trials with no more parameters than each point, or
        that of a middle trial, 0, if it is higher or there is none."""
        sizes = [self._space.parameters(trial.params) for trial in own]
        known = sorted(zip(sizes, expected, strict=False))
        limits = [0, *(size for size, _ in known)]
        best = np.maximum.accumulate([0.0, *(value for _, value in known)])
        places = np.searchsorted(limits, [self._space.parameters(point) for point in points], side="right")
        found: Array = best[places - 1]
        return found

    def _origin(self, task: str, mean: float, deviation: float) -> Origin:
        """Returns the surrogate's expectation in the task's own scores, if it has any."""
        scores = self.history.scores(task, np.array([mean - deviation, mean, mean + deviation]))
        if not scores:
            return Origin(proposed_by=Proposer.STUDY_MODEL)
        low, middle, high = scores
        return Origin(proposed_by=Proposer.STUDY_MODEL, expected_score=middle, expected_deviation=(high - low) / 2)

    def _kernel(self) -> Kernel:
        """Returns the kernel that was fitted at the last of the fixed numbers of ended trials."""
        until = last_fit(self.history.ends, self.history.ends_before)
        if until not in self._kernels:
            rows, values = self.history.rows(self.history.trials(until), ROWS_FITTED)
            self._kernels[until] = fitted_kernel(rows, values, first_kernel(rows.shape[1]))
        return self._kernels[until]

    def _candidates(self, task: str, number: int, own: Sequence[Trial]) -> tuple[list[Params], Array]:
        """Returns points and their coordinates (n, c): even draws, the best of each task of the earlier studies, and
        changes of these and of the task's best points so far."""
        rng = random.Random(stream(self._seed, "candidates", task, number))
        points, coordinates = self._even
        chosen = rng.sample(range(len(points)), min(DRAWN, len(points)))
        best = sorted(own, key=lambda trial: trial.reports[-1].place, reverse=True)[:BEST]
        before = [each.point for each in self._best_before]
        changeable = rng.sample(before, CHANGED_BEFORE) if len(before) > CHANGED_BEFORE else before
        good = [*(trial.params for trial in best), *changeable]
        changed = (self._changed(params, rng) for params in good for _ in range(CHANGED // len(good)))
        near, beside = self._encoded(chain(before, changed))
        return [*(points[index] for index in chosen), *near], np.vstack([coordinates[chosen], beside])

    def _encoded(self, points: Iterable[Params]) -> tuple[list[Params], Array]:
        """Returns the points whose sizes fit, and their coordinates (n, c)."""
        fitting: list[tuple[Params, Array]] = []
        for point in points:
            with suppress(Refusal):
                fitting.append((point, self._encode(point)))
        rows = np.array([row for _, row in fitting]).reshape(len(fitting), self._encode.width)
        return [point for point, _ in fitting], rows

    def _changed(self, params: Params, rng: random.Random) -> Params:
        """Returns a point with one or two of its values drawn anew."""
        labels = sorted(self._space.drawn(params))
        return self._space.changed(params, rng.sample(labels, min(len(labels), rng.choice((1, 2)))), rng)


def last_fit(ended: int, before: int) -> int:
    """Returns after how many of the study's ends the kernel was fitted last: as soon as FIRST_FIT trials are known,
    with those `before` the study, and after each FIRST_FIT·GROWTHᵏ, rounded down."""
    last, at = max(0, FIRST_FIT - before), float(FIRST_FIT)
    while int(at) <= ended:
        last, at = max(last, int(at)), at * GROWTH
    return last


POINTS, GRID_STEPS, BELOW_ONE = 30, 6, 1 - 1e-9
"""The points over which the mean is taken, the values of a range, and the greatest share of a domain."""


def effects(surrogate: TransferSurrogate, space: Space, task: str, seed: int) -> list[Effect]:
    """Returns the effect of each value of each searched knob on a task; none if the surrogate knows no score of it."""
    rng = random.Random(stream(seed, "effects"))
    points = [point for point in (space.draw(rng) for _ in range(4 * POINTS)) if space.feasible(point)][:POINTS]
    found = []
    for label, domain in space.searched().items():
        for value in _values(domain):
            group = [changed for point in points if (changed := _with(space, point, label, value))]
            average = surrogate.average(task, group) if group else None
            if average:
                low, expected, high = average
                number = None if isinstance(value, bool | str) else float(value)
                found.append(
                    Effect(
                        task=task, knob=label, value=str(value), number=number, expected=expected, low=low, high=high
                    )
                )
    return found


def _values(domain: Domain) -> Iterator[Value]:
    if isinstance(domain, Range):
        return (domain.at(min(step / (GRID_STEPS - 1), BELOW_ONE)) for step in range(GRID_STEPS))
    return iter(domain.ends())


def _with(space: Space, point: Params, label: str, value: Value) -> Params | None:
    """Returns the point with this value; None if it has no such knob or does not fit then."""
    drawn = space.drawn(point)
    if label not in drawn or (label == "method" and value != point["method"]):
        return None
    drawn[label] = value
    changed = space.point(lambda each, _: drawn[each])
    return changed if space.feasible(changed) else None
