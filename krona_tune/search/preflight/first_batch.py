"""The first batch, trained once before any trial: with the largest adapter of the space, where trials are trained."""

import logging
import random
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from krona_tune.data.batches import lengths
from krona_tune.search.planning.space import Space
from krona_tune.search.worker.errors import describe, status_of_error
from krona_tune.study.result import Report, Status
from krona_tune.study.spec.schedule import Schedule
from krona_tune.study.spec.study_spec import Precision
from krona_tune.study.spec.trial import check_trial
from krona_tune.train.backbone import Backbone, load_backbone, quiet
from krona_tune.train.device import this_device
from krona_tune.train.loop import TaskWork, train_trial
from krona_tune.train.probe import Probe, time_steps

logger = logging.getLogger(__name__)

POINTS, MOST_DRAWS = 200, 1000
FEW_ROWS = 2
"""What is trained of a task whose batches are not the longest."""


@dataclass(frozen=True, kw_only=True)
class FirstBatch:
    """What came of it: each failed task's status and error, and of a GPU its name, its memory and the most used.

    `probe` is what a step costs; None where a task failed.
    """

    failures: dict[str, tuple[Status, str]]
    probe: Probe | None = None
    device: str = ""
    emulates_bfloat16: bool = False
    memory_bytes: int = 0
    peak_bytes: int = 0


def drawn(space: Space) -> list[dict[str, Any]]:
    """Many feasible points, as many of each method; at least one, for a space's feasibility is found by such draws."""
    found: list[dict[str, Any]] = []
    for method in map(space.of, space.methods):
        rng = random.Random(0)
        points = filter(method.feasible, (method.draw(rng) for _ in range(MOST_DRAWS)))
        found += islice(points, ceil(POINTS / len(space.methods)))
    return found


def largest_point(space: Space) -> dict[str, Any]:
    """Of many points drawn, the one with the most parameters, and the largest batch that its method may draw."""
    most = max(drawn(space), key=space.parameters)
    return {**most, "batch_size": max(space.knobs[most["method"]]["batch_size"].ends())}


def median_point(space: Space) -> dict[str, Any]:
    """Of many points drawn, the one with the middle number of parameters."""
    points = sorted(drawn(space), key=space.parameters)
    return points[len(points) // 2]


def longest_example(work: TaskWork) -> int:
    """Tokens of the task's longest training example."""
    return int(lengths(work.train).max())


def train_first_batch(
    location: str,
    precision: Precision,
    gpu: bool,
    works: Mapping[str, TaskWork],
    params: dict[str, Any],
    usual: dict[str, Any] | None = None,
    threads: int = 1,
) -> FirstBatch:
    """Trains and evaluates one batch of each task: of the longest examples a whole one, of other tasks a few rows.

    Then steps of the point `usual` are timed, if there is one, with the threads that a trial has.
    """
    device = this_device(precision, gpu=gpu)
    backbone = load_backbone(location, device)
    heaviest = max(works, key=lambda task: longest_example(works[task]))
    failures: dict[str, tuple[Status, str]] = {}
    peak = 0
    for task, work in works.items():
        rows = int(params["batch_size"]) if task == heaviest else FEW_ROWS
        try:
            peak = max(peak, _train(task, _shortened(work, rows), backbone, {**params, "batch_size": rows}))
        except Exception as error:
            failures[task] = (status_of_error(error), describe(error))
    timed = _probe(backbone, works, usual, threads) if usual and not failures else None
    if not gpu:
        return FirstBatch(failures=failures, probe=timed)
    return FirstBatch(
        failures=failures,
        probe=timed,
        device=torch.cuda.get_device_name(),
        emulates_bfloat16=not torch.cuda.is_bf16_supported(including_emulation=False),
        memory_bytes=torch.cuda.get_device_properties(0).total_memory,
        peak_bytes=peak,
    )


def _train(task: str, work: TaskWork, backbone: Backbone, params: dict[str, Any]) -> int:
    """One step and one evaluation as a trial does them. Returns the most memory that was used."""
    reports: list[Report] = []
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metrics that a few rows can't have
        train_trial(f"{task}-first-batch", check_trial(task, 0, params), work, backbone, reports.append)
    return reports[-1].peak_memory_bytes


def _probe(backbone: Backbone, works: Mapping[str, TaskWork], params: dict[str, Any], threads: int) -> Probe | None:
    """The timed steps; None where they failed, for a study may go without a forecast."""
    task, own_threads = next(iter(works)), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return time_steps(backbone, works, check_trial(task, 0, params))
    except Exception:
        logger.exception("no step could be timed, so nothing is foretold")
        return None
    finally:
        torch.set_num_threads(own_threads)


def _shortened(work: TaskWork, rows: int) -> TaskWork:
    """The task with as many of its longest examples as make one step, judged on as many."""
    train, validation = _of_the_longest(work.train, rows), _of_the_longest(work.validation, rows)
    once = Schedule(examples_per_epoch=len(train), rungs=(len(train),), reduction=work.schedule.reduction)
    return replace(work, train=train, validation=validation, schedule=once, test=None)


def _of_the_longest(table: pa.Table, rows: int) -> pa.Table:
    return table.take(np.argsort(-lengths(table), kind="stable")[:rows])
