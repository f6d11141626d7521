"""Replaces Tune by one loop: runs trials on some slots and hands each event to searcher, scheduler and recorder in
Tune's order. There are no worker processes and no clock, so only the driver's own work without Tune's remains."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ray.tune.schedulers import TrialScheduler

from krona_tune.search.ledger import Ledger
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.search.tune_host import Phase, Recorder
from tests.benchmarks.scale.stub import StubPlace, StubTrial


@dataclass(kw_only=True)
class Running:
    """The attributes of Ray's trial that its listeners read, and the stub that works for it."""

    trial_id: str
    config: dict[str, Any]
    worker: StubTrial
    last_result: dict[str, Any] = field(default_factory=dict)


def execute(
    phase: Phase,
    ledger: Ledger,
    stopping: StudyStopper,
    changed: Callable[[], None],
    place: StubPlace,
    slots: int,
) -> None:
    """Runs the phase to its end, or until it is stopped; the slots report in turn."""
    recorder = Recorder(ledger, stopping, changed)
    running: deque[Running] = deque()
    begun, exhausted = 0, False
    while not stopping.stop_all():
        while len(running) < slots and not exhausted and begun < phase.trials:
            config = phase.searcher.suggest(f"t{begun:05d}")
            exhausted = not isinstance(config, dict)
            if isinstance(config, dict):
                running.append(_begun(f"t{begun:05d}", config, place))
                phase.scheduler.on_trial_add(None, running[-1])
                recorder.on_trial_start(0, [], running[-1])
                begun += 1
        if not running:
            return
        trial = running.popleft()
        if _goes_on(trial, phase, recorder):
            running.append(trial)
    for trial in running:
        phase.searcher.on_trial_complete(trial.trial_id, _flat(trial.last_result))
        recorder.on_trial_complete(0, [], trial)


def _begun(trial_id: str, config: dict[str, Any], place: StubPlace) -> Running:
    worker = object.__new__(StubTrial)
    worker.config = config
    worker.setup(config, works={}, workplace=place)
    return Running(trial_id=trial_id, config=config, worker=worker)


def _goes_on(trial: Running, phase: Phase, recorder: Recorder) -> bool:
    """Runs one rung of a trial; returns whether another one follows."""
    result = trial.worker.step()
    told = _flat(result)
    stops = result["done"] or phase.scheduler.on_trial_result(None, trial, told) == TrialScheduler.STOP
    if not stops:
        phase.searcher.on_trial_result(trial.trial_id, told)
    trial.last_result = result
    recorder.on_trial_result(0, [], trial, result)
    if stops:
        phase.scheduler.on_trial_complete(None, trial, told)
        phase.searcher.on_trial_complete(trial.trial_id, told)
        recorder.on_trial_complete(0, [], trial)
    return not stops


def _flat(result: dict[str, Any]) -> dict[str, Any]:
    nested = result.get("report", {})
    return {**result, **{f"report/{name}": value for name, value in nested.items()}}
