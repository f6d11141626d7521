"""Makes the trials of a study's finals from its rows: which configurations enter, and who gets more seeds.

The choice depends only on the rows, so a resumed study makes the same one. A configuration that has entered the finals
stays in them under its number, with all its seeds; a study that was given more trials adds those that are now among the
best.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, filterfalse, islice, takewhile
from types import MappingProxyType
from typing import Any

from krona_tune.search.planning.space import Params
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.chosen_finalist import contenders
from krona_tune.study.finals import DEFAULT, HEAD, rank_finals
from krona_tune.study.kinds import TrialKind
from krona_tune.study.learning import STANDARD_ERRORS, validation_error
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.randomness import stream
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.request.trial import check_trial
from krona_tune.study.result import Status, TrialResult, grouped
from krona_tune.study.standings import are_taught, front_of, rank_trials, shared_ranking

IN_IDS: Mapping[int, str] = MappingProxyType({HEAD: "head", DEFAULT: "default"})
"""What stands in a trial's id for these numbers."""
NO_FACTS: Mapping[str, TaskFacts] = MappingProxyType({})
"""Of no task is it known what its constant answer scores."""


@dataclass(frozen=True, kw_only=True)
class FinalsEntry:
    """A configuration in a task's finals. `of` is the searched trial or baseline that it comes from."""

    number: int
    of: str
    params: dict[str, Any]


def final_trials(
    spec: StudySpec,
    rows: Iterable[TrialResult],
    default: Params | None = None,
    facts: Mapping[str, TaskFacts] = NO_FACTS,
    *,
    rounds: bool = True,
) -> list[TrialMessage]:
    """Returns every trial of the finals, begun or not: all tasks' configurations, seed by seed, so that a limit that
    ends them leaves no task without; then more seeds.

    Args:
        default: the default configuration, if it takes part.
        facts: by task, what tells which seeds did not learn.
        rounds: whether those beyond the least number of seeds are among them.
    """
    if not spec.finalists.top:
        return []
    by_task = grouped(rows, lambda row: row.task)
    if spec.search.shared:
        winners = _shared_winners(spec, by_task)
    else:
        winners = {task: _winners(spec, task, by_task[task], default) for task in spec.tasks}
    entries = {task: _entries(task, by_task[task], winners[task], default) for task in spec.tasks}
    seeds = range(1, spec.finalists.seeds + 1)
    least = [
        _final_trial(spec, task, entry, index) for index in seeds for task in spec.tasks for entry in entries[task]
    ]
    if not rounds:
        return least
    of_task = grouped(least, lambda trial: trial.task)
    for task in spec.tasks:
        least += _more_seeds(spec, entries[task], of_task[task], by_task[task], facts.get(task))
    return least


def _final_trial(spec: StudySpec, task: str, entry: FinalsEntry, index: int) -> TrialMessage:
    seed = stream(spec.seed, TrialKind.FINALIST, task, index) % 2**31
    number = IN_IDS.get(entry.number, entry.number)
    trial_id = TrialKind.FINALIST.facts.id_of(task=task, number=number, index=index)
    return TrialMessage(trial_id, task, entry.number, TrialKind.FINALIST, seed, entry.params, entry.of)


# More seeds


