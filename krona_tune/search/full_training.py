"""Asks for a configuration of a study to be trained again on all examples; finds it and its examples. No torch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from krona_tune.data.corpus import MINI, PARTS
from krona_tune.data.mini_glue import SIZES
from krona_tune.refusal import Refusal, refuse_unknown, unknown
from krona_tune.search.planning.plan import Plan
from krona_tune.search.trial_message import TrialMessage, repeat_of
from krona_tune.study.kinds import TrialKind
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.request.field_types import for_task
from krona_tune.study.request.study_spec import ExamplesSpec, StudySpec
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


def whole_plan(plan: Plan, asked: FullTraining) -> Plan:
    """Returns the plan of a full training's task alone, with all of its examples."""
    task, spec = asked.of.task, plan.spec
    examples = ExamplesSpec(max_length=spec.examples.max_length, **_more_than_usual(plan, task))
    tops = spec.finalists.model_copy(update={"top": max(1, spec.finalists.top)})  # so that there is a test half
    return replace(
        plan,
        spec=spec.model_copy(update={"tasks": (task,), "examples": examples, "finalists": tops}),
        tasks={task: plan.tasks[task]},
        own_data={task: plan.own_data[task]} if task in plan.own_data else {},
    )


def _more_than_usual(plan: Plan, task: str) -> dict[str, int]:
    """Returns how many examples a study has of each part of a miniature, where that is more than the miniature has
    without being asked: all is then these."""
    if plan.spec.data != MINI or task in plan.own_data:
        return {}
    asked = {part: getattr(plan.spec.examples, part) for part in PARTS}
    counts = {part: for_task(most, task) for part, most in asked.items() if most is not None}
    return {part: count for part, count in counts.items() if count > SIZES[part]}
