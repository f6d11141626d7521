"""The two phases of a study: the search of all tasks, then its finalists; each made from the rows that there are."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from ray.tune.schedulers import FIFOScheduler

from krona_tune.record.parquet_reader import read_reports, read_trials
from krona_tune.search.budget.budget import Amount, Rates, needed
from krona_tune.search.budget.forecast import Forecast
from krona_tune.search.finalists import final_trials
from krona_tune.search.ledger import Ledger
from krona_tune.search.planning.plan import Plan, trial_seed
from krona_tune.search.planning.space import Params
from krona_tune.search.schedulers.asha import AshaPerGroup
from krona_tune.search.searchers.open_samplers import SHARED, MethodsInTurn, open_samplers, open_shared_sampler
from krona_tune.search.searchers.shared_searcher import SharedSearcher
from krona_tune.search.searchers.task_sampler import TaskSampler
from krona_tune.search.searchers.task_searcher import StudySearcher
from krona_tune.search.searchers.warm_start import earlier_points
from krona_tune.search.startup.gather import Started
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.search.trial_message import TrialMessage
from krona_tune.search.tune_run import Phase
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Report, Status
from krona_tune.study.spec.study_spec import StudySpec


def search_phase(started: Started, ledger: Ledger, stopping: StudyStopper) -> Phase:
    """The searched trials and baselines that have not ended: those that are known, then Optuna's proposals."""
    return (_shared_search if started.plan.spec.search.shared else _search_by_task)(started, ledger, stopping)


def _search_by_task(started: Started, ledger: Ledger, stopping: StudyStopper) -> Phase:
    spec, works = started.plan.spec, started.prepared.works
    waiting = _known(started.plan, ledger)
    remaining = {task: _numbers_left(started.plan, ledger, task) for task in spec.tasks}
    samplers = open_samplers(spec, started.plan.space, started.folder.journal, stopping.halt, _earlier(spec))
    schedules = {task: work.schedule for task, work in works.items()}
    size_of = started.plan.space.parameters if spec.search.objective == "pareto" else None
    scheduler = AshaPerGroup(schedules, per_method=spec.search.per_method, size_of=size_of)
    if ledger.rows:
        reports = [each for each in read_reports(started.folder.results) if each.trial_id in ledger.rows]
        told = [(r, ledger.rows[r.trial_id].params) for r in reports if ledger.rows[r.trial_id].kind == "search"]
        _recall(samplers, ledger, reports)
        scheduler.replay(each for each in told if ledger.settled(each[0]))
        scheduler.expect(each for each in told if not ledger.settled(each[0]))
    new = Counter(config.task for config in waiting if config.trial_id not in ledger.rows)
    return Phase(
        searcher=StudySearcher(waiting, samplers, remaining, stopping.verdict, _seeds(spec)),
        scheduler=scheduler,
        trials=len(waiting) + sum(map(len, remaining.values())),
        new={task: new[task] + len(numbers) for task, numbers in remaining.items()},
        works=works,
    )


def _recall(samplers: Mapping[str, TaskSampler | MethodsInTurn], ledger: Ledger, reports: Iterable[Report]) -> None:
    """Tells the samplers of each searched trial, in case Optuna's journal lost it."""
    scores: dict[str, dict[int, float]] = defaultdict(dict)
    for report in reports:
        scores[report.trial_id][report.examples] = report.score
    for row in ledger.rows.values():
        if row.kind == "search":
            if row.score is not None:
                scores[row.trial_id][row.examples] = row.score  # also where its reports were damaged
            samplers[row.task].recall(row.trial_id, row.params, row.status, scores[row.trial_id])


