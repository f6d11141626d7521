"""Holds a worker that trains nothing: known curves, with a rung every few seconds. Imports no torch."""

import math
import time
from dataclasses import dataclass
from typing import Any

from ray import tune

from krona_tune.search.trial_message import StepResult
from krona_tune.study.randomness import stream
from krona_tune.study.result import Report, Status


@dataclass(frozen=True, kw_only=True)
class StubPlace:
    """What every worker of the simulated study gets: the rungs of each task in examples, and the seconds per rung."""

    rungs: dict[str, tuple[int, ...]]
    seconds: float


class StubTrial(tune.Trainable):  # type: ignore[misc]
    """A worker with one rung per `step`, like the real one; it keeps nothing, so a resumed trial restarts."""

    def setup(self, config: dict[str, Any], *, works: dict[str, Any], workplace: StubPlace) -> None:
        self._place, self._rung = workplace, 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config, self._rung = new_config, 0
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Keeps nothing."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Does nothing: nothing was kept."""

    def step(self) -> dict[str, Any]:
        time.sleep(self._place.seconds)  # sleep: it takes a trial's time
        rungs = self._place.rungs[self.config["task"]]
        examples, last = rungs[self._rung], self._rung == len(rungs) - 1
        score = curve(self.config, examples / rungs[-1])
        report = Report(
            trial_id=self.config["trial_id"],
            task=self.config["task"],
            rung=self._rung,
            examples=examples,
            epochs=examples / rungs[0],
            step=examples // 16,
            score=score,
            metrics={"accuracy": score},
            train_loss=1 - score,
            train_seconds=0.8 * self._place.seconds,
            evaluation_seconds=0.2 * self._place.seconds,
            peak_memory_bytes=2**28,
        )
        self._rung += 1
        return StepResult(report=report, status=Status.COMPLETED if last else None).to_dict()


def curve(config: dict[str, Any], share: float) -> float:
    """Returns a configuration's score after a share of the budget: best at learning rate 0.01 and scale 4."""
    params = config["params"]
    off = math.log10(params["learning_rate"]) + 2
    off_scale = math.log2(params.get("scale", 1.0)) - 2
    luck = (stream(config["seed"], "luck", config["number"]) % 1000 / 1000 - 0.5) / 20
    return (0.8 - 0.1 * off**2 - 0.02 * off_scale**2 + luck) * (1 - math.exp(-3 * share))
