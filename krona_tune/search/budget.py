"""Computes what a study may use, what all its drivers have used by its clock, and what its finals will still need."""

import json
import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path

from krona_tune.atomic_write import write_atomically
from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import FULL_TRAININGS
from krona_tune.study.request.search_spec import SearchSpec
from krona_tune.study.result import TrialResult


@dataclass(frozen=True, kw_only=True)
class Amount:
    """Time on the clock, training examples, and hours of devices (GPUs, or CPU cores if trials get no GPU)."""

    seconds: float = 0.0
    examples: float = 0.0
    device_hours: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Converts examples to time: devices per trial and trials at once."""

    devices: float
    slots: int


RAISED_BY = {
    "time": "--time-budget",
    "examples": "--set search.examples_budget=…",
    "device hours": "--set search.device_hours=…",
}
"""By the name of a limit, in words, what raises it."""


def _words(limit: str) -> str:
    """Returns the name of a limit in words."""
    return "time" if limit == "seconds" else limit.replace("_", " ")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits of a study; None means no limit."""

    seconds: float | None = None
    examples: float | None = None
    device_hours: float | None = None

    @staticmethod
    def of(search: SearchSpec) -> "Budget":
        """Returns the limits that a request sets."""
        return Budget(seconds=search.time_budget, examples=search.examples_budget, device_hours=search.device_hours)

    def times(self, share: float) -> "Budget":
        """Returns this share of every limit."""
        return Budget(**{name: None if limit is None else share * limit for name, limit in vars(self).items()})

    def used_up(self, *amounts: Amount) -> str | None:
        """Returns the name of the first limit that the amounts together reach, in words; None if there is none."""
        for name, limit in vars(self).items():
            if limit is not None and sum(getattr(amount, name) for amount in amounts) >= limit:
                return _words(name)
        return None

    def cut(self, whole: Amount) -> tuple[Amount, str]:
        """Returns what is used of an amount until the first limit is reached, as if all its parts grew alike, and the
        name of that limit, in words; the amount and an empty text if none is exceeded."""
        limits = {name: limit for name, limit in vars(self).items() if limit is not None}
        shares = {name: limit / used for name, limit in limits.items() if (used := getattr(whole, name)) > limit}
        first = min(shares, key=lambda name: shares[name], default="")
        share = shares.get(first, 1.0)
        return Amount(**{name: share * used for name, used in vars(whole).items()}), _words(first)

    def seconds_left(self, used: Amount, rates: Rates) -> float:
        """Returns in how many seconds on the clock the first limit is reached, if all slots train until then at the
        pace so far; infinite if none will be."""
        hours = [] if self.device_hours is None else [self.device_hours - used.device_hours]
        if self.examples is not None and used.examples:
            hours.append((self.examples - used.examples) * used.device_hours / used.examples)
        seconds = [each * 3600 / (rates.devices * rates.slots) for each in hours]
        if self.seconds is not None:
            seconds.append(self.seconds - used.seconds)
        return max(0.0, min(seconds, default=inf))


def spent(rows: Mapping[str, TrialResult], seconds: float) -> Amount:
    """Returns what the rows have used so far, full trainings left out; `seconds` is the time on the study's clock."""
    everyone = [row for row in list(rows.values()) if row.kind not in FULL_TRAININGS]
    return Amount(
        seconds=seconds,
        examples=sum(row.own_examples for row in everyone),
        device_hours=sum(row.device_seconds for row in everyone) / 3600,
    )


def time_is_up(search: SearchSpec, folder: StudyFolder) -> bool:
    """Returns whether a study's clock has reached its limit."""
    return search.time_budget is not None and _read(folder.clock) >= search.time_budget


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
        if row.own_examples and not row.head_alone:
            busy[row.task] += row.busy_seconds
            examples[row.task] += row.own_examples
    return {task: busy[task] / count for task, count in examples.items()}


logger = logging.getLogger(__name__)

SAVE_SECONDS = 5.0
"""The time between two writes: at most this much of a killed driver's time is not counted."""


class StudyClock:
    """A clock that starts at what earlier drivers wrote into the study's folder; at 0 if the file can't be read.

    Args:
        counts: the study's own budget pays for this driver; otherwise, as in a full training, nothing is written.
        began: when the driver's command began, by `time.monotonic`; None: now.
    """

    def __init__(self, path: Path, *, counts: bool = True, began: float | None = None) -> None:
        self._path, self._earlier, self._counts = path, _read(path), counts
        self._saved_at = time.monotonic()
        self._began = self._saved_at if began is None else began
        self._stood: float | None = None

    def seconds(self) -> float:
        """Returns the seconds of this driver and those before it, without those for which it stood still."""
        return self._earlier + (self._stood or time.monotonic()) - self._began

    def stand(self, still: bool) -> None:
        """Stops counting, or counts again, as when a study is paused."""
        if still and self._stood is None:
            self._stood = time.monotonic()
        elif not still and self._stood is not None:
            self._began += time.monotonic() - self._stood
            self._stood = None

    def save(self, *, now: bool = False) -> None:
        """Writes the seconds if the last write was at least SAVE_SECONDS ago or `now` is true."""
        if not self._counts or (not now and time.monotonic() - self._saved_at < SAVE_SECONDS):
            return
        self._saved_at = time.monotonic()
        try:
            write_atomically(self._path, json.dumps({"seconds": round(self.seconds(), 1)}) + "\n")
        except OSError as error:
            logger.warning("%s could not be written: %s", self._path, error)


def _read(path: Path) -> float:
    try:
        return max(0.0, float(json.loads(path.read_text(encoding="utf-8"))["seconds"]))
    except (OSError, ValueError, TypeError, KeyError):
        return 0.0
