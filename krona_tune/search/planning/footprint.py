"""Computes from sizes alone what the trials of a space take: memory of a worker, and disk for checkpoints."""

from dataclasses import dataclass
from itertools import islice
from math import ceil
from statistics import fmean
from typing import Any

from krona_tune.adapters.placement import TRAINING_BYTES
from krona_tune.search.planning.plan import Plan
from krona_tune.search.planning.space import Space
from krona_tune.study.study_state import Counts

PROCESS_BYTES = 600 * 2**20
"""The memory of a worker before it loads a backbone: Python, torch, transformers."""
STATE_BYTES = 12
"""Bytes per trained parameter on disk: a float32 value and its two moments."""
POINTS, MOST_DRAWS = 200, 1000


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


def drawn(space: Space) -> list[dict[str, Any]]:
    """Returns feasible points, equally many per method if found; at least one of each."""
    found: list[dict[str, Any]] = []
    for method in map(space.of, space.methods):
        found += islice(method.feasible_points(MOST_DRAWS), ceil(POINTS / len(space.methods)))
    return found


def largest_point(space: Space) -> dict[str, Any]:
    """Returns the point with the most parameters of many drawn, with the largest batch of its method."""
    most = max(drawn(space), key=space.parameters)
    return {**most, "batch_size": max(space.knobs[most["method"]]["batch_size"].ends())}


def footprint(plan: Plan, longest: int, itemsize: int) -> Footprint:
    """Returns what the largest adapter of the space needs.

    Args:
        longest: the most tokens of an example.
        itemsize: the bytes of a number of the backbone.
    """
    shape, params = plan.geometry, largest_point(plan.space)
    trained = plan.space.parameters(params) + shape.head_parameters(_most_outputs(plan))
    tokens = longest * -(-params["batch_size"] // params["accumulation"])
    activations = tokens * shape.kept_values(recomputed=params["gradient_checkpointing"]) * itemsize
    weights = shape.parameters * itemsize
    worker = PROCESS_BYTES + weights + trained * TRAINING_BYTES + activations
    return Footprint(params=params, weights=weights, worker=worker)


def checkpoints_of(plan: Plan) -> Checkpoints:
    """Returns the checkpoints of all tasks: of the search, its repeats, the heads alone, and the finals of both."""
    each, tasks = Counts.of(plan.spec, plan.planned), len(plan.spec.tasks)
    adapters, heads = tasks * (each.searched + each.repeats + each.finals), tasks * (each.heads + each.final_heads)
    sizes = [plan.space.parameters(point) for point in drawn(plan.space)]
    beside = (adapters + heads) * plan.geometry.head_parameters(_most_outputs(plan))
    return Checkpoints(
        trials=adapters + heads,
        usually=STATE_BYTES * (adapters * fmean(sizes) + beside),
        most=STATE_BYTES * (adapters * max(sizes) + beside),
    )


def _most_outputs(plan: Plan) -> int:
    return max(task.outputs for task in plan.tasks.values())
