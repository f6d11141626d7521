"""Computes what a study may use, what it has used, and what its finals will still need."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from krona_tune.study.kinds import UNCOUNTED
from krona_tune.study.request.trial import BASELINE
from krona_tune.study.result import TrialResult


@dataclass(frozen=True, kw_only=True)
class Amount:
    """Time on the clock, training examples, and hours of devices (GPUs, or CPU cores if trials get no GPU)."""

    seconds: float = 0.0
    examples: float = 0.0
    device_hours: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits of a study; None means no limit."""

    seconds: float | None = None
    examples: float | None = None
    device_hours: float | None = None

    def used_up(self, *amounts: Amount) -> str | None:
        """Returns the name of the first limit that the amounts together reach, in words; None if there is none."""
        for name, limit in vars(self).items():
            if limit is not None and sum(getattr(amount, name) for amount in amounts) >= limit:
                return name.replace("_", " ")
        return None


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What converts examples to time: devices per trial and trials at once."""

    devices: float
    slots: int


def spent(rows: Mapping[str, TrialResult], seconds: float) -> Amount:
    """Returns what the rows have used so far, full trainings left out; `seconds` is the time on the study's clock."""
    everyone = [row for row in list(rows.values()) if row.kind not in UNCOUNTED]
    return Amount(
        seconds=seconds,
        examples=sum(row.own_examples for row in everyone),
        device_hours=sum(row.device_seconds for row in everyone) / 3600,
    )


def needed(
    rows: Mapping[str, TrialResult],
    full: Mapping[str, int],
    trials: Mapping[str, int],
    rates: Rates,
    foretold: Mapping[str, float],
) -> Amount:
    """Returns what full trials will need, from the seconds per example that a task's rows took so far.

    However many run at once, they need the time of the longest.

    Args:
        full: training examples of a full trial, by task.
        trials: how many will be trained, by task.
        foretold: forecast seconds per example by task, for tasks without a row yet.
    """
    known = _seconds_an_example(rows)
    seconds = {task: full[task] * (known.get(task) or foretold.get(task, 0.0)) for task in trials}
    busy = sum(count * seconds[task] for task, count in trials.items())
    return Amount(
        seconds=max(busy / rates.slots, *seconds.values(), 0.0),
        examples=sum(full[task] * count for task, count in trials.items()),
        device_hours=busy * rates.devices / 3600,
    )


def _seconds_an_example(rows: Mapping[str, TrialResult]) -> dict[str, float]:
    """Returns the seconds per example of each task's trials, the head alone excluded, if it has rows with examples."""
    busy: dict[str, float] = defaultdict(float)
    examples: dict[str, int] = defaultdict(int)
    for row in list(rows.values()):
        if row.own_examples and row.params.get("method") != BASELINE:
            busy[row.task] += row.busy_seconds
            examples[row.task] += row.own_examples
    return {task: busy[task] / count for task, count in examples.items()}
