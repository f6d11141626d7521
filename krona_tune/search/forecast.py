"""Forecasts the seconds of a trial and a study from the lengths of their sequences and a few timed steps."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise, takewhile
from math import floor, sqrt
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from krona_tune.data.batches import evaluation_order, lengths, training_order
from krona_tune.search.budget import Amount
from krona_tune.search.progress.trials_left import by_task_and_kind, trials_left
from krona_tune.search.searchers.asha_rule import judged_after
from krona_tune.study.kinds import PHASES, TrialKind, facts_of
from krona_tune.study.manifest import PlanFacts
from krona_tune.study.request.domain import Domain, Range
from krona_tune.study.request.schedule import Schedule
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.request.trial import HEAD_ONLY
from krona_tune.study.result import TrialResult
from krona_tune.study.study_state import Counts, running_trials

if TYPE_CHECKING:
    from krona_tune.search.startup.begin_study import Resources
    from krona_tune.search.startup.cluster import Slots
    from krona_tune.train.step_times import StepTime, StepTimes

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Load:
    """The load of batches: their number, their padded tokens, and the squared padded lengths, summed over rows."""

    steps: int
    tokens: int
    pairs: int

    @classmethod
    def of(cls, batches: Iterable[Ints], lengths: Ints) -> "Load":
        """Returns the load of batches, each an array of row numbers, given the length of every row."""
        sizes = np.array([(len(rows), max(1, lengths[rows].max())) for rows in batches], dtype=np.int64)
        rows, longest = sizes.reshape(-1, 2).T
        return cls(steps=len(sizes), tokens=int(rows @ longest), pairs=int(rows @ longest**2))


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds per training step whatever its size, per padded token, and per pair of tokens."""

    step: float
    token: float
    pair: float

    def seconds(self, load: Load) -> float:
        return self.step * load.steps + self.token * load.tokens + self.pair * load.pairs

    @classmethod
    def of(cls, timed: Iterable["StepTime"]) -> "Pace":
        """Returns the pace that best fits the timed steps, with no part negative."""
        from scipy.optimize import nnls

        steps = list(timed)
        seconds = np.array([step.seconds for step in steps])
        loads = np.array([(1, step.rows * step.length, step.rows * step.length**2) for step in steps], dtype=float)
        step, token, pair = nnls(loads / seconds[:, None], np.ones(len(steps)))[0]  # minimises relative errors
        return cls(step=float(step), token=float(token), pair=float(pair))


WIDEST = 4
"""Bytes of a stored number in the widest precision that a worker may have."""


@dataclass(frozen=True, kw_only=True)
class TrialParts:
    """Seconds of a trial's parts: an `epoch` of training, an `evaluation` on the validation half, one on the `test`
    half."""

    epoch: float
    evaluation: float
    test: float = 0.0

    def times(self, factor: float) -> "TrialParts":
        return TrialParts(epoch=factor * self.epoch, evaluation=factor * self.evaluation, test=factor * self.test)


@dataclass(frozen=True, kw_only=True)
class TaskForecast:
    """Seconds of one task: the parts of a trial with an `adapter` and of one with the `head` alone, and `filling`, in
    which the states that the head needs are computed once."""

    schedule: Schedule
    adapter: TrialParts
    head: TrialParts
    filling: float = 0.0

    def until(self, examples: float, *, baseline: bool = False, reported: float | None = None) -> float:
        """Returns a trial's seconds until it has seen `examples`, with its evaluations at rungs until then, or only at
        those up to `reported`."""
        parts, last = self.head if baseline else self.adapter, examples if reported is None else reported
        judged = sum(rung <= last for rung in self.schedule.reports)
        return parts.epoch * examples / self.schedule.examples_per_epoch + parts.evaluation * judged

    def search(self, trials: int, *, early_stopping: bool = True, taught: int = 0) -> float:
        """Returns the seconds of this many searched trials, some of which ASHA stops at each rung.

        Args:
            trials: their number.
            early_stopping: False if none is stopped.
            taught: how many of them are points of the recorded curves, which are not stopped.
        """
        whole = self.until(self.schedule.total_examples)
        if not early_stopping:
            return trials * whole
        rungs = (0, *self.schedule.rungs)
        remaining, total = float(trials - taught), taught * whole
        for below, rung in pairwise(rungs):
            total += remaining * (self.until(rung) - self.until(below))
            remaining = survivors(remaining, self.schedule.reduction)
        return total


