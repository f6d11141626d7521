"""A trial at a rung on disk: the trained tensors and the optimiser, nothing of the backbone."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from krona_tune.study.result import Report
from krona_tune.train.loop import TrialRun

TENSORS, OPTIMISER, PROGRESS = "adapter.safetensors", "optimiser.pt", "progress.json"


def save(run: TrialRun, folder: Path) -> None:
    """Writes the run as it stands between two rungs."""
    save_file(run.state(), folder / TENSORS)
    if run.optimiser:
        torch.save(run.optimiser.state(), folder / OPTIMISER)
    report = run.last_report and asdict(run.last_report)
    progress = {"rung": run.rung, "step": run.step, "fingerprint": run.trial.fingerprint, "report": report}
    (folder / PROGRESS).write_text(json.dumps(progress), encoding="utf-8")


def load(run: TrialRun, folder: Path) -> None:
    """Puts a run where `save` found it.

    Raises:
        ValueError: the checkpoint is of another trial.
    """
    progress = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
    if progress["fingerprint"] != run.trial.fingerprint:
        raise ValueError(f"{folder} is of trial {progress['fingerprint']}, this is {run.trial.fingerprint}")
    run.load_state(load_file(folder / TENSORS))
    if run.optimiser:
        run.optimiser.load_state(torch.load(folder / OPTIMISER, weights_only=True))
    run.rung, run.step = progress["rung"], progress["step"]
    run.last_report = Report(**progress["report"]) if progress["report"] else None
