"""Finds what a study still has to run, from its rows alone, so that a resumed study continues where it stopped."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from krona_tune.search.finalists import final_trials
from krona_tune.search.ledger import Ledger
from krona_tune.search.planning.plan import Plan
from krona_tune.search.repeats import repeat_trials
from krona_tune.search.searchers.open_samplers import MethodsInTurn
from krona_tune.search.searchers.task_sampler import TaskSampler
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.result import Report, Status, TrialResult


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
    ended = {row.trial_id for row in ledger.rows.values() if row.status is not Status.INTERRUPTED}
    return [config for config in trials if config.trial_id not in ended]


def known_trials(plan: Plan, ledger: Ledger) -> list[TrialMessage]:
    """Returns the trials that need no proposal by Optuna: interrupted ones, and baselines that have not begun."""
    kinds = {"search", "baseline"}
    begun = [row for row in ledger.rows.values() if row.kind in kinds and row.status is Status.INTERRUPTED]
    waiting = [TrialMessage(r.trial_id, r.task, r.number, r.kind, r.seed, r.params) for r in begun]
    baselines = [config for task in plan.spec.tasks for config in plan.baselines(task)]
    return waiting + [config for config in baselines if config.trial_id not in ledger.rows]


def numbers_left(plan: Plan, ledger: Ledger, task: str | None = None) -> list[int]:
    """Returns the numbers that may still be proposed, for a task or for configurations that all tasks share."""
    own = [row for row in ledger.rows.values() if row.kind == "search" and task in {None, row.task}]
    proposed = {row.number for row in own}
    lost = {number for of, number in ledger.lost if task in {None, of}}
    asked = [number for number in range(plan.trials + len(lost)) if number not in lost][: plan.trials]
    return [number for number in asked if number not in proposed]


def recall_trials(
    samplers: Mapping[str, TaskSampler | MethodsInTurn], rows: Iterable[TrialResult], reports: Iterable[Report]
) -> None:
    """Tells the samplers about each of these searched trials, in case Optuna's journal lost it."""
    scores: dict[str, dict[int, float]] = defaultdict(dict)
    for report in reports:
        scores[report.trial_id][report.examples] = report.score
    for row in rows:
        if row.kind == "search":
            if row.score is not None:
                scores[row.trial_id][row.examples] = row.score  # even if its reports were damaged
            samplers[row.task].recall(row.trial_id, row.params, row.status, scores[row.trial_id])
