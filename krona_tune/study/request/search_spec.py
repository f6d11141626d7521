"""Holds the request of a search: its trials, who proposes them, what it learns from, and when it stops."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from krona_tune.study.frozen_value import FrozenValue
from krona_tune.study.request.field_types import (
    MOST_POINTS,
    Count,
    CountFromZero,
    Examples,
    ParameterLimit,
    Places,
    Positive,
    Seconds,
    Trials,
    listed,
)
from krona_tune.study.request.samplers import SAMPLERS, Sampler, SamplerFacts

RECORDED_CURVES = "recorded-curves"
"""Names, in a warm start, the learning curves that come with the package."""
CURVE_FILE = ".parquet"
"""The end of the name of a file of contributed curves."""
NOTHING_EARLIER = "none"
"""Says, as a warm start, that a study learns from nothing before it."""
MOST_TAUGHT, LEFT_TO_OPTUNA = 8, 2
"""The most points of the recorded curves that a task tries, and how many of three or more trials it leaves to Optuna
at least."""


class RepeatsSpec(FrozenValue):
    """Asks to train a task's first configurations again when the search is done, each with `seeds` new seeds.

    The repeats show how much scores differ by chance, and take no part in any ranking.
    """

    points: CountFromZero = 0
    """How many of a task's first configurations are trained again."""
    seeds: Count = 3
    """How many new seeds each of them gets."""


def _are_files(places: Any) -> bool:
    """Returns whether there are places, and all are files of contributed curves."""
    return isinstance(places, list | tuple) and bool(places) and all(str(each).endswith(CURVE_FILE) for each in places)


