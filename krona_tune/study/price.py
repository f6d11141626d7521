"""Turns the time of trials into money, if the request names the price of a device hour."""

from collections.abc import Iterable
from dataclasses import dataclass

from krona_tune.study.formatting import format_money
from krona_tune.study.result import TrialResult
from krona_tune.study.spec.study_spec import ResourcesSpec


@dataclass(frozen=True, kw_only=True)
class Price:
    """The price of an hour of one device, and how many devices a trial has: GPUs, or CPU cores if it has no GPU."""

    per_hour: float
    devices: float

    def of(self, trials: Iterable[TrialResult]) -> float:
        """Returns what the trials cost so far, in the currency of the price."""
        busy = sum(trial.train_seconds + trial.evaluation_seconds for trial in trials)
        return self.of_hours(busy * self.devices / 3600)

    def of_hours(self, device_hours: float) -> float:
        return self.per_hour * device_hours

    @property
    def said(self) -> str:
        """Returns the price in words."""
        return f"{format_money(self.per_hour)} a device hour"


def price_of(resources: ResourcesSpec, *, gpu: bool) -> Price | None:
    """Returns the price that the request names, if it does; `gpu`: trials have GPUs."""
    if resources.price_per_hour is None:
        return None
    return Price(per_hour=resources.price_per_hour, devices=devices_of(resources, gpu=gpu))


def devices_of(resources: ResourcesSpec, *, gpu: bool) -> float:
    """Returns how many devices a trial has; `gpu`: trials have GPUs, one each if the request names no number."""
    return resources.gpus_per_trial or 1.0 if gpu else resources.cpus_per_trial
