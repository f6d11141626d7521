"""Forecasts the seconds of a study from those of its trials' parts, and from how far its trials have come."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise, takewhile
from math import floor
from typing import TYPE_CHECKING, NamedTuple

from krona_tune.search.budget import Amount
from krona_tune.search.layer_passes import StudyPasses
from krona_tune.search.progress.trials_left import by_task_and_kind, trials_left
from krona_tune.search.searchers.asha_rule import judged_after
from krona_tune.study.kinds import FIRST_TRAINED, PHASES, TrialKind, facts_of
from krona_tune.study.manifest import PlanFacts
from krona_tune.study.proposer import Proposer
from krona_tune.study.request.schedule import Schedule
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.result import TrialResult
from krona_tune.study.study_state import Counts, running_trials

if TYPE_CHECKING:
    from krona_tune.search.startup.slots import Slots

DRAWN_FINALS = 0.4
"""The share of finals with a drawn adapter, where some are taught: none of the default, most of the winners."""


@dataclass(frozen=True, kw_only=True)
class TrialParts:
    """Seconds of a trial's parts: an `epoch` of training, an `evaluation` on the validation half, one on the `test`
    half."""

    epoch: float
    evaluation: float
    test: float = 0.0

    def times(self, factor: float) -> "TrialParts":
        return TrialParts(epoch=factor * self.epoch, evaluation=factor * self.evaluation, test=factor * self.test)

    def mixed(self, other: "TrialParts", share: float) -> "TrialParts":
        """Returns the mean parts of trials of which a `share` has the other parts."""
        own, theirs = self.times(1 - share), other.times(share)
        return TrialParts(
            epoch=own.epoch + theirs.epoch, evaluation=own.evaluation + theirs.evaluation, test=own.test + theirs.test
        )


@dataclass(frozen=True, kw_only=True)
class TaskForecast:
    """Seconds of one task: the parts of a trial with an `adapter` that is drawn, of one with a `taught` adapter, if
    there are any, of the `dearest` drawn one, if it is known, and of one with the `head` alone; and `filling`, by kind
    of trial, in which the states that such trials need are computed once."""

    schedule: Schedule
    adapter: TrialParts
    head: TrialParts
    taught: TrialParts | None = None
    dearest: TrialParts | None = None
    filling: Mapping[str, float] = field(default_factory=dict)

    @property
    def best(self) -> TrialParts:
        """Returns the parts of a trial of the default configuration, or of a good point: taught ones, if there are."""
        return self.taught or self.adapter

    @property
    def final(self) -> TrialParts:
        """Returns the mean parts of a finalist."""
        return self.best.mixed(self.adapter, DRAWN_FINALS)

    def dearest_final(self, winners: float) -> TrialParts:
        """Returns the mean parts of a finalist if the share that is not the default configuration has the dearest
        adapter."""
        return self.best.mixed(self.dearest or self.adapter, winners)

    def parts_of(self, row: TrialResult) -> TrialParts:
        """Returns the parts of a trial by its row."""
        if row.head_alone:
            return self.head
        return (
            self.best if row.proposed_by == Proposer.RECORDED_CURVES or row.kind != TrialKind.SEARCH else self.adapter
        )

    def until(self, examples: float, parts: TrialParts | None = None, reported: float | None = None) -> float:
        """Returns a trial's seconds until it has seen `examples`, with its evaluations at rungs until then, or only at
        those up to `reported`; of a drawn adapter, if no other `parts` are given."""
        parts, last = parts or self.adapter, examples if reported is None else reported
        judged = sum(rung <= last for rung in self.schedule.reports)
        return parts.epoch * examples / self.schedule.examples_per_epoch + parts.evaluation * judged

    def whole(self, parts: TrialParts) -> float:
        """Returns a trial's seconds if nothing stops it."""
        return self.until(self.schedule.total_examples, parts)

    def search(self, trials: int, *, early_stopping: bool = True, taught: int = 0) -> float:
        """Returns the seconds of this many searched trials, some of which ASHA stops at each rung.

        Args:
            trials: their number.
            early_stopping: False if none is stopped.
            taught: how many of them are points of the recorded curves, which are not stopped.
        """
        remaining, total = float(trials - taught), taught * self.whole(self.best)
        if not early_stopping:
            return total + remaining * self.whole(self.adapter)
        for below, rung in pairwise((0, *self.schedule.rungs)):
            total += remaining * (self.until(rung) - self.until(below))
            remaining = survivors(remaining, self.schedule.reduction)
        return total


