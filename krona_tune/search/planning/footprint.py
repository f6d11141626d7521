"""Computes from sizes alone what the trials of a space take: memory of a worker, and disk for checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from krona_tune.adapters.placement import KEPT_IN, TRAINING_BYTES
from krona_tune.search.planning.plan import Plan
from krona_tune.search.planning.space import Space
from krona_tune.study.result import grouped
from krona_tune.study.study_state import Counts

PROCESS_BYTES = 600 * 2**20
"""The memory of a worker before it loads a backbone: Python, torch, transformers."""
LOGIT_BYTES = 12
"""Bytes of a logit of a target: in float32, with its gradient and what the loss keeps."""
SOFTMAX_BYTES = 4
"""Bytes of the weight of a pair of tokens that attention keeps in float32, beside the one that it computes with."""
HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head", "encoder_attention_heads")
"""The names of the number of heads in configs."""
HEAD_WIDTH = 64
"""The usual width of a head, where a config names no number."""
STATE_BYTES = 12
"""Bytes per trained parameter on disk: a float32 value and its two moments."""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """The trial of the space that needs the most memory, the bytes of the backbone's weights, and the rough bytes of
    its worker."""

    params: dict[str, Any]
    weights: int
    worker: int


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """The number of trials that leave a checkpoint, and their total bytes: `usually`, and at `most` if every trial has
    the largest adapter, and the finals train all seeds that their budget pays for."""

    trials: int
    usually: float
    most: float


MEMORY_KNOBS = {"batch_size": max, "accumulation": min, "gradient_checkpointing": min}
"""The knobs that say how much of a batch is kept at once, each with what chooses the value that keeps the most."""


def largest_points(space: Space) -> list[dict[str, Any]]:
    """Returns of each method the point with the most parameters of many drawn, with the most of a batch at once."""
    of_methods = grouped(space.sample, lambda point: str(point["method"]))
    return [
        max(points, key=space.parameters)
        | {name: most(space.knobs[method][name].ends()) for name, most in MEMORY_KNOBS.items()}
        for method, points in of_methods.items()
    ]


def footprint(plan: Plan, longest: int, itemsize: int, *, fused: bool = False) -> Footprint:
    """Returns what the trial of the space that needs the most memory needs.

    Args:
        longest: the most tokens of an example, without those that are written.
        itemsize: the bytes of a number that a trial computes with.
        fused: attention is computed as on a GPU, which keeps nothing of each pair of tokens.
    """
    weights = _weights(plan, itemsize)
    found = [(_beside(plan, params, longest, itemsize, fused=fused), params) for params in largest_points(plan.space)]
    beside, params = max(found, key=lambda each: each[0])
    return Footprint(params=params, weights=weights, worker=PROCESS_BYTES + weights + beside)


def _beside(plan: Plan, params: Mapping[str, Any], longest: int, itemsize: int, *, fused: bool) -> int:
    """Returns the bytes of a trial beside its backbone's weights."""
    shape = plan.geometry
    trained = plan.space.parameters(params) + shape.head_parameters(_most_outputs(plan))
    rows = -(-params["batch_size"] // params["accumulation"])
    written = max((task.generation.max_new_tokens for task in plan.tasks.values() if task.generation), default=0)
    tokens, recomputed = longest + written, params["gradient_checkpointing"]
    activations = tokens * shape.kept_values(recomputed=recomputed) * itemsize
    if not fused:
        layers = 1 if recomputed else sum(shape.depths.values()) * shape.uses
        activations += layers * _heads(plan) * tokens**2 * (SOFTMAX_BYTES + itemsize)
    logits = written * shape.vocabulary * LOGIT_BYTES
    return int(trained * TRAINING_BYTES + rows * (activations + logits))


def _heads(plan: Plan) -> int:
    named = (plan.source.config.get(name) for name in HEADS)
    return next((each for each in named if isinstance(each, int)), 0) or max(1, plan.geometry.width // HEAD_WIDTH)


def _weights(plan: Plan, itemsize: int) -> int:
    """Returns the bytes of the backbone's weights; those of its words are never quantized."""
    shape = plan.geometry
    words = min(shape.parameters, shape.vocabulary * shape.width)
    quantize = plan.spec.backbone.quantize
    return round((shape.parameters - words) * (KEPT_IN[quantize] if quantize else itemsize) + words * itemsize)


def checkpoints_of(plan: Plan) -> Checkpoints:
    """Returns the checkpoints of all tasks: of the search, its repeats, the heads alone, and the finals of both."""
    each, tasks = Counts.of(plan.spec, plan.planned), len(plan.spec.tasks)
    adapters, heads = tasks * (each.searched + each.repeats + each.finals), tasks * (each.heads + each.final_heads)
    more = tasks * each.may_add
    sizes = [plan.space.parameters(point) for point in plan.space.sample]
    beside = plan.geometry.head_parameters(_most_outputs(plan))
    return Checkpoints(
        trials=adapters + heads,
        usually=STATE_BYTES * (adapters * fmean(sizes) + (adapters + heads) * beside),
        most=STATE_BYTES * ((adapters + more) * max(sizes) + (adapters + more + heads) * beside),
    )


def _most_outputs(plan: Plan) -> int:
    return max(task.outputs for task in plan.tasks.values())
