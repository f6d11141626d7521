"""Estimates what a study takes before a step is timed: from sizes and, on a CPU, from a few products of matrices."""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from statistics import fmean
from typing import Any

import numpy as np

from krona_tune.adapters.placement import frozen_layers, sites
from krona_tune.backbones.geometry import Geometry
from krona_tune.data.tasks import Task
from krona_tune.processor import this_processor
from krona_tune.search.forecast import Forecast, Load, Pace, TaskForecast, TrialParts, middle
from krona_tune.search.planning.space import Space, adapter_of
from krona_tune.search.startup.cluster import Slots
from krona_tune.study.manifest import PlanFacts
from krona_tune.study.request.study_spec import StudySpec

SIDE, PRODUCTS, ROUNDS = 64, 500, 9
"""Square matrices so small that one thread multiplies them, how often in one timed round, and the rounds."""
CPU_SHARE, ATTENTION_SHARE = 0.8, 0.2
"""The share of that speed at which a step computes its maps, and its attention, as timed steps of four models show."""
BF16_GAIN = 1.5
"""How many times faster a processor computes a step that prefers bfloat16."""
LAYER_OPERATIONS = 3.7e8
"""A layer's fixed cost in a step of any size, in operations of that speed: calls, not numbers."""
GPU_SPEED, GPU_LAYER_SECONDS = 2e13, 2e-3
"""Operations a second, and seconds of a layer in any step, that are assumed of a GPU."""
CPU_SPREAD, GPU_SPREAD = 2.0, 4.0
"""How many times more or less it may take."""
POINTS = 50
"""The drawn points of a space of which the mean cost is taken."""
WRITTEN_ROWS = 32
"""Rows that are generated together, roughly."""


@dataclass(frozen=True, kw_only=True)
class TextSizes:
    """The examples that a task has in each part; the mean of an example's tokens, and of their square."""

    train: int
    validation: int
    test: int
    tokens: float
    pairs: float


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Operations a second of the device of one trial, and seconds of a layer in a step of any size.

    What takes a time by these may take `spread` times more or less; `how` says in words where they are from.
    """

    operations: float
    layer_seconds: float
    spread: float
    how: str


def speed_of(slots: Slots) -> Speed:
    """Returns the speed of a trial's device: measured of the cores of this machine, assumed of a GPU."""
    if slots.gpus:
        share = min(1.0, slots.gpus)
        how = "by the model's sizes and an assumed GPU"
        return Speed(operations=share * GPU_SPEED, layer_seconds=GPU_LAYER_SECONDS, spread=GPU_SPREAD, how=how)
    threads = max(1, int(slots.cpus))
    measured = threads**0.8 * _products_a_second()
    gain = BF16_GAIN if this_processor().prefers_bfloat16 else 1.0
    how = "by the model's sizes and a few products of matrices"
    return Speed(
        operations=CPU_SHARE * gain * measured,
        layer_seconds=LAYER_OPERATIONS / measured,
        spread=CPU_SPREAD,
        how=how,
    )


def _products_a_second() -> float:
    """Returns the multiplications and additions that a core does in a second of its own time, in float32."""
    left, right, out = (np.ones((SIDE, SIDE), np.float32) for _ in range(3))
    times: list[float] = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        for _ in range(PRODUCTS):
            np.matmul(left, right, out=out)
        times.append(time.thread_time() - began)
    return 2 * SIDE**3 * PRODUCTS / min(times)


@dataclass(frozen=True, kw_only=True)
class Shares:
    """The mean shares of a model's layers that a trial's step passes forward and backward."""

    forward: float
    backward: float


def mean_shares(space: Space, spec: StudySpec) -> Shares:
    """Returns the shares of the points of a space: what is stored is not computed, and no gradient passes below the
    first adapter."""
    rng, geometry = random.Random(0), space.geometry
    depth, stored = sum(geometry.depths.values()), spec.resources.stored_states_gb > 0
    points = [space.draw(rng) for _ in range(POINTS)]
    kept = [frozen_layers(geometry, adapter_of(point)) if stored and _quiet(point) else 0 for point in points]
    lowest = [_lowest(space, point) for point in points]
    return Shares(forward=1 - fmean(kept) / depth, backward=1 - fmean(lowest) / depth)


