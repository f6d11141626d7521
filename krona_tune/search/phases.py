"""Makes the phases of a study from its rows, the search and the finals, and runs one after the other."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from ray.tune.schedulers import FIFOScheduler

from krona_tune.record.driver_state import write_driver_state
from krona_tune.record.parquet_reader import read_reports
from krona_tune.search.budget import Amount, Rates, needed
from krona_tune.search.forecast import Forecast
from krona_tune.search.ledger import Ledger
from krona_tune.search.planning.plan import Plan, trial_seed
from krona_tune.search.planning.space import Params
from krona_tune.search.resume import finals_left, known_trials, numbers_left, recall_trials, repeats_left
from krona_tune.search.searchers.asha import AshaPerGroup
from krona_tune.search.searchers.open_samplers import SHARED, open_samplers, open_shared_sampler
from krona_tune.search.searchers.proposal import earlier_points
from krona_tune.search.searchers.shared_searcher import SharedSearcher
from krona_tune.search.searchers.task_searcher import StudySearcher
from krona_tune.search.startup.resources import Started
from krona_tune.search.study_orders import StudyOrders
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.search.terminal.live_view import View
from krona_tune.search.trial_message import TrialMessage
from krona_tune.search.tune_host import Phase, tune_trials
from krona_tune.search.worker.trainable import Workplace
from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import TrialKind
from krona_tune.study.redact import redact
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.study_state import DriverState, End, Stage
from krona_tune.train.loop import TaskWork

Works = Mapping[str, TaskWork]
"""What a task's workers get, by task."""


def search_phase(plan: Plan, works: Works, folder: StudyFolder, ledger: Ledger, stopping: StudyStopper) -> Phase:
    """The searched trials and baselines that have not ended: those that are known, then Optuna's proposals."""
    return (_shared_search if plan.spec.search.shared else _search_by_task)(plan, works, folder, ledger, stopping)


def _search_by_task(plan: Plan, works: Works, folder: StudyFolder, ledger: Ledger, stopping: StudyStopper) -> Phase:
    spec, waiting = plan.spec, known_trials(plan, ledger)
    remaining = {task: numbers_left(plan, ledger, task) for task in spec.tasks}
    schedules = {task: work.schedule for task, work in works.items()}
    surrogate = None
    if spec.search.proposes_by == "study_model":
        from krona_tune.search.searchers.surrogate import TransferSurrogate  # no other study loads its packages

        budgets = {task: schedule.total_examples for task, schedule in schedules.items()}
        surrogate = TransferSurrogate(plan.space, budgets, spec.seed, plan.earlier)
    suggest, history = (surrogate.suggest, surrogate.history) if surrogate else (None, None)
    samplers = open_samplers(spec, plan.space, folder.journal, stopping.halt, _earlier(plan), suggest)
    size_of = plan.space.parameters if spec.search.pareto else None
    asha = AshaPerGroup(schedules, per_method=spec.search.per_method, size_of=size_of)
    if ledger.rows:
        reports = [each for each in read_reports(folder.results) if each.trial_id in ledger.rows]
        told = [
            (r, ledger.rows[r.trial_id].params) for r in reports if ledger.rows[r.trial_id].kind == TrialKind.SEARCH
        ]
        known = [row for row in ledger.rows.values() if not row.of or plan.space.holds(row.params)]
        recall_trials(samplers, known, reports)
        if surrogate:
            surrogate.recall(known, reports)
        asha.replay(each for each in told if ledger.settled(each[0]))
        asha.expect(each for each in told if not ledger.settled(each[0]))
    new = Counter(config.task for config in waiting if config.trial_id not in ledger.rows)
    return Phase(
        searcher=StudySearcher(waiting, samplers, remaining, stopping.verdict, _seeds(spec), history),
        scheduler=asha if spec.search.early_stopping else FIFOScheduler(),
        trials=len(waiting) + sum(map(len, remaining.values())),
        new={task: new[task] + len(numbers) for task, numbers in remaining.items()},
        works=works,
        surrogate=surrogate,
    )


def _shared_search(plan: Plan, works: Works, folder: StudyFolder, ledger: Ledger, stopping: StudyStopper) -> Phase:
    """Configurations for all tasks at once; how many of their trials will be run is not known before."""
    spec, waiting, numbers = plan.spec, known_trials(plan, ledger), numbers_left(plan, ledger)
    tasks = sorted(spec.tasks, key=lambda task: works[task].schedule.total_examples)
    sampler = open_shared_sampler(spec, plan.space, folder.journal, stopping.halt, _earlier(plan))
    rows = ledger.rows.values()
    searcher = SharedSearcher(
        waiting, sampler, tasks, numbers, _seeds(spec), stopping.verdict, rows, spec.schedule.reduction
    )
    left = {task: len(numbers_left(plan, ledger, task)) for task in tasks}
    return Phase(
        searcher=searcher, scheduler=FIFOScheduler(), trials=len(waiting) + sum(left.values()), new=left, works=works
    )


def _seeds(spec: StudySpec) -> dict[str, int]:
    return {task: trial_seed(spec, task) for task in spec.tasks}


