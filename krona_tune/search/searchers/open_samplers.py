"""Opens the samplers of a study, all in one journal file that optuna-dashboard can read."""

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from os.path import lexists
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from krona_tune.search.planning.space import Params, Space
from krona_tune.search.searchers.proposal import Origin, Proposal, Suggest, TriedPoint, adopt_points, sobol_points
from krona_tune.search.searchers.task_sampler import TaskSampler
from krona_tune.search.searchers.taught_points import TaughtPoints
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.result import Report, Status, TrialResult

logger = logging.getLogger(__name__)
Halt = Callable[[str], None]
"""Ends the study soon, for a reason."""


def open_journal(path: Path, halt: Halt) -> JournalStorage:
    """Opens the journal of a study. Cuts off a last line that a killed driver left unfinished; renames a journal that
    Optuna can't replay, and then only the study's records are left."""
    if lexists(path):
        try:
            _cut_off_unfinished(path)
            return JournalStorage(_Journal(path, halt))
        except OSError:
            raise
        except Exception as error:
            aside = path.with_name(path.name + ".damaged")
            logger.warning("%s is damaged (%s): renamed to %s, Optuna learns from the records", path, error, aside.name)
            path.replace(aside)
    return JournalStorage(_Journal(path, halt))


def _cut_off_unfinished(path: Path) -> None:
    if not path.is_file():  # opening a pipe would wait forever
        raise ValueError("it is no file")
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


class _NullLock(JournalFileOpenLock):
    """A lock that does nothing: a study's folder belongs to one process at a time."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None: ...


class _Journal(JournalFileBackend):
    """A journal that, if the disk is full, halts the study, keeps logs in memory and writes them before the next log.

    Logs that are still not written when the process ends are restored from the records.
    """

    def __init__(self, path: Path, halt: Halt) -> None:
        super().__init__(str(path), _NullLock(str(path)))
        self._path, self._halt = path, halt
        self._unwritten: list[dict[str, Any]] = []

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._unwritten += logs
        size = self._path.stat().st_size
        try:
            super().append_logs(self._unwritten)
            self._unwritten = []
        except OSError as error:
            with suppress(OSError):
                os.truncate(self._path, size)  # half a line would make the whole journal unreadable
            self._halt(f"Optuna's journal could not be kept: {error}")

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        yield from super().read_logs(log_number_from)
        if self._unwritten:
            written = max(self._log_number_offset)
            yield from self._unwritten[max(0, log_number_from - written) :]


SHARED = "shared"
"""The task name of configurations that all tasks share."""
SuggestForTask = Callable[[str, int], Iterable[Proposal]]
"""Returns proposals for a task's trial of a number, as `Suggest` does for one task."""
Earlier = Mapping[str, Sequence[Params]]
"""Each task's points from an earlier study, which its first trials try."""
NOTHING: Earlier = {}
UNTAUGHT: Mapping[str, TaughtPoints] = {}


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

    def end(self, trial_id: str, step: int) -> Status | None:
        """Returns how a trial ended like a TaskSampler, from the sampler that knows it; None if none does."""
        ends = (sampler.end(trial_id, step) for sampler in self._samplers.values())
        return next((end for end in ends if end is not None), None)

    def tried(self) -> list[TriedPoint]:
        """Returns the points of all methods like a TaskSampler."""
        return [each for sampler in self._samplers.values() for each in sampler.tried()]

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
    surrogate: SuggestForTask | None = None,
    taught: Mapping[str, TaughtPoints] = UNTAUGHT,
) -> dict[str, TaskSampler | MethodsInTurn]:
    """Returns one sampler per task, or per task and method. `halt` is called if the journal can't be written.

    A `surrogate` proposes for all of them; where it has no proposal, TPE has one. A task's `taught` points come first.
    """
    sampler = _sampler_in(spec, journal, halt, earlier, surrogate, taught)
    if not spec.search.per_method:
        return {task: sampler(space, task, task) for task in spec.tasks}
    return {
        task: MethodsInTurn({method: sampler(space.of(method), f"{task}/{method}", task) for method in space.methods})
        for task in spec.tasks
    }


def recall_trials(
    samplers: Mapping[str, TaskSampler | MethodsInTurn], rows: Iterable[TrialResult], reports: Iterable[Report]
) -> None:
    """Tells the samplers about each of these searched trials, in case Optuna's journal lost it."""
    scores: dict[str, dict[int, float]] = defaultdict(dict)
    for report in reports:
        scores[report.trial_id][report.examples] = report.score
    for row in rows:
        if row.searched:
            if row.score is not None:
                scores[row.trial_id][row.examples] = row.score  # even if its reports were damaged
            samplers[row.task].recall(row.trial_id, row.params, row.status, scores[row.trial_id])


def open_shared_sampler(
    spec: StudySpec, space: Space, journal: Path, halt: Halt, earlier: Earlier = NOTHING
) -> TaskSampler:
    """Returns the sampler of configurations that all tasks share."""
    return _sampler_in(spec, journal, halt, earlier)(space, SHARED, SHARED)


def _sampler_in(
    spec: StudySpec,
    journal: Path,
    halt: Halt,
    earlier: Earlier,
    surrogate: SuggestForTask | None = None,
    taught: Mapping[str, TaughtPoints] = UNTAUGHT,
) -> Callable[[Space, str, str], TaskSampler]:
    """Returns a function that makes a sampler of a part of the space, under a name in the journal, for a task."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage, search = open_journal(journal, halt), spec.search

    def suggest(part: Space, task: str) -> Suggest:
        if search.sampled.in_order:
            return sobol_points(part, spec.seed, search.first_point)
        first = adopt_points(part, earlier.get(task, ()))

        def later(number: int, tried: Callable[[], Sequence[TriedPoint]]) -> Iterable[Proposal]:
            return surrogate(task, number) if surrogate else first

        return taught[task].before(later) if task in taught else later

    def sampler(part: Space, name: str, task: str) -> TaskSampler:
        made = TaskSampler(
            part,
            storage,
            f"{spec.name}/{name}",
            seed=spec.seed,
            startup_trials=search.startup_trials if search.sampled.learns else None,
            suggest=suggest(part, task),
            only_suggested=search.sampled.in_order,
            every_size=search.pareto,
            tries_largest=search.fills_front,
        )
        if task in taught:
            taught[task].keep_in(made)
        return made

    return sampler
