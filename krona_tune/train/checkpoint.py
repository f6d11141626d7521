"""Saves a trial at a rung to disk and loads it: the trained tensors and the optimiser, nothing of the backbone."""

import json
import operator
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from krona_tune.adapters.decoding import Decoding
from krona_tune.adapters.frozen_model import other_part
from krona_tune.study.request.trial import TrialConfig
from krona_tune.study.result import Report
from krona_tune.train.device import lacks_memory
from krona_tune.train.loop import TrialRun

_UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, EOFError),
    *(UnpicklingError, SafetensorError),
)
"""What the readers raise for half a file, or for one with other content."""
TENSORS, OPTIMISER, PROGRESS = "adapter.safetensors", "optimiser.pt", "progress.json"


class Unusable(Exception):
    """A checkpoint that can't be read, or is of another trial or another backbone."""


def save(run: TrialRun, folder: Path) -> None:
    """Writes the state of a run between two rungs."""
    save_file(run.state(), folder / TENSORS)
    if run.optimiser:
        torch.save(run.optimiser.state(), folder / OPTIMISER)
    progress = {
        "rung": run.rung,
        "step": run.step,
        "fingerprint": run.trial.fingerprint,
        "backbone_fingerprint": run.backbone.fingerprint,
        "backbone_parts": run.backbone.parts,
        "decoding": run.answer.decoding and run.answer.decoding.model_dump(),
        "report": run.last_report and run.last_report.to_dict(),
    }
    (folder / PROGRESS).write_text(json.dumps(progress), encoding="utf-8")


def load(run: TrialRun, folder: Path) -> None:
    """Restores the state of a run that `save` wrote, also on another kind of device.

    Raises:
        Unusable: a file is missing or can't be read, the checkpoint is of another trial or backbone, or a tensor does
            not fit; the run is unchanged. That memory does not hold it is another error.
    """
    with _refusing_damage(folder):
        progress, tensors = _progress(folder), load_file(folder / TENSORS)
        optimiser: Any = run.optimiser and torch.load(folder / OPTIMISER, map_location="cpu", weights_only=True)
        rung, step, report = operator.index(progress["rung"]), operator.index(progress["step"]), _report(progress)
        trial, kept = progress["fingerprint"], progress["backbone_fingerprint"]
        if run.optimiser:
            run.optimiser.refuse_other(optimiser)
    if trial != run.trial.fingerprint:
        raise Unusable(f"{folder} is of trial {trial}, this is {run.trial.fingerprint}")
    if kept != (found := run.backbone.fingerprint):
        raise Unusable(f"{folder} is of the backbone {kept}, this is {found}")
    if other := other_part(progress.get("backbone_parts", {}), run.backbone.parts):
        raise Unusable(f"{folder} is of a backbone with other weights in {other}")
    try:
        run.load_state(tensors)
    except ValueError as error:
        raise Unusable(f"{folder} does not fit this trial: {error}") from error
    if run.optimiser:
        run.optimiser.load_state(optimiser)
    run.rung, run.step, run.last_report = rung, step, report


def adopt(earlier: Path, folder: Path, trial: TrialConfig) -> None:
    """Writes the state of another trial as that of a clone with the same adapter and steps, into an empty folder.

    The clone reports its own rungs only, from the next one on.

    Raises:
        Unusable: a file is missing or can't be read.
    """
    try:
        progress, examples = _progress(earlier), examples_of(earlier)
        save_file(load_file(earlier / TENSORS), folder / TENSORS)
        if (earlier / OPTIMISER).exists():
            shutil.copyfile(earlier / OPTIMISER, folder / OPTIMISER)
    except _UNREADABLE as error:
        raise Unusable(f"{earlier} can't be read ({type(error).__name__}: {error})") from error
    own = {**progress, "fingerprint": trial.fingerprint, "report": None, "copied_examples": examples}
    (folder / PROGRESS).write_text(json.dumps(own), encoding="utf-8")


def is_copy(folder: Path, fingerprint: str) -> bool:
    """Returns whether a state is one that the clone with this fingerprint got and has not gone on from."""
    with suppress(*_UNREADABLE):
        progress = _progress(folder)
        return bool(progress["fingerprint"] == fingerprint and _report(progress) is None)
    return False


def last_report(folder: Path, fingerprint: str = "") -> Report | None:
    """Returns a state's last report; None if it is a clone's that has reported nothing yet, or can't be read.

    Args:
        fingerprint: that of the trial; the state of another one has no report. Empty: any trial's counts.
    """
    with suppress(*_UNREADABLE):
        progress = _progress(folder)
        return _report(progress) if not fingerprint or progress["fingerprint"] == fingerprint else None
    return None


def examples_of(folder: Path) -> int:
    """Returns how many training examples a state has seen; 0 if an older version copied it and did not say."""
    progress = _progress(folder)
    copied: int = progress.get("copied_examples", 0)
    return report.examples if (report := _report(progress)) else copied


@dataclass(frozen=True, kw_only=True)
class AdapterState:
    """Holds a state's tensors, from which an adapter is written, and the fingerprints of its trial and backbone.

    `decoding` says how its model writes; None for a head. An earlier version kept neither it nor the `backbone_parts`.
    """

    tensors: dict[str, Tensor]
    fingerprint: str
    backbone_fingerprint: str | None
    backbone_parts: dict[str, str]
    decoding: Decoding | None


def read_trained(folder: Path) -> AdapterState:
    """Returns what a trial has trained, without its optimiser.

    Raises:
        Unusable: a file is missing or can't be read. That memory does not hold it is another error.
    """
    with _refusing_damage(folder):
        progress = _progress(folder)
        decoding = progress.get("decoding")
        return AdapterState(
            tensors=load_file(folder / TENSORS),
            fingerprint=progress["fingerprint"],
            backbone_fingerprint=progress["backbone_fingerprint"],
            backbone_parts=progress.get("backbone_parts", {}),
            decoding=decoding and Decoding(**decoding),
        )


@contextmanager
def _refusing_damage(folder: Path) -> Iterator[None]:
    """Turns what the readers raise for a damaged state into Unusable."""
    try:
        yield
    except _UNREADABLE as error:
        if lacks_memory(error):
            raise
        raise Unusable(f"{folder} can't be read ({type(error).__name__}: {error})") from error


def _report(progress: dict[str, Any]) -> Report | None:
    return Report.from_dict(progress["report"]) if progress["report"] else None


def _progress(folder: Path) -> dict[str, Any]:
    progress: dict[str, Any] = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
    return progress