def _quiet(point: Mapping[str, Any]) -> bool:
    """Returns whether no dropout acts below the adapters."""
    return bool(point["dropout"] == 0.0 or point["dropout_layers"] == "adapted")


def _lowest(space: Space, point: Mapping[str, Any]) -> int:
    """Returns how many layers are below the first adapter, counted from the model's input."""
    geometry, below, found = space.geometry, 0, []
    for stack, depth in geometry.depths.items():
        found += [below + site.layer for site in sites(geometry, adapter_of(point)) if site.stack is stack]
        below += depth
    return min(found, default=0)


def untimed_forecast(
    spec: StudySpec, space: Space, tasks: Mapping[str, Task], sizes: Mapping[str, TextSizes], speed: Speed
) -> Forecast:
    """Returns the forecast of a study of which nothing was timed.

    Args:
        space: the request's space on its backbone.
        sizes: of each task, the examples that are used, and their tokens.
        speed: that of a trial's device.
    """
    shares, rows = mean_shares(space, spec), middle(spec.domains()["batch_size"])
    cost = _Cost(space.geometry, shares, speed)
    return Forecast(
        tasks={name: _of_task(spec, tasks[name], sizes[name], cost, rows) for name in spec.tasks},
        planned=PlanFacts.expected(spec, methods=len(space.methods), text_to_text=space.geometry.text_to_text),
    )


def _of_task(spec: StudySpec, task: Task, size: TextSizes, cost: "_Cost", rows: float) -> TaskForecast:
    train = _load(size, size.train, rows)
    epoch, head = cost.training.seconds(train), cost.head.seconds(train)
    judged, tested = (_load(size, count, rows) for count in (size.validation, size.test))
    evaluation, test = cost.prediction.seconds(judged), cost.prediction.seconds(tested)
    if task.generation and not task.has_perplexity:
        new = task.generation.max_new_tokens
        test += cost.writing(size.test, new)
        evaluation += 0.0 if task.judged_by_loss else cost.writing(size.validation, new)
    of_head = 0.0 if cost.stores else 1.0
    return TaskForecast(
        schedule=spec.schedule.of(task.name, size.train),
        adapter=TrialParts(epoch=epoch, evaluation=evaluation, test=test),
        head=TrialParts(epoch=head, evaluation=of_head * evaluation, test=of_head * test),
        filling=0.0 if of_head else cost.whole.seconds(train) + evaluation + test,
    )


def _load(size: TextSizes, rows: int, batch_size: float) -> Load:
    return Load(steps=ceil(rows / batch_size), tokens=int(rows * size.tokens), pairs=int(rows * size.pairs))


class _Cost:
    """The paces of a step with an adapter, of a prediction, of a step of the head alone, and of the whole model."""

    def __init__(self, geometry: Geometry, shares: Shares, speed: Speed) -> None:
        self.stores = shares.forward < 1
        self._depth = sum(geometry.depths.values()) * geometry.uses
        words = 0 if geometry.writes_alone else geometry.vocabulary * geometry.width
        self._weights = max(1, geometry.parameters - words) * geometry.uses
        self._width, self._speed = geometry.width, speed
        self.training = self._pace(shares.forward + shares.backward, shares.forward + 2 * shares.backward)
        self.prediction = self._pace(shares.forward, shares.forward)
        self.whole = self._pace(1.0, 1.0)
        self.head = self._pace(0.0, 0.0) if self.stores else self.whole

    def _pace(self, passes: float, attended: float) -> Pace:
        """Returns the pace of passes through all layers' maps, and of as many through their attention."""
        speed = self._speed
        pairs = 4 * self._width * self._depth * attended / (ATTENTION_SHARE / CPU_SHARE * speed.operations)
        return Pace(
            step=self._depth * speed.layer_seconds * passes / 2,
            token=2 * self._weights * passes / speed.operations,
            pair=pairs,
        )

    def writing(self, rows: int, tokens: int) -> float:
        """Returns the seconds in which so many tokens are written for each of these rows, one after the other."""
        pace = self.whole
        return tokens * (ceil(rows / WRITTEN_ROWS) * pace.step + rows * pace.token)
