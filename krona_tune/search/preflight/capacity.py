"""Estimates whether a study's checkpoints fit on the disk, and its workers in memory."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import NamedTemporaryFile
from typing import Any

from krona_tune.record.parquet_reader import pass_over, read_trials
from krona_tune.search.planning.plan import Plan
from krona_tune.search.planning.trial_counts import Counts
from krona_tune.search.preflight.findings import Findings, problem
from krona_tune.search.preflight.first_batch import drawn, largest_point, longest_example
from krona_tune.search.startup.gather import Gathered
from krona_tune.study.folder import StudyFolder
from krona_tune.study.formatting import format_bytes
from krona_tune.study.result import Status
from krona_tune.train.device import this_device

PROCESS_BYTES = 600 * 2**20
"""The memory of a worker before it loads a backbone: Python, torch, transformers."""
STATE_BYTES, TRAINING_BYTES = 12, 16
"""Bytes per trained parameter: a float32 value and its two moments on disk; in memory also its gradient."""
ACTIVATIONS = 17
"""Values per token that a layer keeps for its backward pass, in units of the width: inputs and outputs, roughly."""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """The largest adapter of the space, the bytes of the backbone's weights, and the rough bytes of its worker."""

    params: dict[str, Any]
    weights: int
    worker: int


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """The number of trials that leave a checkpoint, and their total bytes: `usually`, and at `most` if every trial has
    the largest adapter."""

    trials: int
    usually: float
    most: float


def needed_bytes(gathered: Gathered) -> Footprint:
    """Returns what the largest adapter of the space needs, computed from sizes alone."""
    plan, shape = gathered.plan, gathered.plan.geometry
    params = largest_point(plan.space)
    trained = plan.space.parameters(params) + shape.head_parameters(_most_outputs(plan))
    itemsize = this_device(plan.precision, gpu=False).dtype.itemsize if not gathered.slots.gpus else 2
    rows = -(-params["batch_size"] // params["accumulation"])
    tokens = rows * max(map(longest_example, gathered.prepared.works.values()))
    layers = sum(shape.depths.values()) * shape.uses
    kept = layers + ACTIVATIONS if params["gradient_checkpointing"] else layers * ACTIVATIONS
    activations = tokens * kept * shape.width * itemsize
    weights = shape.parameters * itemsize
    worker = PROCESS_BYTES + weights + trained * TRAINING_BYTES + activations
    return Footprint(params=params, weights=weights, worker=worker)


def checkpoints_of(plan: Plan) -> Checkpoints:
    """Returns the checkpoints of all tasks: of the search, its repeats, the heads alone, and the finals of both."""
    each, tasks = Counts.of(plan.spec, text_to_text=plan.geometry.text_to_text), plan.spec.tasks
    adapters = len(tasks) * (each.searched + each.repeats + each.finals)
    heads = sum(len(plan.baselines(task)) + each.final_heads for task in tasks)
    sizes = [plan.space.parameters(point) for point in drawn(plan.space)]
    beside = (adapters + heads) * plan.geometry.head_parameters(_most_outputs(plan))
    return Checkpoints(
        trials=adapters + heads,
        usually=STATE_BYTES * (adapters * fmean(sizes) + beside),
        most=STATE_BYTES * (adapters * max(sizes) + beside),
    )


def _most_outputs(plan: Plan) -> int:
    return max(task.outputs for task in plan.tasks.values())


def nearest_folder(path: Path) -> Path:
    """Returns the folder itself, or its nearest parent that exists."""
    return next(above for above in (path.resolve(), *path.resolve().parents) if above.is_dir())


def check_disk(gathered: Gathered, folder: StudyFolder, storage: Path) -> Findings:
    """Checks that the storage can be written and has space for the checkpoints of the remaining trials: a problem if
    the usual size does not fit, a warning if only the largest does not."""
    try:
        with NamedTemporaryFile(dir=storage, prefix=".preflight-"):
            pass
    except OSError as error:
        return problem("--storage", f"{storage} can't be written: {error.strerror}", "name a writable folder")
    checkpoints, free = checkpoints_of(gathered.plan), shutil.disk_usage(storage).free
    there, ended = len(list(folder.checkpoints.glob("*"))), 0
    if folder.results.is_dir():
        ended = sum(row.status is not Status.INTERRUPTED for row in read_trials(folder.results, pass_over))
    left = max(0.0, 1 - max(there, ended) / checkpoints.trials)
    of = f"{storage} has {format_bytes(free)} free, the checkpoints of {checkpoints.trials} trials take"
    if left * checkpoints.usually > free:
        fix = "free space, ask for fewer trials, or limit them with --max-params"
        return problem("--storage", f"{of} about {format_bytes(left * checkpoints.usually)}", fix)
    if left * checkpoints.most > free:
        return Findings(warnings=(f"--storage: {of} up to {format_bytes(left * checkpoints.most)}",))
    return Findings()


def check_memory(gathered: Gathered, need: Footprint) -> Findings:
    """Checks that a node's CPU workers fit in its memory: a problem if the backbones alone don't, else a warning."""
    fit, found = gathered.slots, Findings()
    for node in set(gathered.cluster.nodes):
        workers = min(node.fits(fit.cpus, fit.gpus), fit.count)
        memory = f"{workers} workers on a node of {node.cpus:g} CPUs"
        if not fit.gpus and workers * need.weights > node.memory_bytes:
            what = f"{memory}: the backbone alone takes {format_bytes(workers * need.weights)}"
            fix = "ask for fewer with --max-concurrent, or for more CPUs a trial"
            found += problem("memory", f"{what}, Ray has {format_bytes(node.memory_bytes)}", fix)
        elif not fit.gpus and workers * need.worker > node.memory_bytes:
            taken, there = format_bytes(workers * need.worker), format_bytes(node.memory_bytes)
            rough = f"{memory} may take {taken}, Ray has {there}"
            found += Findings(warnings=(f"memory: {rough}; --max-concurrent asks for fewer",))
    return found
