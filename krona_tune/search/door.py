"""The process border: a trial as one plain dict on its way out, a checked trial on its way in."""

from typing import Any

from krona_tune.study.trial import TrialConfig, trial


def plain_trial(trial_id: str, task: str, number: int, kind: str, seed: int, params: dict[str, Any]) -> dict[str, Any]:
    """The one plain dict that crosses the process border."""
    return {"trial_id": trial_id, "task": task, "number": number, "kind": kind, "seed": seed, "params": params}


def trial_of(config: dict[str, Any]) -> TrialConfig:
    """The one door in: the plain dict that crossed the process border, as a checked trial."""
    return trial(config["task"], config["seed"], config["params"], config["kind"])
