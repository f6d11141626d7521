"""Computes what a study cost: device time, wall time, memory, and what early stopping saved."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from krona_tune.report.task_summary import TaskSummary
from krona_tune.study.devices import UNKNOWN, Devices, Price, price_of
from krona_tune.study.manifest import Manifest
from krona_tune.study.request.loader import read_section
from krona_tune.study.request.study_spec import ResourcesSpec
from krona_tune.study.result import Status, TrialResult


@dataclass(frozen=True, kw_only=True)
class DeviceRates:
    """Holds the devices of each trial whose row does not say what it had, and the price of a device, if known."""

    unrecorded: Devices = UNKNOWN
    price: Price | None = None

    def filled_in(self, trials: Iterable[TrialResult]) -> list[TrialResult]:
        """Completes the devices of the trials whose rows do not say what they had."""
        return list(map(self.unrecorded.filled_in, trials))


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of some trials. Seconds are sums over trials, those of devices over each trial's devices too;
    `wall_seconds` are those in which at least one of the ended trials ran. `devices` says what they had when they ran
    last. `money` is None without a price."""

    trials: int
    train_seconds: float
    evaluation_seconds: float
    device_seconds: float
    wall_seconds: float
    peak_memory_bytes: int
    devices: tuple[str, ...] = ()
    money: float | None = None


def device_rates(asked: Mapping[str, Any], manifest: Manifest) -> DeviceRates:
    """Returns what a request says of devices and their price. Raises a Refusal if that can't be read."""
    keys = ("cpus_per_trial", "gpus_per_trial", "price_per_hour")
    resources = read_section(asked, "resources", ResourcesSpec, *keys)
    return DeviceRates(unrecorded=manifest.unrecorded_devices(resources), price=price_of(resources))


def total_cost(trials: Sequence[TrialResult], rates: DeviceRates) -> Cost:
    counted = rates.filled_in(trials)
    return Cost(
        trials=len(trials),
        train_seconds=sum(trial.train_seconds for trial in trials),
        evaluation_seconds=sum(trial.evaluation_seconds for trial in trials),
        device_seconds=sum(trial.device_seconds for trial in counted),
        wall_seconds=_under_way(trials),
        peak_memory_bytes=max((trial.peak_memory_bytes for trial in trials), default=0),
        devices=tuple(dict.fromkeys(Devices.of(trial).text for trial in counted)),
        money=rates.price.of(counted) if rates.price else None,
    )


def _under_way(trials: Sequence[TrialResult]) -> float:
    """Returns the length of the union of the trials' time spans; the pause between two drivers does not count."""
    spans = sorted(
        (t.started_at + t.paused_seconds, t.ended_at) for t in trials if t.started_at and t.ended_at is not None
    )
    total, until = 0.0, 0.0
    for start, end in spans:
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def saved_by_stopping(summary: TaskSummary, trials: Sequence[TrialResult]) -> float | None:
    """Returns the share of the searched trials' full budget, in training examples, that early stopping saved.

    None if the full budget is not known or no searched trial was completed or stopped early. What a person stopped
    does not count.
    """
    judged = {Status.COMPLETED, Status.STOPPED_EARLY}
    searched = [trial for trial in trials if trial.searched and trial.status in judged]
    full = summary.facts.rungs[-1] if summary.facts and summary.facts.rungs else 0
    if not searched or not full:
        return None
    left = sum(full - trial.examples for trial in searched if trial.status is Status.STOPPED_EARLY)
    return left / (full * len(searched))
