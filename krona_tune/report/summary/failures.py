"""Collects what failed and why: trials without a regular end, grouped by their reason."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from krona_tune.report.summary.task_summary import TaskSummary
from krona_tune.study.result import Status, TrialResult


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Trials with the same status and reason (the last line of their error); `text` is the first whole error."""

    status: Status
    reason: str
    text: str
    tasks: tuple[str, ...]
    trials: tuple[TrialResult, ...]


def troubles(tasks: Iterable[TaskSummary]) -> tuple[Trouble, ...]:
    """Returns the troubles, the most frequent first."""
    together: dict[tuple[Status, str], list[tuple[str, TrialResult]]] = defaultdict(list)
    for summary in tasks:
        for trial in summary.troubled:
            together[trial.status, _reason(trial.error)].append((summary.title, trial))
    found = [
        Trouble(
            status=status,
            reason=reason,
            text=pairs[0][1].error.strip(),
            tasks=tuple(dict.fromkeys(title for title, _ in pairs)),
            trials=tuple(trial for _, trial in pairs),
        )
        for (status, reason), pairs in together.items()
    ]
    return tuple(sorted(found, key=lambda each: -len(each.trials)))


def _reason(error: str) -> str:
    return (error.strip().splitlines() or [""])[-1]
