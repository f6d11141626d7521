"""Asks for a configuration of a study to be trained again on all examples, and finds it. No torch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from krona_tune.refusal import Refusal, refuse_unknown, unknown
from krona_tune.search.trial_message import TrialMessage, repeat_of
from krona_tune.study.kinds import TrialKind
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.request.trial import MOST_SEEDS
from krona_tune.study.result import TrialResult
from krona_tune.study.standings import Standings


@dataclass(frozen=True, kw_only=True)
class FullTraining:
    """Asks to train the configuration of the trial `of` again with `seeds` seeds.

    With `everything` no example is held out, so these trials have no score.

    Raises:
        Refusal: the number of seeds is below 1 or above MOST_SEEDS.
    """

    of: TrialResult
    seeds: int
    everything: bool

    def __post_init__(self) -> None:
        if not 1 <= self.seeds <= MOST_SEEDS:
            raise Refusal("--seeds", f"{self.seeds} is no number of seeds", f"write 1 to {MOST_SEEDS}")

    @property
    def kind(self) -> TrialKind:
        return TrialKind.FULL_DATA if self.everything else TrialKind.FULL_TRAIN

    @property
    def text(self) -> str:
        """Returns which examples are trained on, in words."""
        return self.kind.facts.trained_on

    def trials(self, seed: int) -> list[TrialMessage]:
        """Returns the trials, of which `seed`, the study's, decides the seeds."""
        again = not self.of.searched and self.of.of  # a clone is a trial of its own
        source = again or self.of.trial_id
        return [repeat_of(self.of, self.kind, source, index, seed) for index in range(1, self.seeds + 1)]


def configuration(
    rows: Iterable[TrialResult], spec: StudySpec, facts: Mapping[str, TaskFacts], task: str | None, trial_id: str | None
) -> TrialResult:
    """Returns the trial whose configuration is trained: the one that is named, else what is chosen of the task.

    Raises:
        Refusal: the task or the trial is unknown, no task is named where there are several, or none has a result.
    """
    known = {row.trial_id: row for row in rows}
    if trial_id is not None:
        refuse_unknown("--trial", "trial", known, trial_id)
        if task not in {None, known[trial_id].task}:
            raise Refusal("--trial", f"{trial_id} is of {known[trial_id].task}", "leave --task out")
        return known[trial_id]
    tasks = spec.tasks
    if task is None and len(tasks) > 1:
        raise Refusal("--task", f"the study has {', '.join(tasks)}", "choose one with --task")
    if task is not None and task not in tasks:
        raise unknown("--task", "task", task, tasks)
    of = task or tasks[0]
    chosen = Standings(list(known.values()), spec.shared_by).chosen(of, facts.get(of))
    if chosen is None:
        raise Refusal("--task", f"no trial of {of} has a score", "resume the study, or name a trial with --trial")
    return chosen
