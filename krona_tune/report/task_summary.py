"""Computes what won and by how much: each task's ranking, the configurations for all tasks, and what failed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, sqrt

from krona_tune.study.chosen_finalist import Chosen, choose
from krona_tune.study.finals import Finals
from krona_tune.study.kinds import counts_by_kind
from krona_tune.study.learning import STANDARD_ERRORS, beats_baseline
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.request.metric_table import rows_of, standard_error
from krona_tune.study.result import Status, TrialResult
from krona_tune.study.standings import Standings, are_taught, front_of
from krona_tune.study.study_state import TrialStates
from krona_tune.study.verdicts import Verdicts, verdicts_of


@dataclass(frozen=True, kw_only=True)
class RankedTrial:
    """A trial with its place. `tied`: its score can't be distinguished from the best one's."""

    place: int
    trial: TrialResult
    score: float
    standard_error: float | None
    tied: bool


@dataclass(frozen=True, kw_only=True)
class TaskSummary:
    """The results of one task. All scores except those of `finals` are on validation, from the search.

    `standings` are those of the whole study. `facts` None: the manifest does not have the task. `counts` are of all
    trials by their state, `kinds` by their kind.
    """

    task: str
    standings: Standings
    facts: TaskFacts | None
    ranked: tuple[RankedTrial, ...]
    baseline: TrialResult | None
    counts: dict[str, int]
    kinds: dict[str, int]
    troubled: tuple[TrialResult, ...]
    finals: Finals

    @property
    def title(self) -> str:
        return self.facts.title if self.facts else self.task

    @property
    def anchor(self) -> str:
        """Returns what the ids of its parts on a page begin with; its name alone may be that of another part."""
        return f"task-{self.task}"

    @property
    def synthetic(self) -> bool:
        return self.facts is not None and self.facts.synthetic

    @property
    def one_scale(self) -> bool:
        """Returns whether validation and test scores are of one kind, and fit on one axis."""
        return not (self.facts and self.facts.compared_by_loss)

    @cached_property
    def best(self) -> RankedTrial | None:
        """Returns the best of the search; if tasks share their configurations, the trial of the best on average."""
        best = self.standings.best(self.task)
        return next((each for each in self.ranked if each.trial is best), None)

    @property
    def smallest_tied(self) -> RankedTrial | None:
        """Returns the trial with the fewest parameters among those that can't be distinguished from the best."""
        tied = [each for each in self.ranked if each.tied and each.trial.trainable_parameters]
        return min(tied, key=lambda each: (each.trial.trainable_parameters, each.place), default=None)

    @property
    def constant_score(self) -> float | None:
        return self.facts.constant_score if self.facts else None

    @property
    def baseline_score(self) -> float | None:
        return self.baseline.score if self.baseline else None

    @property
    def gain_over_constant(self) -> float | None:
        return _difference(self.best, self.constant_score)

    @property
    def gain_over_baseline(self) -> float | None:
        return _difference(self.best, self.baseline_score)

    @cached_property
    def choice(self) -> Chosen | None:
        """Returns what is chosen of the finals, and why; None without finals."""
        return choose(self.finals)

    @cached_property
    def winner(self) -> TrialResult | None:
        """Returns the trial that won: of the winning finalist the best seed, without finals the best of the search."""
        return self.finals.winner.best_row if self.finals.winner else self.standings.best(self.task)

    @cached_property
    def chosen(self) -> TrialResult | None:
        """Returns the trial to use: of what the finals choose the best seed, without finals the best of the search."""
        return self.choice.finalist.best_row if self.choice else self.standings.best(self.task)

    @cached_property
    def verdicts(self) -> Verdicts:
        """Returns in sentences what of the task's results holds and what does not."""
        return verdicts_of(self.standings, self.task, self.finals)

    @property
    def negated(self) -> str:
        """Returns in a sentence what counts negated in the scores; empty if nothing does."""
        if self.facts is None:
            return ""
        if self.facts.compared_by_loss:
            return "A validation score is the loss of the targets, negated."
        named = rows_of(self.facts.metrics)
        lower = [metric.name for metric in named if metric.lower_is_better]
        if not lower and not self.facts.averages:  # those of one's own do
            lower = [name for name in self.facts.metrics if name not in {metric.name for metric in named}]
        return f"In a score {' and '.join(lower)} counts negated, so that the higher is the better." if lower else ""

    @property
    def taught(self) -> bool:
        """Returns whether trials that were trained to their end are ranked first, as where recorded curves teach."""
        return are_taught(each.trial for each in self.ranked)

    @property
    def beats_baseline(self) -> bool | None:
        """Returns whether the gain over the head alone is more than chance may give the best of so many trials; None if
        that can't be decided."""
        return beats_baseline(self.best.trial if self.best else None, self.baseline, self.facts, len(self.ranked))


def summarise(task: str, standings: Standings, facts: TaskFacts | None, running: Collection[str] = ()) -> TaskSummary:
    """Returns the task's trials, ranked and counted. An equal score ranks by fewer trainable parameters."""
    trials = [row for row in standings.rows if row.task == task]
    halted = [trial for trial in trials if trial.trial_id not in running]
    return TaskSummary(
        task=task,
        standings=standings,
        facts=facts,
        ranked=_ranked(standings.searched(task), facts),
        baseline=standings.baseline(task),
        counts={state: n for state, n in TrialStates.of(trials, running).by_state.items() if n},
        kinds=counts_by_kind(trial.kind for trial in trials),
        troubled=tuple(trial for trial in halted if not (trial.status.stopped or trial.status is Status.COMPLETED)),
        finals=standings.finals(task, facts),
    )


def pareto(trials: Sequence[RankedTrial]) -> tuple[RankedTrial, ...]:
    """Returns those that no other trial beats with as few parameters, from few to many, without unknown numbers (0)."""
    return tuple(front_of(trials, lambda each: each.trial.point))


def _ranked(ordered: Sequence[TrialResult], facts: TaskFacts | None) -> tuple[RankedTrial, ...]:
    errors = [standard_error(trial.metrics, facts.validation_examples if facts else 0) for trial in ordered]
    return tuple(
        RankedTrial(
            place=place,
            trial=trial,
            score=trial.score or 0.0,
            standard_error=error,
            tied=place == 1 or _tied(ordered[0], errors[0], trial, error),
        )
        for place, (trial, error) in enumerate(zip(ordered, errors, strict=True), start=1)
    )


def _tied(best: TrialResult, best_error: float | None, other: TrialResult, error: float | None) -> bool:
    if best_error is None or error is None:
        return best.score == other.score
    return abs((best.score or 0.0) - (other.score or 0.0)) <= STANDARD_ERRORS * sqrt(best_error**2 + error**2)


def _difference(best: RankedTrial | None, other: float | None) -> float | None:
    return best.score - other if best is not None and other is not None and isfinite(other) else None
