"""Ranks a task's finalists on validation, with what few seeds say: spread, interval, what differs, what failed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

from krona_tune.study.intervals import ALL_EQUAL, Difference, Estimate, Scored, comparisons_of, difference, estimate
from krona_tune.study.kinds import TrialKind
from krona_tune.study.learning import FailureRate, Learned, learned_more, unlearned
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.request.metric_table import bounds_of
from krona_tune.study.request.study_spec import EARLIER_CONFIDENCE
from krona_tune.study.request.trial import HEAD_ONLY
from krona_tune.study.result import NO_INTERVAL, Status, TrialResult, grouped, is_score

HEAD, DEFAULT = 0, -1
"""The numbers of the head alone and of the default configuration in a task's finals; the others count from 1."""


def deviation(values: Sequence[float]) -> float | None:
    """Returns the sample standard deviation, Σ(x−x̄)² over n−1; None for a single value."""
    return stdev(values) if len(values) > 1 else None


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Scores over seeds: their mean, its 95 % interval, and their sample standard deviation (None for one seed)."""

    mean: float
    deviation: float | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """One configuration with its completed rows, one per seed.

    `test` is a mean over the seeds that learned, on the test half, and `estimate` what they say of it; `validation` is
    one over all of `rows`. `unlearned` are the rows of `rows` that did not learn, and those that diverged; `lost` are
    others that ended without a test score. `difference` is the winner's test mean less its own; None for the winner and
    for the head alone. `validation_examples` are 0 if their number is not known. `learns`: in the mean its seeds are
    above the constant answer, as far as that is known.
    """

    of: str
    rows: tuple[TrialResult, ...]
    validation: Spread
    test: Spread
    estimate: Estimate
    unlearned: tuple[TrialResult, ...] = ()
    lost: tuple[TrialResult, ...] = ()
    difference: Difference | None = None
    validation_examples: int = 0
    learns: bool = True

    @property
    def params(self) -> Mapping[str, Any]:
        return self.rows[0].params

    @property
    def method(self) -> str:
        return str(self.params["method"])

    @property
    def number(self) -> int:
        """Returns its number in the finals."""
        return self.rows[0].number

    @property
    def seeds(self) -> int:
        return len(self.rows)

    @property
    def learned(self) -> tuple[TrialResult, ...]:
        """Returns the rows that its test score is a mean of."""
        return tuple(row for row in self.rows if row not in self.unlearned)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Returns the least and the greatest value of its test score; None if it may have any."""
        return bounds_of(self.rows[0].test_metrics)

    @property
    def failure_rate(self) -> FailureRate | None:
        """Returns how many of its seeds did not learn; None if all did."""
        failed = len(self.unlearned)
        return FailureRate(failed=failed, seeds=len(self.learned) + failed) if failed else None

    @property
    def steady(self) -> bool:
        """Returns whether every seed has a score and has learned."""
        return not (self.unlearned or self.lost)

    @property
    def reliable(self) -> bool:
        """Returns whether it is steady, and not because none of its seeds has learned."""
        return self.steady and self.learns

    @property
    def tied(self) -> bool:
        """Returns whether it is the winner, or was compared with it on test and can't be told apart."""
        return self.difference is None or self.difference.apart is False

    @property
    def best_row(self) -> TrialResult:
        """Returns the row of the seed with the highest validation score."""
        return max(self.rows, key=lambda row: row.score or 0.0)

    @property
    def note(self) -> str:
        """Returns why it has no interval, for how many draws of the examples a seed has no score, or what its interval
        leaves out; empty if none is so."""
        if recorded := next((row.test_note for row in self.rows if row.test_note), ""):
            return recorded
        if self.estimate.lacks:
            return NO_INTERVAL + self.estimate.lacks
        return "" if self.estimate.whole else f"the interval is over {self.estimate.covers}"

    @property
    def all_equal(self) -> bool:
        """Returns whether it has no interval because its test scores do not differ: a perfect one, mostly."""
        return self.estimate.whole and self.estimate.lacks == ALL_EQUAL

    @property
    def undrawn(self) -> str:
        """Returns why a seed that learned has no draws of the test examples, so that an interval would be over seeds
        alone; empty if all have them, or an earlier version made none."""
        notes = (row.test_note for row in self.learned if row.test_note and not row.test_resampled)
        return next(notes, "").removeprefix(NO_INTERVAL)

    @property
    def examples(self) -> int:
        return self.rows[0].test_examples

    def test_by_seed(self) -> dict[int, float]:
        """Returns, by seed, the test score of those that learned."""
        return {row.seed: row.test_score for row in self.learned if row.test_score is not None}

    def validated_by_seed(self) -> dict[int, Scored]:
        """Returns, by seed, the validation score of each row and its draws."""
        return {row.seed: (row.score, row.validation_resampled) for row in self.rows if row.score is not None}

    def scored_by_seed(self) -> dict[int, Scored]:
        """Returns, by seed, its test score and its draws."""
        draws = {row.seed: row.test_resampled for row in self.learned}
        return {seed: (score, draws[seed]) for seed, score in self.test_by_seed().items()}


