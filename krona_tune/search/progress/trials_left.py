"""Counts the trials that a study has left, of each task and kind, from its request, its plan's decisions and its rows.

While a task's search goes on, its finals and repeats are those that the request lets expect. Then they are those that a
driver would train: the same functions choose them from the same rows.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from krona_tune.search.resume import LATER_PHASES
from krona_tune.search.searchers.asha_rule import SharedAverages
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.kinds import FIRST_TRAINED, TrialKind
from krona_tune.study.manifest import PlanFacts, TaskFacts
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.result import Status, TrialResult, grouped
from krona_tune.study.search_end import search_end
from krona_tune.study.study_state import Counts

Done = Callable[[TrialResult], float]
"""Returns which share of a row's trial is not left, from 0 to 1."""
Left = dict[tuple[str, str], float]
"""How many trials are left, by task and kind."""
Groups = Mapping[tuple[str, str], Sequence[TrialResult]]
"""The rows by task and kind."""


def by_task_and_kind(rows: Iterable[TrialResult]) -> Groups:
    """Returns the rows of each task and kind, in their order."""
    return grouped(rows, lambda row: (row.task, row.kind))


def begun(row: TrialResult) -> float:
    """Takes nothing of a trial that has begun as left."""
    return 1.0


def trials_left(
    spec: StudySpec,
    planned: PlanFacts,
    rows: Iterable[TrialResult],
    facts: Mapping[str, TaskFacts] | None = None,
    done: Done = begun,
    *,
    search_over: bool = False,
) -> Left:
    """Returns how many trials are left of those that the request asks for, and of clones.

    Args:
        facts: by task, what tells which seeds of finalists did not learn; None counts no more seeds than each
            configuration gets at least, but those that have begun.
        search_over: whether nothing is left of the search, as after an order or a limit that has ended it.
    """
    known = list(rows)
    groups = by_task_and_kind(known)
    left = _search_left(spec, planned, groups, done)
    over = [task for task in spec.tasks if not any(left[task, kind] for kind in FIRST_TRAINED) and _ended(groups, task)]
    if search_over:
        left, over = dict.fromkeys(left, 0.0), list(spec.tasks)
    if spec.search.shared and len(over) < len(spec.tasks):
        over = []
    new = _new_by_counts(spec, planned, groups)
    if over:
        new |= _new_by_rows(spec, planned, known, over, facts)
    for key, count in new.items():
        left[key] = count + _lacking(groups[key], done)
    return left


def search_left(spec: StudySpec, planned: PlanFacts, rows: Iterable[TrialResult], done: Done = begun) -> Left:
    """Returns how many searched trials and heads alone are left, as `trials_left` does."""
    return _search_left(spec, planned, by_task_and_kind(rows), done)


def _search_left(spec: StudySpec, planned: PlanFacts, groups: Groups, done: Done) -> Left:
    searched = _to_propose(spec, planned, groups)
    heads = Counts.of(spec, planned).heads
    left: Left = {}
    for task in spec.tasks:
        tried = len(groups[task, TrialKind.BASELINE])
        for kind, new in ((TrialKind.SEARCH, searched[task]), (TrialKind.BASELINE, max(heads - tried, 0))):
            left[task, kind] = new + _lacking(groups[task, kind], done)
    return left


def not_begun(
    spec: StudySpec,
    planned: PlanFacts,
    rows: Iterable[TrialResult],
    facts: Mapping[str, TaskFacts] | None = None,
    *,
    search_over: bool = False,
) -> dict[str, int]:
    """Returns the number of each task's trials that have no row yet; takes what `trials_left` takes."""
    return by_task(trials_left(spec, planned, rows, facts, search_over=search_over))


def later_not_begun(
    spec: StudySpec, planned: PlanFacts, rows: Iterable[TrialResult], facts: Mapping[str, TaskFacts] | None = None
) -> dict[str, int]:
    """Returns the number of each task's finals and repeats that have no row yet; takes what `trials_left` takes."""
    left = trials_left(spec, planned, rows, facts)
    return by_task({(task, kind): count for (task, kind), count in left.items() if kind not in FIRST_TRAINED})


