"""Decides whose checkpoints a study keeps: once no trial is left to it, and more of them before."""

from collections.abc import Mapping, Sequence

from krona_tune.adapters.adapter_card import trial_in
from krona_tune.search.progress.trials_left import search_left
from krona_tune.search.resume import LATER_PHASES, LaterPhase
from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import facts_of
from krona_tune.study.manifest import PlanFacts, TaskFacts
from krona_tune.study.request.study_spec import Keep, StudySpec
from krona_tune.study.result import TrialResult
from krona_tune.study.standings import Standings
from krona_tune.study.study_state import recoverable


def unneeded(
    folder: StudyFolder,
    spec: StudySpec,
    planned: PlanFacts | None,
    rows: Sequence[TrialResult],
    facts: Mapping[str, TaskFacts],
    keep: Keep,
    *,
    by_hand: bool = False,
) -> list[str]:
    """Returns the trials whose checkpoints are needed no more: of those that have ended, all but each task's winner and
    what is chosen of it.

    With "finalists" finalists and full trainings keep theirs too, with "all" every trial. Interrupted trials need
    theirs to go on, and so do failed ones, which an order retries; full trainings until their adapters are written.
    While trials are left, more are kept: a configuration that goes on with the other tasks may still win, and what is
    left of the finals may choose another finalist.

    Args:
        planned: what the study's plan decided; None if that is not known, so that no trial is known to be left.
        keep: whose are kept once no trial is left.
        by_hand: a person asks; of a shared search that goes on, "winners" then keeps those of finalists and no more.
    """
    if planned and spec.search.shared and any(search_left(spec, planned, rows).values()):
        keep = "finalists" if by_hand and keep == "winners" else "all"
    elif planned and keep == "winners" and any(_is_left(each, spec, planned, rows, facts) for each in LATER_PHASES):
        keep = "finalists"
    standings = Standings(rows, spec.shared_by)
    each = [(task, facts.get(task)) for task in spec.tasks]
    best = [row for known in each for row in (standings.winner(*known), standings.chosen(*known))]
    kept = {row.trial_id for row in (*best, *recoverable(rows)) if row}
    return sorted(
        row.trial_id
        for row in rows
        if keep != "all" and not (keep == "finalists" and facts_of(row.kind).kept)
        if row.ended and row.trial_id not in kept and not _to_write(folder, row)
    )


def _is_left(
    phase: LaterPhase,
    spec: StudySpec,
    planned: PlanFacts,
    rows: Sequence[TrialResult],
    facts: Mapping[str, TaskFacts],
) -> bool:
    """Returns whether a phase has trials that have not ended, or may have some, of an older study."""
    try:
        return bool(phase.not_ended(spec, planned, rows, facts))
    except (KeyError, ValueError):
        return True


def _to_write(folder: StudyFolder, row: TrialResult) -> bool:
    """Returns whether a full training has completed whose adapter is not in the study's folder."""
    return row.fully_trained and trial_in(folder.adapter(row.trial_id)) != row.trial_id
