"""Searches with Syne Tune's ASHA and one of its models: `pip install syne-tune`, which krona_tune does not require."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from krona_tune.search.searchers.task_sampler import distribution_of
from krona_tune.study.request.domain import Domain
from tests.benchmarks.search.curves import Seen
from tests.benchmarks.search.engine import Trial, is_over
from tests.benchmarks.search.strategies import Setting

BEGUN = datetime(2000, 1, 1, tzinfo=UTC)
"""When a trial began: Syne Tune keeps it and does nothing with it."""


@dataclass
class SyneTune:
    """One of Syne Tune's schedulers, called as its tuner calls it.

    A training that diverges reports the score of a constant answer. A point whose sizes do not fit reports the same at
    once, and costs nothing.
    """

    setting: Setting
    kind: str
    _known: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from syne_tune.optimizer import baselines

        self.schedule, domains = self.setting.schedule, self.setting.space.searched()
        self._values = {label: values_of(domain) for label, domain in domains.items()}
        random.seed(self.setting.seed)
        np.random.seed(self.setting.seed)
        self._scheduler = getattr(baselines, self.kind)(
            {label: domain_of(domain) for label, domain in domains.items()},
            metric="score",
            time_attr="examples",
            max_t=self.schedule.total_examples,
            grace_period=self.schedule.rungs[0],
            reduction_factor=self.schedule.reduction,
            do_minimize=False,
            random_seed=self.setting.seed,
            points_to_evaluate=[self._named(self.setting.space.drawn(point)) for point in self.setting.first] or None,
        )

    def next(self) -> Trial:
        from syne_tune.backend.trial_status import Trial as TheirTrial

        while True:
            number, asked = len(self._known), self._scheduler.suggest()
            theirs = self._known[number] = TheirTrial(number, asked.config, BEGUN)
            self._scheduler.on_trial_add(theirs)
            point = self.setting.space.point(lambda label, _: self._value(label, theirs.config[label]))  # noqa: B023
            if self.setting.space.feasible(point):
                return Trial(number=number, params=point)
            self._scheduler.searcher.on_trial_result(
                number, theirs.config, metric=-self.setting.chance, resource_level=self.schedule.rungs[0]
            )  # what it minimises
            self._scheduler.on_trial_remove(theirs)

    def heard(self, trial: Trial, seen: Seen) -> bool:
        theirs = self._known[trial.number]
        told = self._told(seen.examples, self.setting.chance if seen.diverged else seen.score)
        if is_over(trial, self.schedule):
            self._scheduler.on_trial_complete(theirs, told)
            return False
        if self._scheduler.on_trial_result(theirs, told) == "CONTINUE":
            return True
        self._scheduler.on_trial_remove(theirs)
        return False

    def _value(self, label: str, theirs: Any) -> Any:
        return self._values[label].get(theirs, theirs)

    def _named(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {label: str(value) if self._values[label] else value for label, value in values.items()}

    def _told(self, examples: int, score: float) -> dict[str, float]:
        return {"score": score, "examples": examples}


def values_of(domain: Domain) -> dict[str, Any]:
    """Returns the values of a choice that is not of numbers alone by their names: Syne Tune takes values of one type
    only. Empty for any other domain."""
    found = distribution_of(domain)
    if not isinstance(found, CategoricalDistribution) or all(type(value) in {int, float} for value in found.choices):
        return {}
    return {str(value): value for value in found.choices}


def domain_of(domain: Domain) -> Any:
    """Returns Syne Tune's domain that draws the same values; it knows the order of numbers."""
    from syne_tune import config_space

    match distribution_of(domain):
        case CategoricalDistribution(choices=values) if all(type(value) in {int, float} for value in values):
            ordered: list[Any] = sorted(values, key=lambda value: cast(float, value))
            return (config_space.logordinal if ordered[0] > 0 else config_space.ordinal)(ordered)
        case CategoricalDistribution():
            return config_space.choice(list(values_of(domain)))
        case IntDistribution(low=low, high=high, log=is_log):
            return (config_space.lograndint if is_log else config_space.randint)(low, high)
        case FloatDistribution(low=low, high=high, log=is_log):
            return (config_space.loguniform if is_log else config_space.uniform)(low, high)
        case other:
            raise ValueError(f"{other} has no equal in Syne Tune")


def by_syne_tune(kind: str) -> Callable[[Setting], SyneTune]:
    """Returns a maker of strategies by one of Syne Tune's schedulers, such as ASHABORE."""
    return lambda setting: SyneTune(setting, kind)
