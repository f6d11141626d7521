"""Replaces Tune by one loop: runs trials on some slots and hands each event to searcher, scheduler and recorder in
Tune's order. There are no worker processes and no clock, so only the driver's own work without Tune's remains."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from krona_tune.search.tune_host import Phase, Recorder, TrialEvents
from tests.benchmarks.scale.stub import StubPlace, StubTrial


@dataclass(kw_only=True)
class Running:
    """The attributes of Ray's trial that its listeners read, and the stub that works for it."""

    trial_id: str
    config: dict[str, Any]
    worker: StubTrial
    last_result: dict[str, Any] = field(default_factory=dict)


def execute(phase: Phase, events: TrialEvents, place: StubPlace, slots: int) -> None:
    """Runs the phase to its end, or until it is stopped; the slots report in turn."""
    recorder, scheduler = Recorder(events), phase.scheduler or FIFOScheduler()
    running: deque[Running] = deque()
    begun, exhausted = 0, False
    while not events.stopper.stop_all():
        while len(running) < slots and not exhausted:
            config = phase.searcher.suggest(f"t{begun:05d}")
            exhausted = not isinstance(config, dict)
            if isinstance(config, dict):
                running.append(_begun(f"t{begun:05d}", config, place))
                scheduler.on_trial_add(None, running[-1])
                recorder.on_trial_start(0, [], running[-1])
                begun += 1
        if not running:
            return
        trial = running.popleft()
        if _goes_on(trial, phase, scheduler, recorder):
            running.append(trial)
    for trial in running:
        phase.searcher.on_trial_complete(trial.trial_id, _flat(trial.last_result))
        recorder.on_trial_complete(0, [], trial)


def _begun(trial_id: str, config: dict[str, Any], place: StubPlace) -> Running:
    worker = object.__new__(StubTrial)
    worker.config = config
    worker.setup(config, works={}, workplace=place)
    return Running(trial_id=trial_id, config=config, worker=worker)


def _goes_on(trial: Running, phase: Phase, scheduler: TrialScheduler, recorder: Recorder) -> bool:
    """Runs one rung of a trial; returns whether another one follows."""
    result = trial.worker.step()
    told = _flat(result)
    stops = result["done"] or scheduler.on_trial_result(None, trial, told) == TrialScheduler.STOP
    if not stops:
        phase.searcher.on_trial_result(trial.trial_id, told)
    trial.last_result = result
    recorder.on_trial_result(0, [], trial, result)
    if stops:
        scheduler.on_trial_complete(None, trial, told)
        phase.searcher.on_trial_complete(trial.trial_id, told)
        recorder.on_trial_complete(0, [], trial)
    return not stops


def _flat(result: dict[str, Any]) -> dict[str, Any]:
    nested = result.get("report", {})
    return {**result, **{f"report/{name}": value for name, value in nested.items()}}
