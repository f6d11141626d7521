"""Makes the phases of a study from its rows: the search, the finals, the repeats, a full training."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from krona_tune.record.parquet_reader import read_reports
from krona_tune.record.records import write_effects
from krona_tune.search.budget import Amount, Rates, needed
from krona_tune.search.forecast import Forecast
from krona_tune.search.full_training import FullTraining
from krona_tune.search.ledger import Ledger
from krona_tune.search.planning.plan import Plan, trial_seed
from krona_tune.search.planning.space import Params
from krona_tune.search.progress.trials_left import by_task, search_left
from krona_tune.search.resume import LATER_PHASES, known_trials, numbers_left
from krona_tune.search.searchers.asha import AshaPerGroup
from krona_tune.search.searchers.asha_rule import SharedAverages
from krona_tune.search.searchers.open_samplers import SHARED, open_samplers, open_shared_sampler, recall_trials
from krona_tune.search.searchers.proposal import earlier_points
from krona_tune.search.searchers.shared_searcher import SharedSearcher
from krona_tune.search.searchers.task_searcher import ChosenSearcher, StudySearcher
from krona_tune.search.searchers.taught_points import TaughtPoints
from krona_tune.search.startup.task_data import full_work
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.search.trial_message import TrialMessage
from krona_tune.search.tune_host import Phase
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.proposer import Proposer
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.result import Status
from krona_tune.train.loop import TaskWork

if TYPE_CHECKING:
    from krona_tune.search.searchers.surrogate import TransferSurrogate

logger = logging.getLogger(__name__)

Works = Mapping[str, TaskWork]
"""What a task's workers get, by task."""


@dataclass(frozen=True, kw_only=True)
class SearchedStudy:
    """Holds what the search of a study needs.

    Attributes:
        contents: the hashes of the tasks' data, by which a task is known whose curves are recorded.
        ends, leaves_out: as `StudySearcher` takes them.
    """

    plan: Plan
    works: Works
    folder: StudyFolder
    ledger: Ledger
    stopper: StudyStopper
    contents: Mapping[str, str] = field(default_factory=dict)
    ends: Callable[[str], bool] = lambda task: False
    leaves_out: Callable[[Mapping[str, int]], None] = lambda trials: None


def search_phase(of: SearchedStudy) -> Phase:
    """Returns the phase of the searched trials and baselines that have not ended: those that are known, then those that
    Optuna proposes."""
    return _shared_search(of) if of.plan.spec.search.shared else _search_by_task(of)


def _search_by_task(of: SearchedStudy) -> Phase:
    plan, works, ledger, stopper, journal = of.plan, of.works, of.ledger, of.stopper, of.folder.journal
    spec, waiting = plan.spec, known_trials(plan, ledger)
    left = {task: numbers_left(plan, ledger, task) for task in spec.tasks}
    remaining = {task: left[task] for task in sorted(left, key=lambda task: -len(left[task]))}  # whose turn is next
    schedules = {task: work.schedule for task, work in works.items()}
    surrogate = None
    if spec.search.proposes_by == "study_model":
        from krona_tune.search.searchers.surrogate import TransferSurrogate  # no other study loads its packages

        budgets = {task: schedule.total_examples for task, schedule in schedules.items()}
        every_size = spec.search.fills_front
        surrogate = TransferSurrogate(plan.space, budgets, spec.seed, plan.earlier, every_size=every_size)
    suggest, history = (surrogate.suggest, surrogate.history) if surrogate else (None, None)
    taught = _taught(plan, of.contents)
    samplers = open_samplers(spec, plan.space, journal, stopper.halt, _earlier(plan), suggest, taught)

    def spared(message: TrialMessage) -> bool:
        """Returns whether a trial has a taught point that is believed to be good."""
        task = message.task
        return (
            message.proposed_by == Proposer.RECORDED_CURVES
            and task in taught
            and not taught[task].misled(samplers[task].tried())
        )

    size_of = plan.space.parameters if spec.search.pareto else None
    asha = AshaPerGroup(
        schedules, per_method=spec.search.per_method, size_of=size_of, spared=spared, exact=plan.exact_cutoff
    )
    if ledger.rows:
        reports = [each for each in read_reports(of.folder.results) if each.trial_id in ledger.rows]
        told = [(r, ledger.rows[r.trial_id].params) for r in reports if ledger.rows[r.trial_id].searched]
        known = [row for row in ledger.rows.values() if not row.of or plan.space.holds(row.params)]
        recall_trials(samplers, known, reports)
        if surrogate:
            surrogate.recall(known, reports)
        asha.replay(each for each in told if ledger.is_judged(each[0]))
        asha.expect(each for each in told if not ledger.is_judged(each[0]))
    seeds = _seeds(spec)
    return Phase(
        searcher=StudySearcher(
            waiting, samplers, remaining, stopper.final_status, seeds, history, of.ends, of.leaves_out
        ),
        scheduler=asha if spec.search.early_stopping else None,
        new=_new(plan, ledger),
        works=works,
        surrogate=surrogate,
    )


