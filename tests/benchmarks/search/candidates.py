"""Holds search strategies that krona_tune might adopt, each a few choices away from the present one."""

from dataclasses import dataclass

import optuna
from optuna.samplers import TPESampler
from ray.tune.schedulers import TrialScheduler

from krona_tune.search.planning.space import Params
from krona_tune.study.randomness import stream
from tests.benchmarks.search.curves import Seen
from tests.benchmarks.search.engine import Trial, is_over
from tests.benchmarks.search.model_history import Choices, History, Memory, value_of
from tests.benchmarks.search.strategies import Setting, asha


@dataclass
class Candidate:
    """TPE over a history that is built anew for each proposal."""

    setting: Setting
    choices: Choices

    def __post_init__(self) -> None:
        self.schedule = self.setting.schedule
        self._trials: list[Trial] = []
        self._ended: set[str] = set()
        self._gone_on: set[tuple[str, int]] = set()
        self._asha = asha(self.schedule, "examples")
        self._memory = Memory(self.setting.space, self.schedule, self.choices)

    def next(self) -> Trial:
        if self.choices.promote and (promoted := self._promoted()):
            return promoted
        trial = Trial(number=len(self._trials), params=self._proposed())
        self._trials.append(trial)
        self._asha.on_trial_add(None, trial)
        return trial

    def heard(self, trial: Trial, seen: Seen) -> bool:
        goes_on = not is_over(trial, self.schedule) and self._goes_on(trial, seen)
        if not goes_on:
            self._ended.add(trial.trial_id)
        return goes_on

    def _goes_on(self, trial: Trial, seen: Seen) -> bool:
        if not self.choices.promote:
            told = {"examples": seen.examples, "score": value_of(seen)}
            return bool(self._asha.on_trial_result(None, trial, told) == TrialScheduler.CONTINUE)
        rung = len(trial.seen) - 1
        if trial not in self._best_at(rung):
            return False
        self._gone_on.add((trial.trial_id, rung))
        return True

    def _best_at(self, rung: int) -> list[Trial]:
        """Returns the best 1/η of the trials that have reported at a rung."""
        there = [trial for trial in self._trials if len(trial.seen) > rung and not trial.seen[rung].diverged]
        there.sort(key=lambda trial: -value_of(trial.seen[rung]))
        return there[: len(there) // self.schedule.reduction]

    def _promoted(self) -> Trial | None:
        """Returns a waiting trial that is now among the best at its rung, from the highest rung that has one."""
        for rung in reversed(range(len(self.schedule.rungs) - 1)):
            for trial in self._best_at(rung):
                if (trial.trial_id, rung) not in self._gone_on and len(trial.seen) == rung + 1:
                    self._gone_on.add((trial.trial_id, rung))
                    self._ended.discard(trial.trial_id)
                    return trial
        return None

    def _proposed(self) -> Params:
        sampler = TPESampler(
            n_startup_trials=self.choices.startup,
            seed=stream(self.setting.seed, "candidate", len(self._trials)) % 2**32,
        )
        history = History(self._memory.told(self._trials, self._ended))
        trial = optuna.create_study(storage=history, sampler=sampler, direction="maximize").ask()
        memory = self._memory
        return self.setting.space.point(
            # private: Optuna has no public call for a distribution of one's own
            lambda label, domain: memory.meant(label, trial._suggest(label, memory.distribution(label, domain)))
        )