class SearchSpec(FrozenValue):
    """The number of trials that a task gets, how they are proposed, and the limits for them.

    Each limit of time, examples and device hours counts over all starts of a study.
    """

    # The keys that `settled` gives a value.
    SETTLED: ClassVar = ("taught", "front", "stop_trials")

    trials: Trials = 12
    """Searched trials for each task; with `per_method`, for each method of each task."""
    sampler: Sampler = "tpe"
    """Names who proposes points: "tpe" learns from the scores of the same task, "study_model" from those of all tasks
    and of earlier studies (a search by method or of shared configurations is left to TPE), "random" draws evenly,
    "sobol" takes the points of a scrambled Sobol sequence, which cover the space evenly and are the same on every task.
    Left out: "study_model" with a `warm_start` that names more than files of curves, else "tpe"."""
    first_point: Annotated[int, Field(ge=0, le=MOST_POINTS)] = 0
    """The number of the first Sobol point, so that several studies can share one design."""
    early_stopping: bool = True
    """Whether ASHA stops poor trials at their rungs; false: every trial runs to its end."""
    repeats: RepeatsSpec = RepeatsSpec()
    """The first configurations again with new seeds, which shows how much scores differ by chance."""
    per_method: bool = False
    """Whether every method gets trials of its own on each task, and competes only with itself."""
    objective: Literal["score", "pareto"] = "score"
    """Says what is looked for: the best score, or with `pareto` the best score at every size."""
    front: Literal["model"] | None = None
    """Says who proposes points with `objective: pareto`. "model": the model of the study, those that promise the most
    over the best point with no more parameters. A new study writes it, unless it searches by method or its sampler is
    "random". null: the `sampler`, as before this key was there."""
    shared: bool = False
    """Whether all tasks share their configurations, which are judged by their average."""
    warm_start: Places | None = None
    """The folder of an earlier study, a .parquet file of contributed curves, the word recorded-curves for the learning
    curves that come with the package, or a list of them: TPE tries their best points first, a model of the study learns
    from all. Files alone teach as the curves of the package do, before them. The word none: nothing."""
    taught: bool | None = None
    """Whether a task's first trials are points that were best in the recorded learning curves, trained to their end. A
    new study writes what holds: true, unless the search is asked for otherwise or of several methods. null: as before
    this key was there."""
    stop: Literal["auto"] | None = None
    """Whether a task's search ends by itself, when its remaining trials are expected to gain less than `least_gain`;
    more trials than it began with lift that. null: every trial is run."""
    least_gain: Positive = 0.02
    """The least expected gain, in score, for which `stop: auto` goes on; finals of three seeds on 500 test examples can
    hardly tell less apart."""
    stop_trials: Count | None = None
    """The number of trials that a search with `stop: auto` began with. A new study writes it."""
    startup_trials: CountFromZero = 6
    """Lets TPE model a task's scores as soon as so many of its trials have one, taught trials too. Until then, trials
    that are not taught are drawn evenly."""
    baseline_learning_rates: tuple[Positive, ...] = (1e-2,)
    """Learning rates at which the head alone is trained, for comparison; empty: no baseline."""
    max_params: ParameterLimit | None = None
    """The most parameters of an adapter: a number such as 200000, or a share of the backbone such as 0.1%."""
    time_budget: Seconds | None = None
    """When the study stops, over all its starts, each with what it takes to start: seconds, or a time such as 90s,
    20min, 1h30m or 2d."""
    examples_budget: Examples | None = None
    """The most training examples of all trials together."""
    device_hours: Positive | None = None
    """The most hours of a GPU, or of a CPU core if there is no GPU."""

    @model_validator(mode="before")
    @classmethod
    def _learn_by_the_surrogate(cls, given: Any) -> Any:
        """Completes a request that learns from earlier studies and names no sampler."""
        if not isinstance(given, dict) or _are_files(listed(given.get("warm_start"))):
            return given
        if given.get("warm_start") and given.get("sampler") is None:
            return {**given, "sampler": "study_model"}
        return given

    @model_validator(mode="before")
    @classmethod
    def _learn_from_nothing(cls, given: Any) -> Any:
        """Reads the word that stands for no earlier study."""
        named = listed(given.get("warm_start")) if isinstance(given, dict) else None
        if not isinstance(named, list | tuple) or NOTHING_EARLIER not in named:
            return given
        if len(named) > 1 or given.get("taught"):
            raise ValueError(f"warm_start {NOTHING_EARLIER} stands alone; leave it out, or what it forbids")
        return {**given, "warm_start": None, "taught": False}

    @field_validator("stop")
    @classmethod
    def _stop_by_task(cls, stop: str | None, read: ValidationInfo) -> str | None:
        if stop and (read.data.get("per_method") or read.data.get("shared") or read.data.get("objective") == "pareto"):
            raise ValueError("it needs one search a task; leave it out with per_method, shared or objective: pareto")
        return stop

    def settled(self, *, several_methods: bool) -> Self:
        """Returns the request of a search that begins now: it is taught, unless it is asked for otherwise, or several
        methods compete: what teaches are trainings of one of them. Where every size counts, a model proposes."""
        studies = self.warm_start and not _are_files(self.warm_start)
        asked = "sampler" in self.model_fields_set or studies or self.first_point
        otherwise = asked or several_methods or self.per_method or self.shared
        taught = not otherwise if self.taught is None else self.taught
        settled: dict[str, Any] = {"taught": taught, "stop_trials": self.trials if self.stop else None}
        if self.pareto and "front" not in self.model_fields_set and not self._excludes_model:
            settled["front"] = "model"
        return self.model_copy(update=settled)

    @property
    def teachers(self) -> tuple[str, ...]:
        """Returns the files of contributed curves that teach beside those of the package."""
        return self.warm_start if self.taught and self.warm_start and _are_files(self.warm_start) else ()

    @property
    def learns_from(self) -> tuple[str, ...]:
        """Returns the places that TPE or the study's model learns from: all of `warm_start`, unless they teach."""
        return () if self.teachers else self.warm_start or ()

    @property
    def proposes_by(self) -> Sampler:
        """Returns what proposes the points: the sampler asked for, but TPE where no model of all tasks can propose."""
        if self.fills_front:
            return "study_model"
        return self.sampler if self.by_task or not self.sampled.of_all_tasks else "tpe"

    @property
    def by_task(self) -> bool:
        """Returns whether one best configuration of each task is looked for."""
        return not (self.per_method or self.shared or self.pareto)

    def by_group(self, points: Sequence[float]) -> Sequence[float]:
        """Returns how many points each group of a task has, whose methods have so many: a method alone, or all."""
        return points if self.per_method else [sum(points)]

    @property
    def sampled(self) -> SamplerFacts:
        """Returns what is true of the sampler that is asked for."""
        return SAMPLERS[self.sampler]

    @property
    def taught_trials(self) -> int:
        """Returns how many of a task's trials are points of the recorded curves; all others are left to Optuna."""
        return max(1, min(MOST_TAUGHT, -(-self.trials // 2), self.trials - LEFT_TO_OPTUNA)) if self.taught else 0

    @property
    def ends_itself(self) -> bool:
        """Returns whether a task's search may end before all its trials are run; more trials than it began with lift
        that."""
        return self.stop is not None and self.trials <= (self.stop_trials or self.trials)

    @property
    def pareto(self) -> bool:
        """Returns whether the best score at every size is looked for."""
        return self.objective == "pareto"

    @property
    def fills_front(self) -> bool:
        """Returns whether the model of the study looks for the best score at every size; methods apart are TPE's."""
        return self.pareto and self.front is not None and not self._excludes_model

    @property
    def _excludes_model(self) -> bool:
        """Returns whether the search is asked for in a way in which no model of all tasks can propose."""
        return self.per_method or not self.sampled.learns