def _shared_search(of: SearchedStudy) -> Phase:
    """Returns the phase of configurations for all tasks at once, some of which are stopped before the last."""
    plan, works, ledger, stopper, journal = of.plan, of.works, of.ledger, of.stopper, of.folder.journal
    spec, waiting, numbers = plan.spec, known_trials(plan, ledger), numbers_left(plan, ledger)
    tasks = sorted(spec.tasks, key=lambda task: works[task].schedule.total_examples)
    sampler = open_shared_sampler(spec, plan.space, journal, stopper.halt, _earlier(plan))
    rows = ledger.rows.values()
    searcher = SharedSearcher(
        waiting,
        sampler,
        tasks,
        numbers,
        _seeds(spec),
        stopper.final_status,
        rows,
        SharedAverages(len(tasks), spec.schedule.reduction, exact=plan.exact_cutoff),
        of.leaves_out,
    )
    return Phase(searcher=searcher, new=_new(plan, ledger), works=works)


def _new(plan: Plan, ledger: Ledger) -> dict[str, int]:
    """Returns how many searched trials and heads alone each task still begins, if none is left out."""
    return by_task(search_left(plan.spec, plan.planned, ledger.rows.values()))


def _seeds(spec: StudySpec) -> dict[str, int]:
    return {task: trial_seed(spec, task) for task in spec.tasks}


def _taught(plan: Plan, contents: Mapping[str, str]) -> dict[str, TaughtPoints]:
    """Returns the points that the recorded curves teach each task, of which a known one has its own."""
    if plan.taught is None:
        return {}
    first = {task: plan.taught.first(contents.get(task, "")) for task in plan.spec.tasks}
    return {task: TaughtPoints(task, plan.space, points, plan.spec.search) for task, points in first.items()}


def _earlier(plan: Plan) -> dict[str, list[Params]]:
    """Returns the points that each task takes from the studies that `warm_start` names, the first one's first."""
    found: dict[str, list[Params]] = {}
    for study in plan.earlier:
        for task, points in earlier_points(study.rows, (*plan.spec.tasks, SHARED)).items():
            found.setdefault(task, []).extend(points)
    return found


def chosen_phase(
    waiting: list[TrialMessage],
    works: Works,
    ledger: Ledger,
    stopper: StudyStopper,
    following: Callable[[], Iterable[TrialMessage]] = lambda: (),
) -> Phase:
    """Returns the phase of trials that the rows choose, over the full budget, none of which is stopped early;
    `following` is that of `ChosenSearcher`."""
    return Phase(
        searcher=ChosenSearcher(waiting, stopper.final_status, following),
        new=Counter(message.task for message in waiting if message.trial_id not in ledger.rows),
        works=works,
    )


def full_phase(plan: Plan, location: str, again: FullTraining, ledger: Ledger, stopper: StudyStopper) -> Phase:
    """Returns the phase of a full training's trials that have not completed, on all of the task's examples."""
    ended = {row.trial_id for row in ledger.rows.values() if row.status is Status.COMPLETED}
    waiting = [trial for trial in again.trials(plan.spec.seed) if trial.trial_id not in ended]
    phase = chosen_phase(waiting, {again.of.task: full_work(plan, location, again)}, ledger, stopper)
    new = [trial for trial in waiting if trial.trial_id not in ledger.rows or not ledger.rows[trial.trial_id].ended]
    return replace(phase, new=Counter(trial.task for trial in new))


def finals_reserve(
    plan: Plan,
    works: Works,
    ledger: Ledger,
    rates: Callable[[], Rates],
    forecast: Forecast | None,
    facts: Mapping[str, TaskFacts],
) -> Callable[[], Amount]:
    """Says what finals and repeats would need if the search ended now; reckoned again when a trial has ended, or the
    rates have changed."""

    @lru_cache(maxsize=1)
    def need(ended: int, rates: Rates) -> Amount:
        waiting = [trial for phase in LATER_PHASES for trial in phase.left(plan, ledger, facts)]
        return needs_of(waiting, works, ledger, rates, forecast)

    return lambda: need(len(ledger.rows) - len(ledger.running), rates())


def needs_of(
    trials: Iterable[TrialMessage], works: Works, ledger: Ledger, rates: Rates, forecast: Forecast | None
) -> Amount:
    """Returns what full trainings of these trials will need."""
    full = {task: work.schedule.total_examples for task, work in works.items()}
    foretold = {task: each.until(full[task]) / full[task] for task, each in forecast.tasks.items()} if forecast else {}
    return needed(ledger.rows, full, Counter(trial.task for trial in trials), rates, foretold)


def keep_effects(surrogate: "TransferSurrogate", plan: Plan, folder: StudyFolder) -> None:
    """Keeps what the surrogate expects of each knob. An error is only logged: nothing that a trial produced is lost."""
    from krona_tune.search.searchers.surrogate import effects

    try:
        found = [each for task in plan.spec.tasks for each in effects(surrogate, plan.space, task, plan.spec.seed)]
        write_effects(folder.results, found)
    except Exception:
        logger.exception("the effects of the knobs could not be written")
