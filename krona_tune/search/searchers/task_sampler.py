"""Connects our domains to Optuna: one Optuna study per task proposes points and gets their results."""

import logging
import random
import warnings
from bisect import bisect_left
from collections.abc import Mapping
from decimal import Decimal
from math import exp, isfinite, log
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from krona_tune.search.clone import is_clone
from krona_tune.search.planning.space import Params, Space
from krona_tune.search.searchers.proposal import Origin, Proposal, Suggest, TriedPoint
from krona_tune.study.proposer import Proposer
from krona_tune.study.randomness import stream
from krona_tune.study.request.domain import Choice, Divisors, Domain, Fixed, Range
from krona_tune.study.result import Status

logger = logging.getLogger(__name__)

ATTEMPTS = 20
"""How many of Optuna's proposals may be rejected before an acceptable point is drawn evenly."""
LIMIT_DRAWS = 500
"""Even draws among which the smallest and the largest adapter are sought, for the trials' own parameter limits."""
DIGITS = 12
"""How many digits Optuna gets of a step: with those of 1/7 its decimals would miss the end of a range."""
STATES = {
    Status.COMPLETED: TrialState.COMPLETE,
    Status.STOPPED_EARLY: TrialState.PRUNED,
    Status.STOPPED_BY_USER: TrialState.PRUNED,
    Status.DIVERGED: TrialState.FAIL,
    Status.OUT_OF_MEMORY: TrialState.FAIL,
    Status.FAILED: TrialState.FAIL,
}
"""The states that Optuna gets. It gets none for an interrupted trial, which continues when the study is resumed."""
ENDS = {TrialState.COMPLETE: Status.COMPLETED, TrialState.PRUNED: Status.STOPPED_EARLY}
"""What such a state of Optuna's means; it does not know who has stopped a trial."""
TRIAL_ID, LOST, ORIGIN = "trial_id", "lost", "origin"
"""Attributes of a point in Optuna: the trial that tries it, that the driver ended before a trial had it, and who
proposed it."""


