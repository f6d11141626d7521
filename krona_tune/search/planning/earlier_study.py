"""Holds what a new study can learn from an earlier one."""

from collections.abc import Mapping
from dataclasses import dataclass

from krona_tune.backbones.geometry import Geometry
from krona_tune.study.result import Report, TrialResult


@dataclass(frozen=True, kw_only=True)
class EarlierStudy:
    """The searched trials of an earlier study with their reports, and the full budget of each task in examples.

    `geometry` is its backbone's: sites by stack, layer and role, with square maps. None if the study recorded none.
    """

    name: str
    rows: tuple[TrialResult, ...]
    reports: tuple[Report, ...]
    budgets: Mapping[str, int]
    geometry: Geometry | None

    def task(self, name: str) -> str:
        """Returns the name of a task of this study among the tasks of others."""
        return f"{self.name}/{name}"
