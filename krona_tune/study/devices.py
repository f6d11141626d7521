"""Says how many GPUs or CPU cores each trial has, counts what trials use of them, and turns that into money."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from krona_tune.study.formatting import format_money
from krona_tune.study.request.study_spec import ResourcesSpec
from krona_tune.study.result import TrialResult

_WORDS = {"cuda": "GPU", "cpu": "CPU core"}


@dataclass(frozen=True, kw_only=True)
class Devices:
    """The devices of each trial of one start: so many GPUs, or shares of one, if `kind` is cuda, else CPU cores."""

    kind: str
    count: float

    @classmethod
    def of(cls, row: TrialResult) -> "Devices":
        """Returns what a trial had when it ran last."""
        return cls(kind=row.device, count=row.devices)

    @property
    def text(self) -> str:
        """Returns them in words, such as "2 GPUs"; empty if they are not known."""
        return f"{self.count:g} {_WORDS.get(self.kind, 'device')}{'' if self.count == 1 else 's'}" if self.count else ""

    def given_to(self, row: TrialResult) -> TrialResult:
        """Returns the row of a trial that begins, or goes on, with these devices."""
        return replace(row, device=self.kind, devices=self.count)

    def filled_in(self, row: TrialResult) -> TrialResult:
        """Returns a row that does not say what it used as if it had these devices from its start; another unchanged."""
        return row if row.devices else replace(self.given_to(row), device_seconds=self.count * row.busy_seconds)


UNKNOWN = Devices(kind="", count=0.0)


def devices_of(resources: ResourcesSpec, *, gpu: bool) -> Devices:
    """Returns what a request gives each trial; `gpu`: trials have GPUs, one each if the request names no number."""
    if gpu:
        return Devices(kind="cuda", count=resources.gpus_per_trial or 1.0)
    return Devices(kind="cpu", count=resources.cpus_per_trial)


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
    def text(self) -> str:
        """Writes the price as people read it, such as `2.50 a device hour`."""
        return f"{format_money(self.per_hour)} a device hour"


def price_of(resources: ResourcesSpec) -> Price | None:
    """Returns the price that the request names, if it does."""
    return None if resources.price_per_hour is None else Price(per_hour=resources.price_per_hour)
