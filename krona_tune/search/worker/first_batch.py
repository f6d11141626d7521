"""Trains a first batch before any trial, where trials are trained: with the largest adapter and each other kind."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from krona_tune.data.batches import lengths
from krona_tune.data.user_code import NoValue
from krona_tune.processor import torch_threads
from krona_tune.refusal import Refusal
from krona_tune.search.planning.space import Space
from krona_tune.search.worker.trainable import Workplace, describe, status_of_error
from krona_tune.study.formatting import format_knob
from krona_tune.study.request.schedule import Schedule
from krona_tune.study.request.study_spec import Precision
from krona_tune.study.request.trial import check_trial
from krona_tune.study.result import Status
from krona_tune.train.backbone import Backbone, load_backbone, quiet
from krona_tune.train.device import computes_bfloat16
from krona_tune.train.loop import TaskWork, train_trial
from krona_tune.train.step_times import StepTimes, time_steps

logger = logging.getLogger(__name__)

FEW_ROWS = 2
"""The rows that are trained of a task that does not have the longest example, and with an adapter of another kind."""
KINDS = ("method", "layer_norms", "gradient_checkpointing")
"""The knobs of which any value may fail in a family, or in a precision, in which the others train."""


@dataclass(frozen=True, kw_only=True)
class FirstBatch:
    """The result: each failed task's status and error, and a GPU's name, memory and peak use.

    `unfit` are the errors of the kinds of adapter that can't be trained, where the largest one can.
    `probe` is the cost of a step; None if a task failed or no step was timed. `lacks_bfloat16`: the device is no faster
    in bfloat16 than in float32.
    """

    failures: dict[str, tuple[Status, str]]
    computes_in: Precision
    unfit: dict[str, str] = field(default_factory=dict)
    probe: StepTimes | None = None
    device: str = ""
    lacks_bfloat16: bool = False
    memory_bytes: int = 0
    peak_bytes: int = 0


def points_beside(space: Space, largest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns a point with each value of KINDS that the largest one does not have, under that value's name."""
    found: dict[str, dict[str, Any]] = {}
    known = {(name, largest.get(name)) for name in KINDS}
    for point in sorted(space.sample, key=space.parameters, reverse=True):
        if other := [(name, point[name]) for name in KINDS if name in point and (name, point[name]) not in known]:
            known |= set(other)
            found[" and ".join(f"{name} {format_knob(value)}" for name, value in other)] = point
    return found


def longest_example(work: TaskWork) -> int:
    """Returns the number of tokens of the task's longest training example."""
    return int(lengths(work.train).max())


@torch.random.fork_rng(devices=[])  # the driver's process may be a person's
def train_first_batch(
    workplace: Workplace,
    works: Mapping[str, TaskWork],
    params: dict[str, Any],
    timed: Sequence[Mapping[str, Any]] = (),
    beside: Mapping[str, dict[str, Any]] | None = None,
) -> FirstBatch:
    """Trains and evaluates one batch of each task: a whole one if it has the longest example, else a few rows.

    Then trains a few rows of a task with each point of `beside`. With a trial's number of threads it times steps of the
    first point of `timed`, and one of the second, if there is one.
    """
    gpu = workplace.gpu
    if gpu and not torch.cuda.is_available():
        fix = "install a build of torch for this GPU, or train on the CPU with --gpus-per-trial 0"
        raise Refusal("GPU", f"torch {torch.__version__} can't use the one that Ray gave a trial", fix)
    device = workplace.device
    if gpu and device.precision == "bf16" and not torch.cuda.is_bf16_supported():
        fix = "go on where there is a GPU that can, or begin a new study with --set precision=fp32"
        raise Refusal("precision", f"{torch.cuda.get_device_name()} can't compute in bf16", fix)
    backbone = load_backbone(workplace.location, device, workplace.geometry)
    refuse_no_number(backbone.whole, workplace.location)
    heaviest = max(works, key=lambda task: longest_example(works[task]))
    failures: dict[str, tuple[Status, str]] = {}
    peak = 0
    for task, work in works.items():
        rows = int(params["batch_size"]) if task == heaviest else FEW_ROWS
        try:
            peak = max(peak, _train(task, _shortened(work, rows), backbone, {**params, "batch_size": rows}))
        except Exception as error:
            failures[task] = (status_of_error(error), describe(error))
    unfit = {} if failures else _unfit(heaviest, works[heaviest], backbone, beside or {})
    probe = _probe(backbone, works, timed, workplace.threads) if timed and not failures else None
    done = FirstBatch(
        failures=failures,
        computes_in=device.precision,
        unfit=unfit,
        probe=probe,
        lacks_bfloat16=not computes_bfloat16(device.kind),
    )
    if not gpu:
        return done
    return replace(
        done,
        device=torch.cuda.get_device_name(),
        memory_bytes=torch.cuda.get_device_properties(0).total_memory,
        peak_bytes=peak,
    )


SLICE = 2**24
"""How many values are looked at together: what that computes takes memory of its own."""


def refuse_no_number(model: nn.Module, location: str) -> None:
    """Raises a Refusal if a weight holds a value that is no finite number: every training would end at its start."""
    for name, weight in model.named_parameters():
        parts = torch.split(weight.detach().flatten(), SLICE) if weight.is_floating_point() else ()
        if not all(part.isfinite().all() for part in parts):
            problem = f"{location}: the weight {name} holds a value that is no finite number"
            raise Refusal("--model", problem, "save the model again from where it was trained")


def _unfit(task: str, work: TaskWork, backbone: Backbone, points: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """Returns the errors of the points that can't be trained; one that diverges, or lacks memory, may do otherwise."""
    found: dict[str, str] = {}
    for kind, point in points.items():
        try:
            _train(task, _shortened(work, FEW_ROWS), backbone, {**point, "batch_size": FEW_ROWS})
        except Exception as error:
            if status_of_error(error) is Status.FAILED:
                found[kind] = describe(error)
    return found


def _train(task: str, work: TaskWork, backbone: Backbone, params: dict[str, Any]) -> int:
    """Runs one step and one evaluation as a trial does. Returns the peak memory in bytes."""
    with quiet(), warnings.catch_warnings(action="ignore"), suppress(NoValue):  # of a metric that a few rows can't have
        train_trial(f"{task}-first-batch", check_trial(task, 0, params), work, backbone, lambda report: None)
    return backbone.device.peak_memory_bytes()


def _probe(
    backbone: Backbone, works: Mapping[str, TaskWork], points: Sequence[Mapping[str, Any]], threads: int
) -> StepTimes | None:
    """Returns the timed steps; None if they failed, because a study can run without a forecast."""
    try:
        with torch_threads(threads), quiet(), warnings.catch_warnings(action="ignore"):
            return time_steps(backbone, works, *(check_trial(next(iter(works)), 0, point) for point in points[:2]))
    except Exception:
        logger.exception("no step could be timed, so there is no forecast")
        return None


def _shortened(work: TaskWork, rows: int) -> TaskWork:
    """Returns the task with only its longest `rows` examples, which make one step, and as many to evaluate on."""
    train, validation = of_the_longest(work.train, rows), of_the_longest(work.validation, rows)
    once = Schedule(examples_per_epoch=len(train), rungs=(len(train),), reduction=work.schedule.reduction)
    return replace(work, train=train, validation=validation, schedule=once, test=None)


def of_the_longest(table: pa.Table, rows: int) -> pa.Table:
    return table.take(np.argsort(-lengths(table), kind="stable")[:rows])
