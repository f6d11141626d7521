"""Makes up trials and their reports at three rungs, and the ASHA that judges them."""

from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import TrialScheduler

from krona_tune.search.searchers.asha import AshaPerGroup
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.request.schedule import make_schedule
from krona_tune.study.result import Report

RUNGS = (60, 120, 240)


CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


def judges(*tasks: str, epochs: float = 4, per_method: bool = False, **rules: Any) -> AshaPerGroup:
    own = make_schedule(examples_per_epoch=60, epochs=epochs, grace_epochs=1, reduction=2)
    return AshaPerGroup(dict.fromkeys(tasks or ("cola",), own), per_method=per_method, **rules)


def tune_trial(number: int, task: str = "cola", kind: str = "search", method: str = "krona") -> Any:
    message = TrialMessage(f"{task}-{number:03d}", task, number, kind, 1, {"method": method})
    return SimpleNamespace(trial_id=f"tune-{task}-{number}", config=message.to_dict())


def added(scheduler: AshaPerGroup, number: int, task: str = "cola", kind: str = "search", method: str = "krona") -> Any:
    trial = tune_trial(number, task, kind, method)
    scheduler.on_trial_add(None, trial)
    return trial


def at(scheduler: AshaPerGroup, trial: Any, rung: int, score: float, loss: float = 0.5) -> str:
    return scheduler.on_trial_result(None, trial, {"examples": RUNGS[rung], "score": score, "train_loss": loss})


def ends(scheduler: AshaPerGroup, trial: Any, score: float) -> None:
    scheduler.on_trial_complete(None, trial, {"examples": RUNGS[-1], "score": score, "done": True})


def report(trial_id: str, rung: int, score: float, task: str = "cola") -> Report:
    return Report(
        trial_id=trial_id,
        task=task,
        rung=rung,
        examples=RUNGS[rung],
        epochs=RUNGS[rung] / 60,
        step=RUNGS[rung] // 8,
        score=score,
        metrics={},
        train_loss=0.5,
        train_seconds=1,
        evaluation_seconds=1,
        peak_memory_bytes=1,
    )
