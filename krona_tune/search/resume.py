"""Finds what a study still has to run, from its rows alone: the search, the finalists and the repeats."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from krona_tune.search.final_trials import NO_FACTS, final_trials
from krona_tune.search.trial_message import TrialMessage, repeat_of
from krona_tune.study.kinds import FIRST_TRAINED, TrialKind
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.result import TrialResult
from krona_tune.study.search_end import search_end

if TYPE_CHECKING:
    from krona_tune.search.ledger import Ledger
    from krona_tune.search.planning.plan import Plan


# What is left of each phase


def known_trials(plan: "Plan", ledger: "Ledger") -> list[TrialMessage]:
    """Returns the trials that need no proposal by Optuna: interrupted ones, and baselines that have not begun."""
    begun = [row for row in ledger.rows.values() if row.kind in FIRST_TRAINED and not row.ended]
    waiting = [
        TrialMessage(r.trial_id, r.task, r.number, r.kind, r.seed, r.params, proposed_by=r.proposed_by) for r in begun
    ]
    baselines = [config for task in plan.spec.tasks for config in plan.baselines(task)]
    return waiting + [config for config in baselines if config.trial_id not in ledger.rows]


def numbers_left(plan: "Plan", ledger: "Ledger", task: str | None = None) -> list[int]:
    """Returns the numbers that may still be proposed, for a task or for configurations that all tasks share."""
    if task and search_end(plan.spec.search, ledger.rows.values(), task):
        return []
    own = [row for row in ledger.rows.values() if row.kind == TrialKind.SEARCH and task in {None, row.task}]
    proposed = {row.number for row in own}
    lost = {number for of, number in ledger.lost if task in {None, of}}
    asked = [number for number in range(plan.trials + len(lost)) if number not in lost][: plan.trials]
    return [number for number in asked if number not in proposed]


def finals_left(plan: "Plan", ledger: "Ledger", facts: Mapping[str, TaskFacts] = NO_FACTS) -> list[TrialMessage]:
    """Returns the finalists that have not ended, begun or not; `facts` tell which of their seeds did not learn."""
    return _not_ended(final_trials(plan.spec, list(ledger.rows.values()), plan.default, facts), ledger)


def repeats_left(spec: StudySpec, ledger: "Ledger") -> list[TrialMessage]:
    """Returns the repeats that have not ended, begun or not."""
    return _not_ended(repeat_trials(spec, ledger.rows.values()), ledger)


def _not_ended(trials: Iterable[TrialMessage], ledger: "Ledger") -> list[TrialMessage]:
    ended = {row.trial_id for row in ledger.rows.values() if row.ended}
    return [config for config in trials if config.trial_id not in ended]


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