def _earlier(plan: Plan) -> dict[str, list[Params]]:
    """Returns the points that each task takes from the studies that `warm_start` names, the first one's first."""
    found: dict[str, list[Params]] = {}
    for study in plan.earlier:
        for task, points in earlier_points(study.rows, (*plan.spec.tasks, SHARED)).items():
            found.setdefault(task, []).extend(points)
    return found


def repeats_phase(spec: StudySpec, works: Works, ledger: Ledger, stopping: StudyStopper) -> Phase:
    """The repeats that have not ended, over the full budget and without early stopping."""
    return known_phase(repeats_left(spec, ledger), works, ledger, stopping)


def finals_phase(spec: StudySpec, works: Works, ledger: Ledger, stopping: StudyStopper) -> Phase:
    """The finalists that have not ended, over the full budget and without early stopping."""
    return known_phase(finals_left(spec, ledger), works, ledger, stopping)


def known_phase(waiting: list[TrialMessage], works: Works, ledger: Ledger, stopping: StudyStopper) -> Phase:
    """Trials that are known, over the full budget and without early stopping."""
    return Phase(
        searcher=StudySearcher(waiting, {}, {}, stopping.verdict, {}),
        scheduler=FIFOScheduler(),
        trials=len(waiting),
        new=Counter(config.task for config in waiting if config.trial_id not in ledger.rows),
        works=works,
    )


def finals_reserve(
    spec: StudySpec, works: Works, ledger: Ledger, rates: Callable[[], Rates], forecast: Forecast | None
) -> Callable[[], Amount]:
    """Says what finals and repeats would need if the search ended now; reckoned again when a trial has ended, or the
    rates have changed."""
    full = {task: work.schedule.total_examples for task, work in works.items()}
    foretold = {task: each.until(full[task]) / full[task] for task, each in forecast.tasks.items()} if forecast else {}

    @lru_cache(maxsize=1)
    def need(ended: int, rates: Rates) -> Amount:
        waiting = Counter(config.task for config in (*finals_left(spec, ledger), *repeats_left(spec, ledger)))
        return needed(ledger.rows, full, waiting, rates, foretold)

    return lambda: need(len(ledger.rows) - len(ledger.running), rates())


SECONDS = 2.0
"""The time between two writings of the state."""
PAUSED_SECONDS = 0.2


@dataclass(kw_only=True)
class PhaseRunner:
    """What runs the phases of a study. `changed` is called after each event of a trial; `left` returns the forecast
    seconds, if there is a forecast."""

    started: Started
    ledger: Ledger
    stopping: StudyStopper
    orders: StudyOrders
    view: View
    changed: Callable[[], None]
    left: Callable[[], float] | None
    stage: Stage = "search"
    _written: float = 0.0

    def run(self, phase: Phase, stage: Stage) -> None:
        """Runs the phase to its end, or until the study is stopped."""
        self.stage = stage
        self.orders.ticked, self.orders.state_changed = self._write_if_due, self._write
        self.orders.serve(phase.searcher, search=stage == "search")
        while not (self.orders.slots() or self.stopping.stop_all()):
            self.orders.look()  # a study that waits needs no worker
            time.sleep(PAUSED_SECONDS)
        tune_trials(
            phase,
            self.ledger,
            self.stopping,
            self.changed,
            self.orders.look,
            workplace=workplace(self.started),
            slots=replace(self.started.slots, count=self.orders.most),
            storage=self.started.folder.ray,
        )
        self.orders.leave()

    def end(self) -> None:
        """Says that no trial runs any more."""
        self.stage = "end"
        self._write()
        self.orders.close()

    def say_end(self) -> None:
        """Says how the driver ends."""
        stopping = self.stopping
        how: End = "lost" if stopping.lost else "halted" if stopping.halted else stopping.asked or "finished"
        self._write(how, redact(stopping.lost or stopping.halted))

    def _write_if_due(self) -> None:
        if time.monotonic() - self._written >= SECONDS:
            self._write()

    def _write(self, end: End = "", reason: str = "") -> None:
        self._written = time.monotonic()
        ended, trials = self.view.counts()
        state = DriverState(
            stage=self.stage,
            trials=trials,
            ended=ended,
            seconds_left=self.left() if self.left else None,
            slots=self.orders.allowed,
            most=self.orders.most,
            share=self.orders.share,
            paused=self.orders.paused,
            end=end,
            reason=reason,
            at=time.time(),
        )
        write_driver_state(self.started.folder, state)


def workplace(started: Started) -> Workplace:
    """Returns what every worker of the study shares."""
    return Workplace(
        folder=started.source.location,
        name=started.source.name,
        precision=started.manifest.computes_in or started.plan.precision,
        gpu=started.slots.gpus > 0,
        threads=max(1, int(started.slots.cpus)),
        checkpoints=str(started.folder.checkpoints.resolve()),
        elsewhere=started.folder.remote_checkpoints,
        stored_bytes=int(started.plan.spec.resources.stored_states_gb * 1e9),
        geometry=started.plan.geometry,
        quantize=started.plan.spec.backbone.quantize,
    )