@dataclass(frozen=True, kw_only=True)
class Finals:
    """A task's finalists, the highest validation mean first, and the head alone with the same seeds.

    Finalists with fewer completed seeds come later, because means over different numbers of seeds are not compared.
    Where some configurations got more seeds than all were to get, those beyond that number give no advantage.
    `lost` are the trials of configurations that have none to come and none with a test score. `compares`: the default
    configuration takes part, however far it has come, and however it ended; `awaits_default`: none of its trials has
    ended; `unfinished`: some configuration has seeds to come. `facts` are the task's, if they are known: by which rules
    one is chosen.
    """

    finalists: tuple[Finalist, ...] = ()
    head_only: Finalist | None = None
    lost: tuple[TrialResult, ...] = ()
    compares: bool = False
    awaits_default: bool = False
    unfinished: bool = False
    facts: TaskFacts | None = None

    @property
    def steady(self) -> bool:
        """Returns whether a configuration that learns with every seed is looked for."""
        return self.facts is not None and self.facts.steady

    @property
    def confidence(self) -> float:
        """Returns with which confidence, one-sided, a configuration must be better than another."""
        return self.facts.confidence if self.facts else EARLIER_CONFIDENCE

    @property
    def winner(self) -> Finalist | None:
        """Returns the finalist that was selected on validation; the test half is not used."""
        return self.finalists[0] if self.finalists else None

    @property
    def everyone(self) -> tuple[Finalist, ...]:
        """Returns the finalists, and the head alone after them if it was trained."""
        return (*self.finalists, *([self.head_only] if self.head_only else []))

    @property
    def default(self) -> Finalist | None:
        """Returns the default configuration, if it is one of the finalists."""
        return next((each for each in self.finalists if each.number == DEFAULT), None)

    @property
    def gain_over_head(self) -> float | None:
        """Returns the winner's test mean minus that of the head alone, over the seeds that both have."""
        found = self.over_head.estimate if self.over_head else None
        return found.mean if found else None

    @cached_property
    def over_head(self) -> Difference | None:
        """Returns that gain with what is known of it."""
        if self.winner is None or self.head_only is None:
            return None
        return _difference(self.winner, self.head_only, len(self.finalists))

    @property
    def beats_head(self) -> bool | None:
        """Returns whether that gain is more than chance gives; None if that can't be decided."""
        found = self.over_head
        if found is None or found.estimate is None or found.apart is None:
            return None
        return found.apart and found.estimate.mean > 0


def rank_finals(rows: Iterable[TrialResult], facts: TaskFacts | None = None) -> Finals:
    """Returns the finals of one task's rows; only completed finalists with a score on the test half count.

    `facts` have the constant answer's score and the number of seeds that each was to get at least. Without them, no
    seed is taken for one that did not learn, and that number is the most that one has.
    """
    begun = [row for row in rows if row.kind == TrialKind.FINALIST]
    of_default = [row for row in begun if row.number == DEFAULT]
    found = grouped((row for row in begun if row.ended), lambda row: row.of)
    everyone = [each for of, repeats in found.items() if (each := finalist_of(of, repeats, facts))]
    most = max((each.seeds for each in everyone if each.method != HEAD_ONLY), default=0)
    asked = facts.final_seeds if facts and facts.final_seeds else most

    def place(each: Finalist) -> tuple[int, float, int, str]:
        return -min(each.seeds, asked), -each.validation.mean, each.rows[0].trainable_parameters, each.of

    ranked = sorted((each for each in everyone if each.method != HEAD_ONLY), key=place)
    known = {each.of for each in everyone}
    to_come = {row.of for row in begun if not row.ended}
    if facts and facts.final_seeds:
        to_come |= {of for of, repeats in found.items() if len(repeats) < facts.final_seeds}
    return Finals(
        finalists=tuple(
            replace(each, difference=_difference(ranked[0], each, len(ranked))) if place else each
            for place, each in enumerate(ranked)
        ),
        head_only=min((each for each in everyone if each.method == HEAD_ONLY), key=place, default=None),
        lost=tuple(
            row
            for of, repeats in found.items()
            for row in repeats
            if of not in known and of not in to_come and not row.head_alone
        ),
        compares=bool(of_default),
        awaits_default=bool(of_default) and not any(row.ended for row in of_default),
        unfinished=bool(to_come),
        facts=facts,
    )


def finalist_of(of: str, repeats: Sequence[TrialResult], facts: TaskFacts | None) -> Finalist | None:
    """Returns what the seeds of one configuration say together; None if none has completed with a test score."""
    rows = [row for row in repeats if row.finished and is_score(row.test_score)]
    if not rows:
        return None
    rows = sorted(rows, key=lambda row: (row.started_at, row.trial_id))
    others = [row for row in repeats if row not in rows]
    flat = unlearned(rows, facts) if facts else ()
    learned = [row for row in rows if row not in flat]
    validation = [row.score for row in rows if row.score is not None]
    test = [row.test_score for row in learned if row.test_score is not None]
    known = estimate(test, [row.test_resampled for row in learned], learned[0].test_examples)
    found = Finalist(
        of=of,
        rows=tuple(rows),
        validation=Spread(mean=fmean(validation), deviation=deviation(validation)),
        test=Spread(mean=fmean(test), deviation=deviation(test)),
        estimate=known,
        unlearned=(*flat, *(row for row in others if row.status is Status.DIVERGED)),
        lost=tuple(row for row in others if row.status is not Status.DIVERGED),
        validation_examples=facts.validation_examples if facts else 0,
        learns=learned_more(rows, facts) is not Learned.NOTHING,
    )
    return found if found.undrawn else replace(found, test=replace(found.test, interval=known.interval(found.bounds)))


def _difference(winner: Finalist, other: Finalist, finalists: int) -> Difference:
    sides, many = (winner.scored_by_seed(), other.scored_by_seed()), comparisons_of(finalists)
    found = difference(*sides, winner.examples, many, winner.bounds)
    return replace(found, why_none=winner.undrawn or other.undrawn)