def by_task(left: Left) -> dict[str, int]:
    """Returns how many trials of all kinds are left of each task."""
    found: dict[str, float] = defaultdict(float)
    for (task, _), count in left.items():
        found[task] += count
    return {task: int(count) for task, count in found.items()}


def _lacking(rows: Iterable[TrialResult], done: Done) -> float:
    """Returns what is left of trials that have begun."""
    return sum(1 - done(row) for row in rows)


def _ended(groups: Groups, task: str) -> bool:
    return all(row.ended for kind in FIRST_TRAINED for row in groups[task, kind])


def _to_propose(spec: StudySpec, planned: PlanFacts, groups: Groups) -> dict[str, int]:
    """Returns how many searched trials of each task have not begun; a clone is none that the request asks for."""
    searched = {task: [row for row in groups[task, TrialKind.SEARCH] if row.number >= 0] for task in spec.tasks}
    if spec.search.shared:
        return _of_shared(spec, planned, [row for rows in searched.values() for row in rows])
    asked = Counts.of(spec, planned).searched
    return {
        task: 0 if search_end(spec.search, rows, task) else max(asked - len(rows), 0) for task, rows in searched.items()
    }


def _of_shared(spec: StudySpec, planned: PlanFacts, searched: Sequence[TrialResult]) -> dict[str, int]:
    """Returns for each task how many shared configurations may still come to it: none that was stopped before."""
    averages = SharedAverages(len(spec.tasks), spec.schedule.reduction, exact=planned.exact_cutoff)
    judged = averages.replay(searched)
    new = max(spec.search.trials - len(judged), 0)
    going = [number for number, (status, _) in judged.items() if status is Status.INTERRUPTED]
    tried = {(row.task, row.number) for row in searched}
    return {task: new + sum((task, number) not in tried for number in going) for task in spec.tasks}


def _new_by_counts(spec: StudySpec, planned: PlanFacts, groups: Groups) -> Left:
    """Returns how many finals and repeats of each task are expected that have not begun."""
    new: Left = {}
    proposed = _to_propose(spec, planned, groups)
    for task in spec.tasks:
        end = search_end(spec.search, groups[task, TrialKind.SEARCH], task)
        search = spec.search.model_copy(update={"trials": end.begun}) if end else spec.search
        expected = Counts.of(spec.model_copy(update={"search": search}), planned).by_kind
        for kind in expected.keys() - FIRST_TRAINED:
            new[task, kind] = max(expected[kind] - len(groups[task, kind]), 0)
        enter = (
            min(spec.finalists.top, proposed[task]) * spec.finalists.seeds if groups[task, TrialKind.FINALIST] else 0
        )
        if enter:  # of finals that have begun: what an extended search brings may be better than what entered them
            new[task, TrialKind.FINALIST] = max(new.get((task, TrialKind.FINALIST), 0), enter)
    return new


def _new_by_rows(
    spec: StudySpec,
    planned: PlanFacts,
    rows: Sequence[TrialResult],
    over: Sequence[str],
    facts: Mapping[str, TaskFacts] | None,
) -> Left:
    """Returns how many finals and repeats have not begun of tasks whose search is over, by those that rows choose."""
    spec, known = spec.model_copy(update={"tasks": tuple(over)}), {row.trial_id for row in rows}
    chosen: dict[str, list[TrialMessage]] = {}
    for phase in LATER_PHASES:
        with suppress(ValueError, KeyError):  # another version has trained what this one refuses
            chosen[phase.kind] = phase.trials(spec, planned, rows, facts)
    return {
        (task, kind): sum(trial.task == task and trial.trial_id not in known for trial in trials)
        for kind, trials in chosen.items()
        for task in over
    }