def _more_seeds(
    spec: StudySpec,
    entries: Sequence[FinalsEntry],
    least: Sequence[TrialMessage],
    rows: Iterable[TrialResult],
    facts: TaskFacts | None,
) -> list[TrialMessage]:
    """Returns a task's trials beyond the least number of seeds: round after round, as far as the rows tell them.

    A round follows when all trials before it have ended. Where a steady configuration is looked for and no finalist is
    one, the next best of the search joins; else each configuration among which the best can't be told yet gets one seed
    more. There is no round that the budget of the task's finals does not pay for. All rounds are found again from the
    first on, so that a study that was killed within one goes on with the same.
    """
    if spec.finalists.budget is None or not least:
        return []
    known, task = {row.trial_id: row for row in rows if row.kind == TrialKind.FINALIST}, least[0].task
    by_number, trials = {entry.number: entry for entry in entries}, list(least)
    reserves = _reserves(entries, rows, facts) if spec.finalists.steady else iter(())

    def rounds() -> Iterator[list[TrialMessage]]:
        """Yields what may follow, what is worth most first."""
        finals = rank_finals((known[each.trial_id] for each in trials), facts)
        learns = any(each.learns and not each.unlearned for each in finals.finalists)
        failed = finals.finalists or any(row.status is Status.DIVERGED for row in finals.lost)
        if failed and not learns and (entry := next(reserves, None)):
            by_number[entry.number] = entry
            yield [_final_trial(spec, task, entry, index) for index in range(1, spec.finalists.seeds + 1)]
        seeds = Counter(trial.number for trial in trials)
        asked = [each.number for each in contenders(finals)]
        behind = min((seeds[number] for number in asked), default=0)
        yield [_final_trial(spec, task, by_number[number], behind + 1) for number in asked if seeds[number] == behind]

    def paid(following: Sequence[TrialMessage]) -> bool:
        trained = known.keys() | {trial.trial_id for trial in trials}  # in earlier rounds among others, too
        new = [trial for trial in following if trial.trial_id not in trained]
        return not new or len(trained) + len(new) <= (spec.finalists.budget or 0)

    while all(trial.trial_id in known and known[trial.trial_id].ended for trial in trials):
        following = next((each for each in rounds() if each and paid(each)), [])
        if not following:
            break
        trials += following
    found = {trial.trial_id for trial in trials}
    begun = (trial for entry in entries for trial in _begun(spec, task, entry, known))
    return [*trials[len(least) :], *(trial for trial in begun if trial.trial_id not in found)]


def _begun(spec: StudySpec, task: str, entry: FinalsEntry, known: Collection[str]) -> Iterator[TrialMessage]:
    """Yields the trials of a configuration that have begun, seed by seed."""
    trials = (_final_trial(spec, task, entry, index) for index in count(1))
    return takewhile(lambda trial: trial.trial_id in known, trials)


# The configurations


def _reserves(
    entries: Sequence[FinalsEntry], rows: Iterable[TrialResult], facts: TaskFacts | None
) -> Iterator[FinalsEntry]:
    """Yields the searched configurations that learned more than the constant answer and are not in a task's finals, the
    best first."""

    def learned_something(row: TrialResult) -> bool:
        if row.score is None or facts is None:
            return row.score is not None
        return row.score - STANDARD_ERRORS * (validation_error(row, facts) or 0.0) > facts.constant_score

    learned = [row for row in rows if row.searched and learned_something(row)]
    entered = {_fingerprint(row.task, entry.params) for row in learned[:1] for entry in entries}
    numbers = count(max([HEAD, *(entry.number for entry in entries)]) + 1)
    for row, number in zip(_distinct(_judged(learned), entered), numbers, strict=False):
        yield FinalsEntry(number=number, of=row.trial_id, params=row.params)


def _entries(
    task: str, rows: Sequence[TrialResult], winners: Sequence[TrialResult], default: Params | None
) -> list[FinalsEntry]:
    """Returns a task's configurations by number: those that have entered already, then the default one and the best
    that have not. Trials may begin in another order than they were asked for, so the best that have not get the first
    numbers that are free: those that they were asked for with."""
    entered = {
        _configuration(row): FinalsEntry(number=row.number, of=row.of, params=row.params)
        for row in rows
        if row.kind == TrialKind.FINALIST
    }
    taken = {entry.number for entry in entered.values()}
    heads = _judged(row for row in rows if row.kind == TrialKind.BASELINE)[:1]
    if HEAD not in taken:
        entered |= {_configuration(row): FinalsEntry(number=HEAD, of=row.trial_id, params=row.params) for row in heads}
    tried = [row for row in rows if row.searched]  # without any, there is nothing to compare it with
    begun = any(row.ended or row.ended_at is not None for row in tried)  # one that the search's end cut off counts, too
    if default is not None and DEFAULT not in taken and begun:
        entered |= {_fingerprint(task, default): _default_entry(task, rows, default)}
    free = filterfalse({entry.number for entry in entered.values()}.__contains__, count(HEAD + 1))
    for row in winners:
        if (own := _configuration(row)) not in entered:
            entered[own] = FinalsEntry(number=next(free), of=row.trial_id, params=row.params)
    return sorted(entered.values(), key=lambda entry: entry.number)