class TaskSampler:
    """A sampler of a space's points for one task. Every draw's randomness is a stream of (seed, task, number).

    Args:
        startup_trials: how many points are drawn evenly before Optuna models the scores; None for all.
        suggest: returns points from elsewhere that are tried first; those that are not acceptable here are skipped.
        only_suggested: proposes nothing else.
        every_size: gives each trial its own parameter limit, so that small adapters are searched as much as large ones.
        tries_largest: rounds each of these limits up to a size that a point has; else the largest size would be no
            trial's, as in studies that began before this was seen.
    """

    def __init__(
        self,
        space: Space,
        storage: BaseStorage,
        name: str,
        *,
        seed: int,
        startup_trials: int | None,
        suggest: Suggest = lambda number, tried: (),
        only_suggested: bool = False,
        every_size: bool = False,
        tries_largest: bool = False,
    ) -> None:
        self._space, self._seed, self._startup, self._suggest = space, seed, startup_trials, suggest
        self._address = name.partition("/")[2]  # randomness depends on what is searched, not on the study's name
        self._study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
            self._study.set_metric_names(["score"])
        self._give_up_what_was_lost()
        mine = [trial for trial in self._study.get_trials(deepcopy=False) if TRIAL_ID in trial.user_attrs]
        self._numbers = {t.user_attrs[TRIAL_ID]: t.number for t in mine}
        self._open = {t.user_attrs[TRIAL_ID]: t.number for t in mine if t.state is TrialState.RUNNING}
        self._tried = {space.meaning(self._point_of(trial)) for trial in mine}
        self._worst: set[str] = set()
        self._exhausted = False
        self._only_suggested = only_suggested
        self._sizes = space.sizes(LIMIT_DRAWS) if every_size else []
        self._tries_largest = tries_largest

    def ask(self, trial_id: str, number: int) -> dict[str, Any] | None:
        """Returns a feasible point that was not tried before, by knob name; None if none is found.

        Points beyond the parameter limit and points tried before are reported to Optuna as failed and never returned.
        A trial that was asked for before gets the same point again.
        """
        if trial_id in self._numbers:
            return self.point(trial_id)
        if self._exhausted:
            return None
        limit = self._limit(number)

        def acceptable(params: Params) -> bool:
            return self._space.feasible(params, limit) and self._space.meaning(params) not in self._tried

        suggested = next((each for each in self._suggest(number, self.tried) if acceptable(each.point)), None)
        if suggested is None and self._only_suggested:
            return None
        for attempt in range(ATTEMPTS + 1):
            asked = sum(LOST not in each.user_attrs for each in self._study.get_trials(deepcopy=False))
            if attempt == ATTEMPTS:
                rng = random.Random(stream(self._seed, "even draw", self._address, asked))
                drawn = self._space.draw_where(acceptable, rng)
                if drawn is None and limit is not None:
                    limit = None  # all within it was tried, and larger points are left
                    drawn = self._space.draw_where(acceptable, rng)
                if drawn is None:
                    self._exhausted = True
                    return None
                suggested = Proposal(drawn, Origin(proposed_by=Proposer.EVEN_DRAW))
            if suggested and not self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                self._study.enqueue_trial(self._in_optuna(suggested.point)[0])
            origin = suggested.origin if suggested else self._own_origin()
            suggested = None
            self._study.sampler = self._sampler(asked)
            trial = self._study.ask()
            params = self._space.point(lambda label, domain: trial._suggest(label, distribution_of(domain)))  # noqa: B023
            if acceptable(params):
                return self._begun(trial, trial_id, params, origin)
            self._study.tell(trial, state=TrialState.FAIL)
        raise AssertionError("an acceptable point is enqueued in the end")

    def origin(self, trial_id: str) -> Origin:
        """Returns who proposed the point of a trial that was asked for before; an empty origin if nobody knows."""
        number = self._numbers.get(trial_id)
        known = {} if number is None else self._study.get_trials(deepcopy=False)[number].user_attrs
        return Origin(**known.get(ORIGIN, {}))

    def end(self, trial_id: str, step: int) -> Status | None:
        """Returns how a trial ended whose last report is that of a step; None if it goes on or failed, has other
        reports, or nobody knows."""
        if (number := self._numbers.get(trial_id)) is None:
            return None
        trial = self._study.get_trials(deepcopy=False)[number]
        return ENDS.get(trial.state) if trial.last_step == step else None

    def _own_origin(self) -> Origin:
        """Returns the origin of what Optuna proposes now: TPE draws evenly until enough trials have a score."""
        scored = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        drawn = self._startup is None or len(scored) < self._startup
        return Origin(proposed_by=Proposer.EVEN_DRAW if drawn else Proposer.TPE)

    def tried(self) -> list[TriedPoint]:
        """Returns the points that trials of the task had or have, in the order of their proposal."""
        known = self._study.get_trials(deepcopy=False)
        return [
            TriedPoint(
                point=self._point_of(trial),
                scores=trial.intermediate_values,
                ended=trial.state.is_finished(),
                worst=trial.user_attrs[TRIAL_ID] in self._worst,
                ordered=is_clone(trial.user_attrs[TRIAL_ID]),
            )
            for trial in (known[number] for number in sorted(self._numbers.values()))
        ]

    def note(self, fact: str) -> None:
        """Keeps a fact about the task in Optuna's journal, for those that go on with it."""
        self._study.set_user_attr(fact, True)

    def has_noted(self, fact: str) -> bool:
        """Returns whether a fact was kept, also by an earlier process."""
        return bool(self._study.user_attrs.get(fact))

    def point(self, trial_id: str) -> dict[str, Any] | None:
        """Returns the point of a trial that was asked for before; None for any other trial."""
        number = self._numbers.get(trial_id)
        return None if number is None else self._point_of(self._study.get_trials(deepcopy=False)[number])

    def recall(self, trial_id: str, params: Params, status: Status, scores: Mapping[int, float]) -> None:
        """Adds an earlier trial from the records, in case Optuna's journal lost it or its end.

        Changes nothing if Optuna knows the trial's end, unless the trial failed there and was trained again since, or
        will be.

        Args:
            scores: the scores by step, in order, as for `report`; the last one is the trial's.
        """
        last = _finite(list(scores.values())[-1]) if scores else None
        scores = {step: score for step, score in scores.items() if isfinite(score)}
        state = _state(status, last)
        if status.worst:
            self._worst.add(trial_id)
        else:
            self._worst.discard(trial_id)
        if trial_id in self._open:
            for step, score in scores.items():
                self.report(trial_id, step, score)
            self.tell(trial_id, status, last)
        elif trial_id not in self._numbers or (self._has_failed(trial_id) and state is not TrialState.FAIL):
            self._add(trial_id, params, state, scores, last)

    def _has_failed(self, trial_id: str) -> bool:
        """Returns whether Optuna takes a known trial for a failed one."""
        return self._study.get_trials(deepcopy=False)[self._numbers[trial_id]].state is TrialState.FAIL

    def _add(
        self, trial_id: str, params: Params, state: TrialState, scores: Mapping[int, float], last: float | None
    ) -> None:
        """Adds a trial to Optuna's study as if Optuna had proposed it."""
        drawn, distributions = self._in_optuna(params)
        origin = self.origin(trial_id).plain()
        try:
            trial = create_trial(
                state=state,
                params=drawn,
                distributions=distributions,
                user_attrs={TRIAL_ID: trial_id, **({ORIGIN: origin} if origin else {})},
                intermediate_values=dict(scores),
                value=last if state in {TrialState.COMPLETE, TrialState.PRUNED} else None,
            )
        except ValueError as error:
            logger.warning("%s could not be added to Optuna's study: %s", trial_id, error)
            return
        self._study.add_trial(trial)
        added = self._study.get_trials(deepcopy=False)[-1]
        self._numbers[trial_id] = added.number
        self._tried.add(self._space.meaning(self._point_of(added)))
        if state is TrialState.RUNNING:
            self._open[trial_id] = added.number

    def _in_optuna(self, params: Params) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        """Returns what Optuna must draw to get a point, and the distributions that it draws from, by label."""
        drawn: dict[str, Any] = self._space.drawn(params)
        distributions: dict[str, BaseDistribution] = {}

        def value(label: str, domain: Domain) -> Any:
            distributions[label] = distribution_of(domain)
            if isinstance(domain, Range) and domain.step and domain.equal_value(drawn[label]) is not None:
                drawn[label] = _between_the_ends(drawn[label], distributions[label])
            return drawn[label]

        self._space.point(value)
        return drawn, distributions

    def _give_up_what_was_lost(self) -> None:
        """Marks points as lost if their driver ended before it gave them to a trial, so that they are drawn again."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if TRIAL_ID not in trial.user_attrs:
                optuna.Trial(self._study, trial._trial_id).set_user_attr(LOST, True)
                self._study.tell(trial.number, state=TrialState.FAIL)

    def _begun(self, trial: optuna.Trial, trial_id: str, params: dict[str, Any], origin: Origin) -> dict[str, Any]:
        trial.set_user_attr(ORIGIN, origin.plain())
        trial.set_user_attr(TRIAL_ID, trial_id)
        self._numbers[trial_id] = self._open[trial_id] = trial.number
        self._tried.add(self._space.meaning(params))
        return params

    def _point_of(self, trial: FrozenTrial) -> dict[str, Any]:
        """Returns the point that an earlier trial drew."""
        return self._space.point(lambda label, domain: trial.params[label])

    def _limit(self, number: int) -> int | None:
        """Returns one trial's parameter limit, drawn log-uniformly between the smallest and the largest adapter."""
        if not self._sizes or not self._sizes[0]:
            return None
        rng = random.Random(stream(self._seed, "limit", self._address, number))
        drawn = round(exp(rng.uniform(log(self._sizes[0]), log(self._sizes[-1]))))
        return self._sizes[bisect_left(self._sizes, drawn)] if self._tries_largest else drawn

    def is_open(self, trial_id: str) -> bool:
        """Returns whether a trial was asked for and has not ended."""
        return trial_id in self._open

    def report(self, trial_id: str, step: int, score: float) -> None:
        """Reports a score at a rung, if it is finite; `step` is in the unit of the rungs, such as examples."""
        if trial_id in self._open and isfinite(score):
            trial = optuna.trial.Trial(
                self._study, self._study.get_trials(deepcopy=False)[self._open[trial_id]]._trial_id
            )
            with warnings.catch_warnings(action="ignore", category=UserWarning):
                # of a rung that is reported again after a resume
                trial.report(score, step)

    def tell(self, trial_id: str, status: Status, score: float | None) -> None:
        """Tells Optuna the end of a trial; does nothing if the trial is not open or was interrupted."""
        if status not in STATES or trial_id not in self._open:
            return
        if status.worst:
            self._worst.add(trial_id)
        number, state = self._open.pop(trial_id), _state(status, score)
        self._study.tell(number, score if state is TrialState.COMPLETE else None, state=state)

    def _sampler(self, number: int) -> BaseSampler:
        seed = stream(self._seed, "sampler", self._address, number) % 2**32
        if self._startup is None:
            return RandomSampler(seed)
        with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
            return TPESampler(
                n_startup_trials=self._startup,
                constant_liar=True,
                seed=seed,
                group=True,  # models a method's knobs together, whatever other methods read
            )


