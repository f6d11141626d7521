"""Finds what a study still has to run, from its rows alone: the search, the finalists and the repeats.

The choice of finalists depends only on the rows, so a resumed study makes the same one. A configuration that has
entered the finals stays in them under its number, with all its seeds; a study that was given more trials adds those
that are now among the best. Nothing here proposes a trial: only `recall_trials` speaks to the samplers.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from krona_tune.search.ledger import Ledger
from krona_tune.search.planning.plan import Plan
from krona_tune.search.trial_message import TrialMessage, repeat_of
from krona_tune.study.kinds import FIRST_TRAINED, TrialKind
from krona_tune.study.randomness import stream
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.request.trial import check_trial
from krona_tune.study.result import Report, Status, TrialResult, grouped
from krona_tune.study.standings import front_of, rank_trials, shared_ranking

if TYPE_CHECKING:
    from krona_tune.search.searchers.open_samplers import MethodsInTurn
    from krona_tune.search.searchers.task_sampler import TaskSampler


# What is left of each phase


def known_trials(plan: Plan, ledger: Ledger) -> list[TrialMessage]:
    """Returns the trials that need no proposal by Optuna: interrupted ones, and baselines that have not begun."""
    begun = [row for row in ledger.rows.values() if row.kind in FIRST_TRAINED and not row.ended]
    waiting = [
        TrialMessage(r.trial_id, r.task, r.number, r.kind, r.seed, r.params, proposed_by=r.proposed_by) for r in begun
    ]
    baselines = [config for task in plan.spec.tasks for config in plan.baselines(task)]
    return waiting + [config for config in baselines if config.trial_id not in ledger.rows]


def numbers_left(plan: Plan, ledger: Ledger, task: str | None = None) -> list[int]:
    """Returns the numbers that may still be proposed, for a task or for configurations that all tasks share."""
    own = [row for row in ledger.rows.values() if row.kind == TrialKind.SEARCH and task in {None, row.task}]
    proposed = {row.number for row in own}
    lost = {number for of, number in ledger.lost if task in {None, of}}
    asked = [number for number in range(plan.trials + len(lost)) if number not in lost][: plan.trials]
    return [number for number in asked if number not in proposed]


def search_left(plan: Plan, ledger: Ledger) -> int:
    """Returns how many trials of the search have not ended."""
    return len(known_trials(plan, ledger)) + sum(len(numbers_left(plan, ledger, task)) for task in plan.spec.tasks)


def finals_left(spec: StudySpec, ledger: Ledger) -> list[TrialMessage]:
    """Returns the finalists that have not ended, begun or not."""
    return _not_ended(final_trials(spec, ledger.rows.values()), ledger)


def repeats_left(spec: StudySpec, ledger: Ledger) -> list[TrialMessage]:
    """Returns the repeats that have not ended, begun or not."""
    return _not_ended(repeat_trials(spec, ledger.rows.values()), ledger)


def _not_ended(trials: Iterable[TrialMessage], ledger: Ledger) -> list[TrialMessage]:
    ended = {row.trial_id for row in ledger.rows.values() if row.ended}
    return [config for config in trials if config.trial_id not in ended]


def recall_trials(
    samplers: "Mapping[str, TaskSampler | MethodsInTurn]", rows: Iterable[TrialResult], reports: Iterable[Report]
) -> None:
    """Tells the samplers about each of these searched trials, in case Optuna's journal lost it."""
    scores: dict[str, dict[int, float]] = defaultdict(dict)
    for report in reports:
        scores[report.trial_id][report.examples] = report.score
    for row in rows:
        if row.kind == TrialKind.SEARCH:
            if row.score is not None:
                scores[row.trial_id][row.examples] = row.score  # even if its reports were damaged
            samplers[row.task].recall(row.trial_id, row.params, row.status, scores[row.trial_id])


# The finals

HEAD = 0
"""The number of the head alone among a task's configurations; the others count from 1."""


@dataclass(frozen=True, kw_only=True)
class FinalsEntry:
    """A configuration in a task's finals. `of` is the searched trial or baseline that it comes from."""

    number: int
    of: str
    params: dict[str, Any]