def _default_entry(task: str, rows: Iterable[TrialResult], default: Params) -> FinalsEntry:
    """Returns the default configuration; it comes from the searched trial that had it, if one did."""
    found = _fingerprint(task, default)
    rate = default.get("learning_rate")  # rows with another one need no fingerprint, which takes long
    alike = (row for row in rows if row.searched and row.params.get("learning_rate") == rate)
    same = (row.trial_id for row in alike if _configuration(row) == found)
    return FinalsEntry(number=DEFAULT, of=next(same, f"{task}-{IN_IDS[DEFAULT]}"), params=dict(default))


def _shared_winners(spec: StudySpec, by_task: Mapping[str, list[TrialResult]]) -> dict[str, list[TrialResult]]:
    """Returns each task's trials of the configurations that are best over all tasks."""
    everyone = [row for rows in by_task.values() for row in rows]
    shared = shared_ranking(everyone, spec.tasks)[: spec.finalists.top]
    return {task: [each.rows[task] for each in shared] for task in spec.tasks}


def _winners(spec: StudySpec, task: str, rows: Sequence[TrialResult], default: Params | None) -> list[TrialResult]:
    """Returns the best searched trials of each group, of the task or, with `per_method`, of each method; without those
    of the default configuration, which enters anyway, but may count as one of the best."""
    searched = (row for row in rows if row.searched)
    groups = grouped(searched, lambda row: row.params["method"] if spec.search.per_method else "")
    ranked = [_judged(group) for group in groups.values()]
    if spec.search.pareto:
        ranked = [_front(group) for group in ranked]
    known = {_fingerprint(task, default)} if default else set()
    passed = set[str]() if spec.finalists.counted else known
    best = (row for group in ranked for row in islice(_distinct(group, passed), spec.finalists.top))
    return [row for row in best if _configuration(row) not in known]


UNSTOPPED = frozenset({Status.COMPLETED, Status.INTERRUPTED})
"""The statuses of trials that nothing has stopped but the end of the search."""


def _front(ranked: Sequence[TrialResult]) -> list[TrialResult]:
    """Returns the ranked trials that none beats with as few parameters, the largest first; beside taught trials, first
    the same of those that were not stopped."""
    unstopped = [row for row in ranked if row.status in UNSTOPPED] if are_taught(ranked) else []
    return [row for rows in (unstopped, ranked) for row in reversed(front_of(rows, lambda row: row.point))]


def _judged(rows: Iterable[TrialResult]) -> list[TrialResult]:
    """Returns the trials by their last validation score, the highest first.

    Trials that were stopped early are included: with a small budget few trials reach the end, and the last scores of
    all trials find better configurations. So are those that the end of the search cut off, which are mostly the best of
    what ran; they stand beside the finished ones.
    """
    judged = [row for row in rows if row.status.stopped or row.status in UNSTOPPED]
    return rank_trials(judged, lambda row: row.status in UNSTOPPED)


def _distinct(rows: Iterable[TrialResult], known: Iterable[str]) -> Iterator[TrialResult]:
    """Yields the first trial of each configuration that is not known; reads no further than the caller asks, since a
    check takes long."""
    found = set(known)
    for row in rows:
        if (configuration := _configuration(row)) not in found:
            found.add(configuration)
            yield row


def _configuration(row: TrialResult) -> str:
    """Returns a fingerprint that is equal for trials which differ only in their seed and kind."""
    return _fingerprint(row.task, row.params)


def _fingerprint(task: str, params: Params) -> str:
    return _fingerprint_of(task, json.dumps(dict(params), sort_keys=True))


@lru_cache(maxsize=4096)
def _fingerprint_of(task: str, params: str) -> str:
    """Returns the fingerprint of knobs that are written as JSON; the finals are made again at each event."""
    return check_trial(task, 0, json.loads(params)).fingerprint
