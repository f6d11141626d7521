"""Turns the time of trials into money, if the request names the price of a device hour."""

from collections.abc import Iterable
from dataclasses import dataclass

from krona_tune.study.formatting import format_money
from krona_tune.study.request.study_spec import ResourcesSpec
from krona_tune.study.result import TrialResult


@dataclass(frozen=True, kw_only=True)
class Price:
    """The price of an hour of one device: of a GPU, or of a CPU core if a trial has no GPU."""

    per_hour: float

    def of(self, trials: Iterable[TrialResult]) -> float:
        """Returns what the trials cost so far, in the currency of the price."""
        return self.of_hours(sum(trial.device_seconds for trial in trials) / 3600)

    def of_hours(self, device_hours: float) -> float:
        return self.per_hour * device_hours

    @property
    def said(self) -> str:
        """Returns the price in words."""
        return f"{format_money(self.per_hour)} a device hour"


def price_of(resources: ResourcesSpec) -> Price | None:
    """Returns the price that the request names, if it does."""
    return None if resources.price_per_hour is None else Price(per_hour=resources.price_per_hour)
