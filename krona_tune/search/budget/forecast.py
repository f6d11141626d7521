"""What a trial and a study will take, counted from the lengths of their sequences and a few timed steps."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from math import floor, sqrt
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from krona_tune.data.batches import evaluation_order, lengths, training_order
from krona_tune.search.planning.trial_counts import Counts
from krona_tune.study.result import TrialResult
from krona_tune.study.spec.domain import Domain, Range
from krona_tune.study.spec.schedule import Schedule
from krona_tune.study.spec.study_spec import StudySpec

if TYPE_CHECKING:
    from krona_tune.search.startup.cluster import Slots
    from krona_tune.search.startup.gather import Gathered
    from krona_tune.train.probe import Probe, Timed

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Load:
    """What batches hold: how many they are, their padded tokens, and the padded lengths' squares, row by row."""

    steps: int
    tokens: int
    pairs: int

    @classmethod
    def of(cls, batches: Iterable[Ints], lengths: Ints) -> "Load":
        """Of batches that are the rows of sequences with these lengths."""
        sizes = np.array([(len(rows), max(1, lengths[rows].max())) for rows in batches], dtype=np.int64)
        rows, longest = sizes.reshape(-1, 2).T
        return cls(steps=len(sizes), tokens=int(rows @ longest), pairs=int(rows @ longest**2))


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds that a training step takes whatever it holds, those a padded token, and those a pair of tokens."""

    step: float
    token: float
    pair: float

    def seconds(self, load: Load) -> float:
        return self.step * load.steps + self.token * load.tokens + self.pair * load.pairs

    @classmethod
    def of(cls, timed: Iterable["Timed"]) -> "Pace":
        """The pace that explains the timed steps, none of its parts negative."""
        from scipy.optimize import nnls

        steps = list(timed)
        seconds = np.array([step.seconds for step in steps])
        loads = np.array([(1, step.rows * step.length, step.rows * step.length**2) for step in steps], dtype=float)
        step, token, pair = nnls(loads / seconds[:, None], np.ones(len(steps)))[0]  # each step's own error counts
        return cls(step=float(step), token=float(token), pair=float(pair))


@dataclass(frozen=True, kw_only=True)
class TaskForecast:
    """Seconds of one task: an `epoch` of training an adapter, a `baseline_epoch` of training the head alone, and an
    `evaluation` on the validation half."""

    schedule: Schedule
    epoch: float
    baseline_epoch: float
    evaluation: float

    def until(self, examples: float, *, baseline: bool = False) -> float:
        """A trial's seconds until it has seen so many examples, with the evaluations at its rungs."""
        epoch = self.baseline_epoch if baseline else self.epoch
        judged = sum(rung <= examples for rung in self.schedule.rungs)
        return epoch * examples / self.schedule.examples_per_epoch + self.evaluation * judged

    def search(self, trials: int) -> float:
        """The seconds of so many trials of which ASHA stops some at each rung."""
        rungs = (0, *self.schedule.rungs)
        remaining, total = float(trials), 0.0
        for below, rung in pairwise(rungs):
            total += remaining * (self.until(rung) - self.until(below))
            remaining = survivors(remaining, self.schedule.reduction)
        return total


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Seconds that are to come, by task. Ray's start, preflight and the page are not in it."""

    tasks: Mapping[str, TaskForecast]

    @classmethod
    def of(cls, gathered: "Gathered", probe: "Probe") -> "Forecast":
        """For a study's data, batch size and schedules, at the pace that the probe found."""
        from krona_tune.train.evaluate import EVALUATION_TOKENS

        pace = Pace.of(probe.steps)
        tokens = EVALUATION_TOKENS["cuda" if gathered.slots.gpus else "cpu"]
        batch_size = round(middle(gathered.plan.spec.domains()["batch_size"]))
        found = {}
        for task, work in gathered.prepared.works.items():
            train, validation, share = lengths(work.train), lengths(work.validation), probe.forward_shares[task]
            order = training_order(train, batch_size, np.random.default_rng(0))
            epoch = pace.seconds(Load.of(order, train))
            judged = pace.seconds(Load.of(evaluation_order(validation, tokens), validation))
            found[task] = TaskForecast(
                schedule=work.schedule, epoch=epoch, baseline_epoch=share * epoch, evaluation=share * judged
            )
        return cls(tasks=found)

    def trial(self, task: str, epochs: float) -> float:
        """Seconds of one trial until it has trained so many epochs, evaluations at its rungs included."""
        forecast = self.tasks[task]
        return forecast.until(epochs * forecast.schedule.examples_per_epoch)

    def study(self, spec: StudySpec, slots: "Slots") -> float:
        """Seconds on the clock from the first trial's start to the last one's end."""
        longest = max(each.until(each.schedule.total_examples) for each in self.tasks.values())
        return max(self.busy(spec) / slots.count, longest)

    def device_hours(self, spec: StudySpec, slots: "Slots") -> float:
        """Hours of GPUs, or of CPU cores where trials get no GPU."""
        return self.busy(spec) * (slots.gpus or slots.cpus) / 3600

    def busy(self, spec: StudySpec) -> float:
        """The seconds of all the study's trials together."""
        return sum(count * seconds for task in spec.tasks for count, seconds in self.parts(task, spec).values())

    def left(
        self, spec: StudySpec, rows: Iterable[TrialResult], share_done: Callable[[str], float], slots: int
    ) -> float:
        """Seconds on the clock until the study's end, as far as its rows and its running trials have come."""
        known = list(rows)
        forecast = self.corrected(known)
        done: dict[tuple[str, str], float] = defaultdict(float)
        for row in known:
            done[row.task, row.kind] += share_done(row.trial_id) if row.ended_at is None else 1
        busy = 0.0
        for task in spec.tasks:
            for kind, (count, seconds) in forecast.parts(task, spec).items():
                busy += max(count - done[task, kind], 0.0) * seconds
        return busy / slots

    def parts(self, task: str, spec: StudySpec) -> dict[str, tuple[int, float]]:
        """By kind of trial: how many a task has, and the seconds of one on average.

        The head alone is among the finalists.
        """
        forecast, each = self.tasks[task], Counts.of(spec)
        full, head = (forecast.until(forecast.schedule.total_examples, baseline=head) for head in (False, True))
        finals = each.finals + each.final_heads
        return {
            "search": (each.searched, forecast.search(spec.search.trials) / spec.search.trials),
            "baseline": (each.heads, head),
            "finalist": (finals, (each.finals * full + each.final_heads * head) / max(1, finals)),
        }

    def corrected(self, rows: Iterable[TrialResult]) -> "Forecast":
        """By what the rows took beside what was foretold of them; unchanged while there are none."""
        took = foretold = 0.0
        for row in rows:
            if row.examples and row.task in self.tasks:
                took += row.train_seconds + row.evaluation_seconds
                foretold += self.tasks[row.task].until(row.examples, baseline=row.kind == "baseline")
        factor = took / foretold if foretold else 1.0
        return Forecast(tasks={task: _times(each, factor) for task, each in self.tasks.items()})


def survivors(arrivals: float, reduction: int) -> float:
    """How many of the trials that come to a rung one after the other ASHA lets go on, on average.

    The first goes on; one that finds m scores there goes on where it is not below their quantile 1 - 1/reduction,
    for which scores in random order give ((m - 1)/reduction + 1) / (m + 1).
    """
    whole = floor(arrivals)
    chances = [((m - 1) / reduction + 1) / (m + 1) if m else 1.0 for m in range(whole + 1)]
    return sum(chances[:whole]) + (arrivals - whole) * chances[whole]


def _times(forecast: TaskForecast, factor: float) -> TaskForecast:
    parts = ("epoch", "baseline_epoch", "evaluation")
    return replace(forecast, **{part: factor * getattr(forecast, part) for part in parts})


def middle(domain: Domain) -> float:
    """The middle of a range, on its own scale, or the median of other values."""
    match domain:
        case Range(low, high, log=True):
            return sqrt(low) * sqrt(high)
        case Range(low, high):
            return low + (high - low) / 2
        case _:
            return float(median(map(float, domain.ends())))