START = 10.0
"""The most seconds that a worker takes from a trial's start to its first step."""
SLACK = 1e-6
"""Less than any trial, and more than the rounding of a sum of shares."""


class TrialPace(NamedTuple):
    """Holds how far a trial has come: the training examples that it has seen or copied, and the seconds it took."""

    row: TrialResult
    examples: float
    seconds: float

    @classmethod
    def reported(cls, row: TrialResult) -> "TrialPace":
        """Returns how far a trial's last report is."""
        return cls(row=row, examples=row.examples, seconds=row.busy_seconds)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The forecast seconds of a study, by task; `planned` is what its plan adds to its request. Ray's start, preflight
    and the report page are not included."""

    tasks: Mapping[str, TaskForecast]
    planned: PlanFacts = field(default_factory=PlanFacts)

    @classmethod
    def of(cls, resources: "Resources", probe: "StepTimes") -> "Forecast":
        """Returns the forecast for a study's data, batch size and schedules, at the pace that the probe measured."""
        from krona_tune.train.evaluate import EVALUATION_TOKENS
        from krona_tune.train.hidden_states import stored_bytes

        pace = Pace.of(probe.steps)
        tokens = EVALUATION_TOKENS["cuda" if resources.slots.gpus else "cpu"]
        batch_size = round(middle(resources.plan.spec.domains()["batch_size"]))
        limit, width = resources.plan.spec.resources.stored_states_gb * 1e9, resources.plan.geometry.width
        tests, found = resources.prepared.tests, {}

        def evaluating(table: pa.Table) -> float:
            return pace.seconds(Load.of(evaluation_order(lengths(table), tokens), lengths(table)))

        for task, work in resources.prepared.works.items():
            train, share = lengths(work.train), probe.forward_shares[task]
            epoch = pace.seconds(Load.of(training_order(train, batch_size, np.random.default_rng(0)), train))
            judged, tested = evaluating(work.validation), evaluating(tests[task]) if task in tests else 0.0
            fits = stored_bytes((work.train, work.validation), width, WIDEST) <= limit
            stored = probe.head_share is not None and fits
            head = probe.head_share if probe.head_share is not None and fits else share
            found[task] = TaskForecast(
                schedule=work.schedule,
                adapter=TrialParts(
                    epoch=epoch, evaluation=share * judged, test=probe.test_shares.get(task, share) * tested
                ),
                head=TrialParts(
                    epoch=head * epoch, evaluation=head * judged, test=probe.test_shares.get(task, head) * tested
                ),
                filling=share * (epoch + judged + tested) if stored else 0.0,
            )
        return cls(tasks=found, planned=resources.plan.planned)

    def trial(self, task: str, epochs: float) -> float:
        """Returns the seconds of one trial until it has trained `epochs`, with the evaluations at its rungs."""
        forecast = self.tasks[task]
        return forecast.until(epochs * forecast.schedule.examples_per_epoch)

    def study(self, spec: StudySpec, slots: "Slots") -> float:
        """Returns the seconds on the clock from the first trial's start to the last one's end."""
        parts = {(task, kind): n for task in spec.tasks for kind, (n, _) in self.parts(task, spec).items()}
        return self._on_the_clock(spec, {key: (n, min(n, 1)) for key, n in parts.items()}, slots.count)

    def may_add(self, spec: StudySpec, slots: "Slots") -> float:
        """Returns the seconds on the clock that finals add at most, where the best can't be told."""
        each = Counts.of(spec, self.planned).may_add
        return each * sum(self._whole(task, TrialKind.FINALIST, 0.0) for task in spec.tasks) / slots.count

    def device_hours(self, spec: StudySpec, slots: "Slots") -> float:
        """Returns the hours of GPUs, or of CPU cores if trials get no GPU."""
        return self.busy(spec) * slots.devices.count / 3600

    def busy(self, spec: StudySpec) -> float:
        """Returns the seconds of all the study's trials together."""
        return sum(count * seconds for task in spec.tasks for count, seconds in self.parts(task, spec).values())

    def amount(self, spec: StudySpec, slots: "Slots") -> Amount:
        """Returns what the whole study uses, if no limit of the request ends it."""
        per_example = {}
        for task, each in self.tasks.items():
            parts = TrialParts(epoch=each.schedule.examples_per_epoch, evaluation=0.0)
            per_example[task] = TaskForecast(schedule=each.schedule, adapter=parts, head=parts)
        examples = replace(self, tasks=per_example).busy(spec)  # at a second each
        seconds, hours = self.study(spec, slots), self.device_hours(spec, slots)
        return Amount(seconds=seconds, examples=examples, device_hours=hours)

    def left(
        self,
        spec: StudySpec,
        rows: Iterable[TrialResult],
        share_done: Callable[[str], float],
        slots: int,
        now: float,
        *,
        running: Collection[str] | None = None,
        search_over: bool = False,
    ) -> float:
        """Returns the seconds on the clock until the study's end, from what has been seen of its pace.

        A trial that waits to go on is as far as its last report.

        Args:
            rows: all of the study's so far.
            share_done: returns the progress of a running trial, from 0 to 1, by its name.
            slots: how many trials run at once.
            now: the time, in seconds since the epoch.
            running: the trials that run now, if others that have begun and not ended may wait to go on.
            search_over: whether nothing is left of the search, though not all its trials were run.
        """
        known = list(rows)
        now_running, by_reports = running_trials(known) if running is None else running, self.corrected(known)
        forecast = self._scaled(
            by_reports._seen(row, share_done, now) if row.trial_id in now_running else TrialPace.reported(row)
            for row in known
        )
        done = {row.trial_id: 1.0 if row.ended else forecast.share_of(row, share_done) for row in known}
        left = trials_left(spec, self.planned, known, done=lambda row: done[row.trial_id], search_over=search_over)
        begun = by_task_and_kind(row for row in known if row.trial_id in now_running)
        lacking = {key: [1 - done[row.trial_id] for row in begun.get(key, ())] for key in left}
        waiting = {key for key, n in left.items() if n > sum(lacking[key]) + SLACK}
        longest = {key: 1.0 if key in waiting else max(lacking[key], default=0.0) for key in left}
        return forecast._on_the_clock(spec, {key: (n, longest[key]) for key, n in left.items()}, slots)

    def _on_the_clock(self, spec: StudySpec, left: Mapping[tuple[str, str], tuple[float, float]], slots: int) -> float:
        """Returns the seconds on the clock of trials, by task and kind: their number, and what the longest still lacks.

        A phase begins when the one before has ended, and takes no less than the longest of its trials; those of a
        shared configuration are trained one after the other.
        """
        means = {(task, kind): mean for task in spec.tasks for kind, (_, mean) in self.parts(task, spec).items()}
        total = 0.0
        for phase in PHASES:
            of_phase = [(task, kind) for task in spec.tasks for kind in phase]
            busy = sum(left[key][0] * means[key] for key in of_phase)
            longest = {key: left[key][1] * self._whole(*key, means[key]) for key in of_phase}
            in_turn = sum(longest.get((task, TrialKind.SEARCH), 0.0) for task in spec.shared_by)
            total += max(busy / slots, in_turn, *longest.values())
        return total

    def _whole(self, task: str, kind: str, mean: float) -> float:
        """Returns the seconds of one trial that nothing stops; `mean` of a head alone, which nothing stops."""
        if kind == TrialKind.BASELINE:
            return mean
        forecast = self.tasks[task]
        return forecast.until(forecast.schedule.total_examples) + forecast.adapter.test * facts_of(kind).tested

    def _seen(self, row: TrialResult, share_done: Callable[[str], float], now: float) -> TrialPace:
        """Returns how far a running trial is, its progress since its last report included, and what seconds it took.

        Of a trial's seconds on the clock, START may have gone into its worker's start, and an evaluation may be going
        on: within that, the forecast holds.
        """
        reported = TrialPace.reported(row)
        if row.task not in self.tasks:
            return reported
        task, is_head = self.tasks[row.task], _is_head(row)
        examples = share_done(row.trial_id) * task.schedule.total_examples
        if examples <= max(row.examples, row.copied_examples):
            return reported
        clock = now - row.started_at - row.paused_seconds
        least = clock - START - (task.head if is_head else task.adapter).evaluation
        foretold = task.until(examples, baseline=is_head, reported=max(row.examples, row.copied_examples))
        foretold -= task.until(row.copied_examples, baseline=is_head)
        return TrialPace(row=row, examples=examples, seconds=min(max(foretold, least), max(clock, row.busy_seconds)))

    def share_of(self, row: TrialResult, share_done: Callable[[str], float]) -> float:
        """Returns how much of its full budget a trial that has not ended has trained, from 0 to 1."""
        if row.task not in self.tasks:
            return share_done(row.trial_id)
        trained = max(row.examples, row.copied_examples) / self.tasks[row.task].schedule.total_examples
        return max(share_done(row.trial_id), trained)

    def parts(self, task: str, spec: StudySpec) -> dict[str, tuple[int, float]]:
        """Returns, by kind of trial, how many a task has and the mean seconds of one.

        The finalists include those of the head alone.
        """
        forecast, each = self.tasks[task], Counts.of(spec, self.planned)
        full, head = (forecast.until(forecast.schedule.total_examples, baseline=head) for head in (False, True))
        tested, tested_head = full + forecast.adapter.test, head + forecast.head.test
        finals, search = each.finals + each.final_heads, spec.search
        if search.shared:
            searched = full * self._shared_reaching(task, spec)
        else:
            stops, taught = search.early_stopping, self.planned.taught
            searched = forecast.search(search.trials, early_stopping=stops, taught=taught)
        return {
            TrialKind.SEARCH: (each.searched, searched / search.trials),
            TrialKind.REPEAT: (each.repeats, full),
            TrialKind.BASELINE: (each.heads, head + forecast.filling / max(1, each.heads)),
            TrialKind.FINALIST: (finals, (each.finals * tested + each.final_heads * tested_head) / max(1, finals)),
        }

    def _shared_reaching(self, task: str, spec: StudySpec) -> float:
        """Returns how many of the configurations that all tasks share come to a task, on average: those with small
        budgets are first, and stop some of them between two tasks."""
        in_order = sorted(spec.tasks, key=lambda each: self.tasks[each].schedule.total_examples)
        place, reduction, reaching = in_order.index(task), spec.schedule.reduction, float(spec.search.trials)
        for _ in takewhile(lambda done: done <= place, judged_after(len(in_order), reduction)):
            reaching = survivors(reaching, reduction)
        return reaching

    def corrected(self, rows: Iterable[TrialResult]) -> "Forecast":
        """Returns the forecast scaled by what the rows took over what was forecast for them; unscaled without rows."""
        return self._scaled(map(TrialPace.reported, rows))

    def _scaled(self, rows: Iterable[TrialPace]) -> "Forecast":
        took, foretold = {True: 0.0, False: 0.0}, {True: 0.0, False: 0.0}
        alike: Counter[tuple[str, bool, float, int, int]] = Counter()  # most rows have come to one of a few rungs
        for seen in rows:
            row, copied = seen.row, seen.row.copied_examples
            if seen.examples > copied and row.task in self.tasks:
                is_head = _is_head(row)
                took[is_head] += seen.seconds
                alike[row.task, is_head, seen.examples, max(row.examples, copied), copied] += 1
        for (task, is_head, examples, reported, copied), count in alike.items():
            until = partial(self.tasks[task].until, baseline=is_head)
            foretold[is_head] += count * (until(examples, reported=reported) - until(copied))
        by = {kind: took[kind] / foretold[kind] if foretold[kind] else 1.0 for kind in (True, False)}
        scaled = {
            task: replace(each, adapter=each.adapter.times(by[False]), head=each.head.times(by[True]))
            for task, each in self.tasks.items()
        }
        return replace(self, tasks=scaled)


def _is_head(row: TrialResult) -> bool:
    return row.params.get("method") == HEAD_ONLY


def survivors(arrivals: float, reduction: int) -> float:
    """Returns how many of the trials that reach a rung one after the other continue under ASHA, on average.

    The first continues; a trial that finds m scores there continues if it is not below their quantile 1 - 1/reduction.
    For scores in random order the probability of that is ((m - 1)/reduction + 1) / (m + 1).
    """
    whole = floor(arrivals)
    chances = [((m - 1) / reduction + 1) / (m + 1) if m else 1.0 for m in range(whole + 1)]
    return sum(chances[:whole]) + (arrivals - whole) * chances[whole]


def middle(domain: Domain) -> float:
    """Returns the middle of a range on its own scale (linear or log), or the median of the other domains' values."""
    match domain:
        case Range(low, high, log=True):
            return sqrt(low) * sqrt(high)
        case Range(low, high):
            return low + (high - low) / 2
        case _:
            return float(median(map(float, domain.ends())))
