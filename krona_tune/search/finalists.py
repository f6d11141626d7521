"""Chooses the finalists: the best of the search and the best head alone, trained again with the same fresh seeds.

The choice depends only on the rows, so a resumed study makes the same one. A configuration that has entered the finals
stays in them under its number, with all its seeds; a study that was given more trials adds those that are now among
the best.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.randomness import stream
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.request.trial import check_trial
from krona_tune.study.result import Status, TrialResult
from krona_tune.study.standings import front_of, rank, shared_ranking

HEAD = 0
"""The number of the head alone among a task's configurations; the others count from 1."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A configuration in a task's finals. `of` is the searched trial or baseline that it comes from."""

    number: int
    of: str
    params: dict[str, Any]


def final_trials(spec: StudySpec, rows: Iterable[TrialResult]) -> list[TrialMessage]:
    """Returns every trial of the finals, begun or not: each task's configurations, seed by seed."""
    if not spec.finalists.top:
        return []
    by_task: dict[str, list[TrialResult]] = defaultdict(list)
    for row in rows:
        by_task[row.task].append(row)
    winners = {task: _winners(spec, by_task[task]) for task in spec.tasks}
    if spec.search.shared:
        everyone = [row for rows in by_task.values() for row in rows]
        shared = shared_ranking(everyone, spec.tasks)[: spec.finalists.top]
        winners = {task: [each.rows[task] for each in shared] for task in spec.tasks}
    entries = {task: _entries(by_task[task], winners[task]) for task in spec.tasks}
    return [
        _final_trial(spec, task, entry, index)
        for task in spec.tasks
        for index in range(1, spec.finalists.seeds + 1)
        for entry in entries[task]
    ]


def _final_trial(spec: StudySpec, task: str, entry: Entry, index: int) -> TrialMessage:
    seed = stream(spec.seed, "finalist", task, index) % 2**31
    trial_id = f"{task}-final-{entry.number or 'head'}-s{index}"
    return TrialMessage(trial_id, task, entry.number, "finalist", seed, entry.params, entry.of)


def _entries(rows: Sequence[TrialResult], winners: Sequence[TrialResult]) -> list[Entry]:
    """Returns a task's configurations by number: those that have entered already, then the best that have not."""
    entered = {
        _configuration(row): Entry(number=row.number, of=row.of, params=row.params)
        for row in rows
        if row.kind == "finalist"
    }
    heads = _judged(row for row in rows if row.kind == "baseline")[:1]
    if not any(entry.number == HEAD for entry in entered.values()):
        entered |= {_configuration(row): Entry(number=HEAD, of=row.trial_id, params=row.params) for row in heads}
    for row in winners:
        number = max((entry.number for entry in entered.values()), default=HEAD) + 1
        entered.setdefault(_configuration(row), Entry(number=number, of=row.trial_id, params=row.params))
    return sorted(entered.values(), key=lambda entry: entry.number)


def _winners(spec: StudySpec, rows: Sequence[TrialResult]) -> list[TrialResult]:
    """Returns the best searched trials of each group: of the task or, with `per_method`, of each method."""
    groups: dict[str, list[TrialResult]] = defaultdict(list)
    for row in rows:
        if row.kind == "search":
            groups[row.params["method"] if spec.search.per_method else ""].append(row)
    ranked = [_judged(group) for group in groups.values()]
    if spec.search.pareto:
        ranked = [front_of(group, lambda row: row.point)[::-1] for group in ranked]
    return [row for group in ranked for row in islice(_distinct(group), spec.finalists.top)]


def _judged(rows: Iterable[TrialResult]) -> list[TrialResult]:
    """Returns the trials by their last validation score, the highest first.

    Trials that were stopped early are included: with a small budget few trials reach the end, and the last scores of
    all trials find better configurations.
    """
    return rank(row for row in rows if row.status.stopped or row.status is Status.COMPLETED)


def _distinct(rows: Iterable[TrialResult]) -> Iterator[TrialResult]:
    """Yields the first trial of each configuration; reads no further than the caller asks, since a check takes long."""
    found: set[str] = set()
    for row in rows:
        if (configuration := _configuration(row)) not in found:
            found.add(configuration)
            yield row


def _configuration(row: TrialResult) -> str:
    """Returns a fingerprint that is equal for trials which differ only in their seed and kind."""
    return check_trial(row.task, 0, row.params).fingerprint