def _shared_search(started: Started, ledger: Ledger, stopping: StudyStopper) -> Phase:
    """Configurations for all tasks at once; how many of their trials will be run is not known before."""
    spec, works = started.plan.spec, started.prepared.works
    waiting, numbers = _known(started.plan, ledger), _numbers_left(started.plan, ledger)
    tasks = sorted(spec.tasks, key=lambda task: works[task].schedule.total_examples)
    sampler = open_shared_sampler(spec, started.plan.space, started.folder.journal, stopping.halt, _earlier(spec))
    rows = ledger.rows.values()
    searcher = SharedSearcher(
        waiting, sampler, tasks, numbers, _seeds(spec), stopping.verdict, rows, spec.schedule.reduction
    )
    left = {task: len(_numbers_left(started.plan, ledger, task)) for task in tasks}
    return Phase(
        searcher=searcher, scheduler=FIFOScheduler(), trials=len(waiting) + sum(left.values()), new=left, works=works
    )


def search_left(plan: Plan, ledger: Ledger) -> int:
    """How many trials of the search have not ended."""
    return len(_known(plan, ledger)) + sum(len(_numbers_left(plan, ledger, task)) for task in plan.spec.tasks)


def _seeds(spec: StudySpec) -> dict[str, int]:
    return {task: trial_seed(spec, task) for task in spec.tasks}


def _earlier(spec: StudySpec) -> dict[str, list[Params]]:
    """What each task may learn from the study that `warm_start` names."""
    if not spec.search.warm_start:
        return {}
    return earlier_points(read_trials(StudyFolder(Path(spec.search.warm_start)).results), (*spec.tasks, SHARED))


def finals_phase(started: Started, ledger: Ledger, stopping: StudyStopper) -> Phase:
    """The finalists that have not ended, over the full budget and without early stopping."""
    waiting = finals_left(started, ledger)
    return Phase(
        searcher=StudySearcher(waiting, {}, {}, stopping.verdict, {}),
        scheduler=FIFOScheduler(),
        trials=len(waiting),
        new=Counter(config.task for config in waiting if config.trial_id not in ledger.rows),
        works=started.prepared.final_works(),
    )


def finals_left(started: Started, ledger: Ledger) -> list[TrialMessage]:
    """The finalists that have not begun or not ended."""
    ended = {row.trial_id for row in ledger.rows.values() if row.status is not Status.INTERRUPTED}
    everyone = final_trials(started.plan.spec, ledger.rows.values())
    return [config for config in everyone if config.trial_id not in ended]


def finals_reserve(started: Started, ledger: Ledger, rates: Rates, forecast: Forecast | None) -> Callable[[], Amount]:
    """Says what the finals would need if the search ended now; reckoned again when a trial has ended."""
    full = {task: work.schedule.total_examples for task, work in started.prepared.works.items()}
    foretold = {task: each.until(full[task]) / full[task] for task, each in forecast.tasks.items()} if forecast else {}

    @lru_cache(maxsize=1)
    def need(ended: int) -> Amount:
        waiting = Counter(config.task for config in finals_left(started, ledger))
        return needed(ledger.rows, full, waiting, rates, foretold)

    return lambda: need(len(ledger.rows) - len(ledger.running))


def _known(plan: Plan, ledger: Ledger) -> list[TrialMessage]:
    """The trials that are known before Optuna is asked and have not ended: interrupted ones and baselines."""
    begun = [row for row in ledger.rows.values() if row.kind != "finalist" and row.status is Status.INTERRUPTED]
    waiting = [TrialMessage(r.trial_id, r.task, r.number, r.kind, r.seed, r.params) for r in begun]
    baselines = [config for task in plan.spec.tasks for config in plan.baselines(task)]
    return waiting + [config for config in baselines if config.trial_id not in ledger.rows]


def _numbers_left(plan: Plan, ledger: Ledger, task: str | None = None) -> list[int]:
    """The numbers that may still be proposed: for a task, or for configurations that all tasks share."""
    own = [row for row in ledger.rows.values() if row.kind == "search" and task in {None, row.task}]
    proposed = {row.number for row in own}
    lost = {number for of, number in ledger.lost if task in {None, of}}
    asked = [number for number in range(plan.trials + len(lost)) if number not in lost][: plan.trials]
    return [number for number in asked if number not in proposed]
