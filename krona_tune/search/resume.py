"""Finds what each phase of a study still has to run, from its rows alone: its search, and the phases after it.

After the search the rows choose what is trained: `LATER_PHASES` has a row for each kind of these trials.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from krona_tune.search.final_trials import NO_FACTS, final_trials
from krona_tune.search.trial_message import TrialMessage, repeat_of
from krona_tune.study.finals import DEFAULT
from krona_tune.study.formatting import format_many
from krona_tune.study.kinds import FIRST_TRAINED, TrialKind
from krona_tune.study.manifest import PlanFacts, TaskFacts
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.result import TrialResult
from krona_tune.study.search_end import search_end
from krona_tune.study.study_state import Stage

if TYPE_CHECKING:
    from krona_tune.search.ledger import Ledger
    from krona_tune.search.planning.plan import Plan


# The search


def known_trials(plan: "Plan", ledger: "Ledger") -> list[TrialMessage]:
    """Returns the trials that need no proposal by Optuna: interrupted ones, and baselines that have not begun."""
    begun = [row for row in ledger.rows.values() if row.kind in FIRST_TRAINED and not row.ended]
    waiting = list(map(TrialMessage.of_row, begun))
    baselines = [message for task in plan.spec.tasks for message in plan.baselines(task)]
    return waiting + [message for message in baselines if message.trial_id not in ledger.rows]


def numbers_left(plan: "Plan", ledger: "Ledger", task: str | None = None) -> list[int]:
    """Returns the numbers that may still be proposed, for a task or for configurations that all tasks share."""
    if task and search_end(plan.spec.search, ledger.rows.values(), task):
        return []
    own = [row for row in ledger.rows.values() if row.searched and task in {None, row.task}]
    proposed = {row.number for row in own}
    lost = {number for of, number in ledger.lost if task in {None, of}}
    asked = [number for number in range(plan.trials + len(lost)) if number not in lost][: plan.trials]
    return [number for number in asked if number not in proposed]


# The phases after it


@dataclass(frozen=True, kw_only=True)
class LaterPhase:
    """Holds a phase after the search, whose trials are of one kind.

    Attributes:
        stage: what a driver calls it in its state.
        trials: returns all of its trials, begun or not, from the request, the decisions of its plan, the rows, and what
            tells by task which seeds did not learn; with None there instead, it returns no more seeds than each
            configuration gets at least. It raises a ValueError or a KeyError if rows of another version don't tell.
        begins: returns what is said when it begins.
        goes_on: what is said when the rows choose more of its trials, once those before have ended.
    """

    kind: TrialKind
    stage: Stage
    trials: Callable[[StudySpec, PlanFacts, Sequence[TrialResult], Mapping[str, TaskFacts] | None], list[TrialMessage]]
    begins: Callable[[StudySpec], str]
    goes_on: str = ""

    @property
    def number(self) -> int:
        """Returns which phase of a study it is, from 1."""
        return self.kind.facts.phase or 0

    def left(self, plan: "Plan", ledger: "Ledger", facts: Mapping[str, TaskFacts] = NO_FACTS) -> list[TrialMessage]:
        """Returns its trials that have not ended, begun or not; `facts` tell which seeds did not learn."""
        return self.not_ended(plan.spec, plan.planned, list(ledger.rows.values()), facts)

    def not_ended(
        self, spec: StudySpec, planned: PlanFacts, rows: Sequence[TrialResult], facts: Mapping[str, TaskFacts]
    ) -> list[TrialMessage]:
        """Returns the same of these rows; raises what `trials` raises."""
        ended = {row.trial_id for row in rows if row.ended}
        return [each for each in self.trials(spec, planned, rows, facts) if each.trial_id not in ended]


def _finals(
    spec: StudySpec, planned: PlanFacts, rows: Sequence[TrialResult], facts: Mapping[str, TaskFacts] | None
) -> list[TrialMessage]:
    """Returns the trials of the finals.

    Of an older study, the default configuration is known when it has entered them; a ValueError says that it has not.
    """
    default = planned.default
    if planned.compares and default is None:
        entered = (row.params for row in rows if row.kind == TrialKind.FINALIST and row.number == DEFAULT)
        default = next(entered, None)
        if default is None:
            raise ValueError("the default configuration is not recorded")
    return final_trials(spec, rows, default, facts or {}, rounds=facts is not None)


def repeat_trials(spec: StudySpec, rows: Iterable[TrialResult]) -> list[TrialMessage]:
    """Returns every repeat of the trials that have ended, however they ended, begun or not: seed by seed."""
    asked = spec.search.repeats
    ended = [row for row in rows if row.searched and row.ended]
    first = sorted((row for row in ended if 0 <= row.number < asked.points), key=lambda row: row.number)
    return [
        repeat_of(row, TrialKind.REPEAT, row.trial_id, index, spec.seed)
        for index in range(1, asked.seeds + 1)
        for row in first
    ]


_seeds = partial(format_many, noun="seed")

LATER_PHASES = (
    LaterPhase(
        kind=TrialKind.FINALIST,
        stage="finals",
        trials=_finals,
        begins=lambda spec: f"The search is done. Its best are trained again with {_seeds(spec.finalists.seeds)}",
        goes_on="Which configuration is best can't be told yet, so that more is trained",
    ),
    LaterPhase(
        kind=TrialKind.REPEAT,
        stage="repeats",
        trials=lambda spec, planned, rows, facts: repeat_trials(spec, rows),
        begins=lambda spec: f"The first points are trained again with {_seeds(spec.search.repeats.seeds)}",
    ),
)
"""The phases after the search, in the order in which they run."""