def _state(status: Status, score: float | None) -> TrialState:
    """Returns the state that Optuna gets; it takes a completed trial only with a score."""
    state = STATES.get(status, TrialState.RUNNING)
    return TrialState.FAIL if state is TrialState.COMPLETE and _finite(score) is None else state


def _finite(score: float | None) -> float | None:
    return score if score is not None and isfinite(score) else None


def distribution_of(domain: Domain) -> BaseDistribution:
    """Returns the Optuna distribution that draws from a domain.

    Raises:
        AssertionError: the domain draws nothing (fixed), or is not resolved (divisors).
    """
    match domain:
        case Choice(values):
            return CategoricalDistribution(values)
        case Range(low, log=is_log, step=step) if domain.whole and (step is None or isinstance(step, int)):
            return IntDistribution(int(low), int(domain.last), log=is_log, step=int(step or 1))
        case Range(low, high, log=is_log, step=None):
            return FloatDistribution(low, high, log=is_log)
        case Range():
            return _stepped(domain)
        case Fixed() | Divisors():
            raise AssertionError(f"{domain} is not sampled")


def _stepped(domain: Range) -> FloatDistribution:
    low, step = (Decimal(f"{number:.{DIGITS}g}") for number in (domain.low, domain.step))
    return FloatDistribution(float(low), float(low + domain.steps * step), step=float(step))


def _between_the_ends(value: float, distribution: Any) -> float:
    """Returns a value of a range with steps as its distribution accepts it, whose ends have fewer digits."""
    within: float = min(max(value, distribution.low), distribution.high)
    return within
