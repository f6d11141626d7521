"""Opens the samplers of a study, all in one journal file that optuna-dashboard can read."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from krona_tune.search.planning.space import Params, Space
from krona_tune.search.searchers.journal import Halt, open_journal
from krona_tune.search.searchers.proposal import Origin, Suggest
from krona_tune.search.searchers.sobol import sobol_points
from krona_tune.search.searchers.task_sampler import TaskSampler
from krona_tune.search.searchers.warm_start import adopt_points
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.result import Status

if TYPE_CHECKING:
    from krona_tune.search.searchers.study_model import StudyModel

SHARED = "shared"
"""The task name of configurations that all tasks share."""
Earlier = Mapping[str, Sequence[Params]]
"""Each task's points from an earlier study, which its first trials try."""
NOTHING: Earlier = {}


class MethodsInTurn:
    """One sampler per method, asked in turn, so that every method gets the same number of trials."""

    def __init__(self, samplers: Mapping[str, TaskSampler]) -> None:
        self._samplers = samplers

    def ask(self, trial_id: str, number: int) -> dict[str, Any] | None:
        """Returns a point of the method that the trial's number selects in turn."""
        turn, place = divmod(number, len(self._samplers))
        return list(self._samplers.values())[place].ask(trial_id, turn)

    def point(self, trial_id: str) -> dict[str, Any] | None:
        """Returns the trial's point like a TaskSampler, from the sampler that knows it; None if none does."""
        points = (sampler.point(trial_id) for sampler in self._samplers.values())
        return next((point for point in points if point is not None), None)

    def origin(self, trial_id: str) -> Origin:
        """Returns the origin of the trial's point like a TaskSampler; an empty one if no sampler knows it."""
        found = (sampler.origin(trial_id) for sampler in self._samplers.values())
        return next((origin for origin in found if origin.proposed_by), Origin())

    def report(self, trial_id: str, step: int, score: float) -> None:
        """Reports like a TaskSampler to all samplers; those that do not know the trial ignore it."""
        for sampler in self._samplers.values():
            sampler.report(trial_id, step, score)

    def tell(self, trial_id: str, status: Status, score: float | None) -> None:
        """Tells all samplers like a TaskSampler; those that do not know the trial ignore it."""
        for sampler in self._samplers.values():
            sampler.tell(trial_id, status, score)

    def recall(self, trial_id: str, params: Params, status: Status, scores: Mapping[int, float]) -> None:
        """Recalls a trial like a TaskSampler, in the sampler of the trial's method."""
        self._samplers[params["method"]].recall(trial_id, params, status, scores)


def open_samplers(
    spec: StudySpec,
    space: Space,
    journal: Path,
    halt: Halt,
    earlier: Earlier = NOTHING,
    model: "StudyModel | None" = None,
) -> dict[str, TaskSampler | MethodsInTurn]:
    """Returns one sampler per task, or per task and method. `halt` is called if the journal can't be written.

    A `model` proposes for all of them; where it has no proposal, TPE has one.
    """
    sampler = _sampler_in(spec, journal, halt, earlier, model)
    if not spec.search.per_method:
        return {task: sampler(space, task, task) for task in spec.tasks}
    return {
        task: MethodsInTurn({method: sampler(space.of(method), f"{task}/{method}", task) for method in space.methods})
        for task in spec.tasks
    }


def open_shared_sampler(
    spec: StudySpec, space: Space, journal: Path, halt: Halt, earlier: Earlier = NOTHING
) -> TaskSampler:
    """Returns the sampler of configurations that all tasks share."""
    return _sampler_in(spec, journal, halt, earlier)(space, SHARED, SHARED)


def _sampler_in(
    spec: StudySpec, journal: Path, halt: Halt, earlier: Earlier, model: "StudyModel | None" = None
) -> Callable[[Space, str, str], TaskSampler]:
    """Returns a function that makes a sampler of a part of the space, under a name in the journal, for a task."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage, search = open_journal(journal, halt), spec.search

    def suggest(part: Space, task: str) -> Suggest:
        if search.sampler == "sobol":
            return sobol_points(part, spec.seed, search.first_point)
        if model:
            return partial(model.suggest, task)
        first = adopt_points(part, earlier.get(task, ()))
        return lambda number: first

    def sampler(part: Space, name: str, task: str) -> TaskSampler:
        return TaskSampler(
            part,
            storage,
            f"{spec.name}/{name}",
            seed=spec.seed,
            startup_trials=search.startup_trials if search.sampler in {"tpe", "study_model"} else None,
            suggest=suggest(part, task),
            only_suggested=search.sampler == "sobol",
            every_size=search.pareto,
        )

    return sampler