def filling(
    passes: StudyPasses, counts: Counts, *, taught: int, once: float, tested: float, heads: bool
) -> dict[str, float]:
    """Returns by kind of trial the seconds in which the states that such trials are the first to need are computed.

    Args:
        taught: how many of the searched trials have a taught adapter.
        once: the seconds in which all layers pass the training and validation parts.
        tested: those of the test half.
        heads: whether the head alone reads stored states.
    """
    known = passes.taught is not None
    finals = passes.filled(0 if known else counts.finals, counts.finals if known else 0)
    return {
        TrialKind.BASELINE: once if heads and counts.heads else 0.0,
        TrialKind.SEARCH: passes.filled(counts.searched - taught, taught) * once,
        TrialKind.FINALIST: (finals + (1.0 if heads and counts.final_heads else 0.0)) * tested,
    }


START = 10.0
"""The most seconds that a worker takes from a trial's start to its first step."""
IDLE = 0.3
"""How much of its longest trial a phase's other slots have nothing to do at its end: the mean of twenty phases."""
PHASE = 6.0
"""The seconds in which the workers of a phase start."""
ADDED_SHARE = 0.2
"""How much of the seeds that finals may add they add: 17 of 84 in twelve studies of different kinds."""
AMONG_BEST = 2 / 3
"""Says how often a default configuration that the search tries is one of its task's best: in two of three replayed
finals with one finalist of five trials, and on five of eight tasks of the miniature."""
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

    def study(self, spec: StudySpec, slots: "Slots") -> float:
        """Returns the seconds on the clock from the start of the first workers to the last trial's end, with some of
        the seeds that finals may add."""
        counts = {(task, kind): n for task in spec.tasks for kind, (n, _) in self.parts(task, spec).items()}
        phases = sum(any(counts[task, kind] for task in spec.tasks for kind in phase) for phase in PHASES)
        trained = self._on_the_clock(spec, {key: (n, min(n, 1)) for key, n in counts.items()}, slots.count)
        return PHASE * phases + trained + ADDED_SHARE * self._may_add(spec) / slots.count

    def may_add(self, spec: StudySpec, slots: "Slots") -> float:
        """Returns the seconds on the clock that finals may add to the study's: where the best can't be told, or has
        the dearest adapter."""
        counts = Counts.of(spec, self.planned)
        finals = counts.finals - self._not_needed(spec)
        of_default = spec.finalists.seeds / max(1, finals) if self.planned.compares else 0.0
        winners = max(0.0, 1 - of_default)
        most = 0.0
        for task in spec.tasks:
            each = self.tasks[task]
            dearest = each.dearest_final(winners)
            least = finals + ADDED_SHARE * counts.may_add
            most += (counts.finals + counts.may_add) * (each.whole(dearest) + dearest.test) - least * self._final(task)
        return max(0.0, most) / slots.count

    def device_hours(self, spec: StudySpec, slots: "Slots") -> float:
        """Returns the hours of GPUs, or of CPU cores if trials get no GPU."""
        return self.busy(spec) * slots.devices.count / 3600

    def busy(self, spec: StudySpec) -> float:
        """Returns the seconds of all the study's trials together."""
        trained = sum(count * seconds for task in spec.tasks for count, seconds in self.parts(task, spec).values())
        return trained + ADDED_SHARE * self._may_add(spec)

    def _may_add(self, spec: StudySpec) -> float:
        """Returns the seconds of all trainings that finals add at most."""
        return Counts.of(spec, self.planned).may_add * sum(map(self._final, spec.tasks))

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
        for task in (task for task in spec.tasks if any(left[task, kind] for kind in FIRST_TRAINED)):
            left[task, TrialKind.FINALIST] = max(0.0, left[task, TrialKind.FINALIST] - self._not_needed(spec))
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
            longest = {key: left[key][1] * self._longest(*key) for key in of_phase}
            in_turn = sum(longest.get((task, TrialKind.SEARCH), 0.0) for task in spec.shared_by)
            waiting = (
                IDLE * (1 - 1 / slots) * max(longest.values(), default=0.0)
                if sum(left[key][0] for key in of_phase) > slots
                else 0.0
            )
            total += max(busy / slots + waiting, in_turn, *longest.values())
        return total

    def _longest(self, task: str, kind: str) -> float:
        """Returns the seconds of one trial that nothing stops, and that computes states for others."""
        forecast = self.tasks[task]
        if kind == TrialKind.BASELINE:
            return forecast.whole(forecast.head) + forecast.filling.get(kind, 0.0)
        return self._final(task) if facts_of(kind).tested else forecast.whole(forecast.adapter)

    def _final(self, task: str) -> float:
        """Returns the mean seconds of a finalist with an adapter."""
        forecast = self.tasks[task]
        return forecast.whole(forecast.final) + forecast.final.test

    def _seen(self, row: TrialResult, share_done: Callable[[str], float], now: float) -> TrialPace:
        """Returns how far a running trial is, its progress since its last report included, and what seconds it took.

        Of a trial's seconds on the clock, START may have gone into its worker's start, and an evaluation may be going
        on: within that, the forecast holds.
        """
        reported = TrialPace.reported(row)
        if row.task not in self.tasks:
            return reported
        task = self.tasks[row.task]
        parts = task.parts_of(row)
        examples = share_done(row.trial_id) * task.schedule.total_examples
        if examples <= max(row.examples, row.copied_examples):
            return reported
        clock = now - row.started_at - row.paused_seconds
        least = clock - START - parts.evaluation - task.filling.get(row.kind, 0.0)
        foretold = task.until(examples, parts, max(row.examples, row.copied_examples))
        foretold -= task.until(row.copied_examples, parts)
        return TrialPace(row=row, examples=examples, seconds=min(max(foretold, least), max(clock, row.busy_seconds)))

    def share_of(self, row: TrialResult, share_done: Callable[[str], float]) -> float:
        """Returns how much of its full budget a trial that has not ended has trained, from 0 to 1."""
        if row.task not in self.tasks:
            return share_done(row.trial_id)
        trained = max(row.examples, row.copied_examples) / self.tasks[row.task].schedule.total_examples
        return max(share_done(row.trial_id), trained)

    def _not_needed(self, spec: StudySpec) -> float:
        """Returns how many finals of a task are not expected, because the default configuration counts as one of the
        best."""
        finalists, planned = spec.finalists, self.planned
        counts = finalists.counted and planned.compares and planned.tries_default
        return AMONG_BEST * finalists.seeds if counts and 0 < finalists.top < spec.search.trials else 0.0

    def parts(self, task: str, spec: StudySpec) -> dict[str, tuple[float, float]]:
        """Returns, by kind of trial, how many a task is expected to have and the mean seconds of one.

        The finalists include those of the head alone.
        """
        forecast, each = self.tasks[task], Counts.of(spec, self.planned)
        head = forecast.whole(forecast.head)
        finals, search = each.finals - self._not_needed(spec), spec.search
        if search.shared:
            searched = forecast.whole(forecast.adapter) * self._shared_reaching(task, spec)
        else:
            stops, taught = search.early_stopping, self.planned.taught
            searched = (
                forecast.search(search.trials, early_stopping=stops, taught=taught) * each.searched / search.trials
            )
        seconds: dict[str, tuple[float, float]] = {
            TrialKind.SEARCH: (each.searched, searched),
            TrialKind.REPEAT: (each.repeats, each.repeats * forecast.whole(forecast.best)),
            TrialKind.BASELINE: (each.heads, each.heads * head),
            TrialKind.FINALIST: (
                finals + each.final_heads,
                finals * self._final(task) + each.final_heads * (head + forecast.head.test),
            ),
        }
        return {
            kind: (count, (total + forecast.filling.get(kind, 0.0)) / max(1, count))
            for kind, (count, total) in seconds.items()
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
        alike: Counter[tuple[str, bool, TrialParts, float, int, int]] = Counter()  # most rows are at one of a few rungs
        for seen in rows:
            row, copied = seen.row, seen.row.copied_examples
            if seen.examples > copied and row.task in self.tasks:
                is_head, parts = row.head_alone, self.tasks[row.task].parts_of(row)
                took[is_head] += seen.seconds
                alike[row.task, is_head, parts, seen.examples, max(row.examples, copied), copied] += 1
        for (task, is_head, parts, examples, reported, copied), count in alike.items():
            each = self.tasks[task]
            foretold[is_head] += count * (each.until(examples, parts, reported) - each.until(copied, parts))
        by = {kind: took[kind] / foretold[kind] if foretold[kind] else 1.0 for kind in (True, False)}
        scaled = {
            task: replace(
                each,
                adapter=each.adapter.times(by[False]),
                taught=each.taught and each.taught.times(by[False]),
                dearest=each.dearest and each.dearest.times(by[False]),
                head=each.head.times(by[True]),
            )
            for task, each in self.tasks.items()
        }
        return replace(self, tasks=scaled)


def survivors(arrivals: float, reduction: int) -> float:
    """Returns how many of the trials that reach a rung one after the other continue under ASHA, on average.

    The first continues; a trial that finds m scores there continues if it is not below their quantile 1 - 1/reduction.
    For scores in random order the probability of that is ((m - 1)/reduction + 1) / (m + 1).
    """
    whole = floor(arrivals)
    chances = [((m - 1) / reduction + 1) / (m + 1) if m else 1.0 for m in range(whole + 1)]
    return sum(chances[:whole]) + (arrivals - whole) * chances[whole]