def final_trials(spec: StudySpec, rows: Iterable[TrialResult]) -> list[TrialMessage]:
    """Returns every trial of the finals, begun or not: each task's configurations, seed by seed."""
    if not spec.finalists.top:
        return []
    by_task = grouped(rows, lambda row: row.task)
    winners = (_shared_winners if spec.search.shared else _own_winners)(spec, by_task)
    entries = {task: _entries(by_task[task], winners[task]) for task in spec.tasks}
    return [
        _final_trial(spec, task, entry, index)
        for task in spec.tasks
        for index in range(1, spec.finalists.seeds + 1)
        for entry in entries[task]
    ]


def _final_trial(spec: StudySpec, task: str, entry: FinalsEntry, index: int) -> TrialMessage:
    seed = stream(spec.seed, TrialKind.FINALIST, task, index) % 2**31
    trial_id = TrialKind.FINALIST.facts.trial_id.format(task=task, number=entry.number or "head", index=index)
    return TrialMessage(trial_id, task, entry.number, TrialKind.FINALIST, seed, entry.params, entry.of)


def _entries(rows: Sequence[TrialResult], winners: Sequence[TrialResult]) -> list[FinalsEntry]:
    """Returns a task's configurations by number: those that have entered already, then the best that have not."""
    entered = {
        _configuration(row): FinalsEntry(number=row.number, of=row.of, params=row.params)
        for row in rows
        if row.kind == TrialKind.FINALIST
    }
    heads = _judged(row for row in rows if row.kind == TrialKind.BASELINE)[:1]
    if not any(entry.number == HEAD for entry in entered.values()):
        entered |= {_configuration(row): FinalsEntry(number=HEAD, of=row.trial_id, params=row.params) for row in heads}
    for row in winners:
        number = max((entry.number for entry in entered.values()), default=HEAD) + 1
        entered.setdefault(_configuration(row), FinalsEntry(number=number, of=row.trial_id, params=row.params))
    return sorted(entered.values(), key=lambda entry: entry.number)


def _shared_winners(spec: StudySpec, by_task: Mapping[str, list[TrialResult]]) -> dict[str, list[TrialResult]]:
    """Returns each task's trials of the configurations that are best over all tasks."""
    everyone = [row for rows in by_task.values() for row in rows]
    shared = shared_ranking(everyone, spec.tasks)[: spec.finalists.top]
    return {task: [each.rows[task] for each in shared] for task in spec.tasks}


def _own_winners(spec: StudySpec, by_task: Mapping[str, list[TrialResult]]) -> dict[str, list[TrialResult]]:
    return {task: _winners(spec, by_task[task]) for task in spec.tasks}


def _winners(spec: StudySpec, rows: Sequence[TrialResult]) -> list[TrialResult]:
    """Returns the best searched trials of each group: of the task or, with `per_method`, of each method."""
    searched = (row for row in rows if row.kind == TrialKind.SEARCH)
    groups = grouped(searched, lambda row: row.params["method"] if spec.search.per_method else "")
    ranked = [_judged(group) for group in groups.values()]
    if spec.search.pareto:
        ranked = [front_of(group, lambda row: row.point)[::-1] for group in ranked]
    return [row for group in ranked for row in islice(_distinct(group), spec.finalists.top)]


def _judged(rows: Iterable[TrialResult]) -> list[TrialResult]:
    """Returns the trials by their last validation score, the highest first.

    Trials that were stopped early are included: with a small budget few trials reach the end, and the last scores of
    all trials find better configurations.
    """
    return rank_trials(row for row in rows if row.status.stopped or row.status is Status.COMPLETED)


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


# The repeats


def repeat_trials(spec: StudySpec, rows: Iterable[TrialResult]) -> list[TrialMessage]:
    """Returns every repeat of the trials that have ended, however they ended, begun or not: seed by seed."""
    asked = spec.search.repeats
    ended = [row for row in rows if row.kind == TrialKind.SEARCH and row.ended]
    first = sorted((row for row in ended if 0 <= row.number < asked.points), key=lambda row: row.number)
    return [
        repeat_of(row, TrialKind.REPEAT, row.trial_id, index, spec.seed)
        for index in range(1, asked.seeds + 1)
        for row in first
    ]
