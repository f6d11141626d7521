"""Ranks the configurations for all tasks: those that were trained on every task, by their average."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import yaml

from krona_tune.record.records import Records
from krona_tune.report.summary.task_summary import TaskSummary
from krona_tune.study.manifest import Manifest
from krona_tune.study.standings import Front, SharedConfiguration, front_of, shared_ranking


@dataclass(frozen=True, kw_only=True)
class SharedPart:
    """The configurations that were trained to the end on every task, the best average first; `begun` were begun."""

    ranked: tuple[SharedConfiguration, ...]
    begun: int

    @property
    def front(self) -> Front:
        """Returns (parameters, average) of those that none beats with as few."""
        return front_of([(each.parameters, each.average) for each in self.ranked], lambda point: point)


def shared_part(recorded: Records, manifest: Manifest, spec: str) -> SharedPart | None:
    """Returns the shared configurations; None if the request's text says that each task was searched by itself."""
    search = (yaml.safe_load(spec) or {}).get("search") if "shared" in spec else None
    if not isinstance(search, dict) or not search.get("shared"):
        return None
    searched = [row for row in recorded.trials if row.kind == "search"]
    ranked = shared_ranking(searched, tuple(manifest.tasks))
    return SharedPart(ranked=tuple(ranked), begun=len({row.number for row in searched}))


def judged_together(tasks: Sequence[TaskSummary], part: SharedPart | None) -> tuple[TaskSummary, ...]:
    """Returns the summaries; if the tasks share their configurations, their best is the winner of the average."""
    if part is None or not part.ranked:
        return tuple(tasks)
    return tuple(replace(each, shared=part.ranked[0].number) for each in tasks)
