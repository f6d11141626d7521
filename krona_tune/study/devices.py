"""Says how many GPUs or CPU cores each trial has, and counts what a trial of an earlier version has used of them."""

from dataclasses import dataclass, replace

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
    def said(self) -> str:
        """Returns them in words, such as "2 GPUs"; empty if they are not known."""
        return f"{self.count:g} {_WORDS.get(self.kind, 'device')}{'' if self.count == 1 else 's'}" if self.count else ""

    def given_to(self, row: TrialResult) -> TrialResult:
        """Returns the row of a trial that begins, or goes on, with these devices."""
        return replace(row, device=self.kind, devices=self.count)

    def counted(self, row: TrialResult) -> TrialResult:
        """Returns a row that does not say what it used as if it had these devices from its start; another unchanged."""
        return row if row.devices else replace(self.given_to(row), device_seconds=self.count * row.busy_seconds)


UNKNOWN = Devices(kind="", count=0.0)


def devices_of(resources: ResourcesSpec, *, gpu: bool) -> Devices:
    """Returns what a request gives each trial; `gpu`: trials have GPUs, one each if the request names no number."""
    if gpu:
        return Devices(kind="cuda", count=resources.gpus_per_trial or 1.0)
    return Devices(kind="cpu", count=resources.cpus_per_trial)
