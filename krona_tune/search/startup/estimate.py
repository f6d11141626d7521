"""Estimates what a study takes before a step is timed: from sizes and, on a CPU, from a few timed layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

from krona_tune.adapters.first_token_maps import SHORTENED_ON
from krona_tune.backbones.geometry import Geometry
from krona_tune.data.own_task import compared_parts
from krona_tune.data.tasks import Task
from krona_tune.search.forecast import Forecast, TaskForecast, TrialParts, filling
from krona_tune.search.layer_passes import STATE_BYTES, LayerPasses, StudyPasses
from krona_tune.search.pace import Load, Pace, middle
from krona_tune.search.planning.space import Params, Space
from krona_tune.search.startup.processor_speed import CoreSpeed, core_speed
from krona_tune.search.startup.slots import Slots
from krona_tune.study.manifest import PlanFacts
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.study_state import Counts

GPU = CoreSpeed(maps=2e13, attention=5e12, layer_seconds=2e-3)
CORE = CoreSpeed(maps=1e11, attention=3e10, layer_seconds=2e-3)
"""Stand for a GPU, and for a core, of which nothing was measured."""
MEASURED_SPREAD, ASSUMED_SPREAD = 2.0, 4.0
"""How many times more or less it may take."""
POINTS = 50
"""The points of a space of which the mean cost is taken, at most."""
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
class Speed(CoreSpeed):
    """Holds these of the device of one trial.

    What takes a time by these may take `spread` times more or less; `how` says in words where they are from. On a
    `shortened` last layer see `krona_tune.search.layer_passes.layer_passes`.
    """

    spread: float
    how: str
    shortened: bool = False


def speed_of(slots: Slots, itemsize: int) -> Speed:
    """Returns the speed of a trial's device: measured of the cores of this machine, assumed of a GPU.

    Args:
        itemsize: bytes of a number that it computes with.
    """
    measured = None if slots.gpus else core_speed(bfloat16=itemsize == 2)
    if measured:
        spread, what = MEASURED_SPREAD, "a few timed layers"
    else:
        spread, what = ASSUMED_SPREAD, f"an assumed {'GPU' if slots.gpus else 'processor'}"
    one = measured or (GPU if slots.gpus else CORE)
    times = min(1.0, slots.gpus) if slots.gpus else max(1, int(slots.cpus)) ** 0.8
    return Speed(
        maps=times * one.maps,
        attention=times * one.attention,
        layer_seconds=one.layer_seconds,
        spread=spread,
        how=f"by the model's sizes and {what}",
        shortened=slots.devices.kind in SHORTENED_ON,
    )


def untimed_forecast(
    spec: StudySpec,
    space: Space,
    tasks: Mapping[str, Task],
    sizes: Mapping[str, TextSizes],
    speed: Speed,
    taught: Sequence[Params] = (),
) -> Forecast:
    """Returns the forecast of a study of which nothing was timed.

    Args:
        space: the request's space on its backbone.
        sizes: of each task, the examples that are used, and their tokens.
        speed: that of a trial's device.
        taught: the points of the recorded curves that each task's search tries.
    """
    planned = PlanFacts.expected(spec, methods=len(space.methods), text_to_text=space.geometry.text_to_text)
    cost, drawn = StepCost(space.geometry, speed), space.sample[:: ceil(len(space.sample) / POINTS)]
    both = {
        stores: StudyPasses.of(space, drawn, taught, stores=stores, shortened=speed.shortened)
        for stores in (False, True)
    }
    return Forecast(
        tasks={name: _of_task(spec, planned, tasks[name], sizes[name], both, cost) for name in spec.tasks},
        planned=planned,
    )


def _of_task(
    spec: StudySpec,
    planned: PlanFacts,
    task: Task,
    size: TextSizes,
    both: Mapping[bool, StudyPasses],
    cost: "StepCost",
) -> TaskForecast:
    """Returns the forecast of a task; `both` are the passes with and without stored states."""
    rows, schedule = middle(spec.domains()["batch_size"]), spec.schedule.of(task.name, size.train)
    train, judged, tested = (_load(size, count, rows) for count in (size.train, size.validation, size.test))
    room = 1e9 * spec.resources.stored_states_gb / (STATE_BYTES * cost.width * size.tokens)
    fits = size.train + size.validation <= room and schedule.total_examples >= schedule.examples_per_epoch
    passes, new = both[fits], task.generation.max_new_tokens if task.generation else 0
    writing = {part: cost.writing(getattr(size, part), new) for part in compared_parts(task)}

    def parts(training: Pace, prediction: Pace) -> TrialParts:
        return TrialParts(
            epoch=training.seconds(train),
            evaluation=prediction.seconds(judged) + writing.get("validation", 0.0),
            test=prediction.seconds(tested) + writing.get("test", 0.0),
        )

    reads, whole = bool(passes.drawn.stored) and not planned.text_to_text, cost.predicting(1.0)
    head = parts(*[cost.predicting(0.0) if reads else whole] * 2)
    return TaskForecast(
        schedule=schedule,
        adapter=parts(*cost.of(passes.drawn)),
        taught=parts(*cost.of(passes.taught)) if passes.taught else None,
        dearest=parts(*cost.of(passes.most)),
        head=replace(head, epoch=0.0) if planned.text_to_text else head,
        filling=filling(
            passes,
            Counts.of(spec, planned),
            taught=planned.taught if passes.taught else 0,
            once=whole.seconds(train) + whole.seconds(judged),
            tested=whole.seconds(tested),
            heads=reads,
        ),
    )


def _load(size: TextSizes, rows: int, batch_size: float) -> Load:
    return Load(steps=ceil(rows / batch_size), tokens=int(rows * size.tokens), pairs=int(rows * size.pairs))


class StepCost:
    """The paces of a training step with an adapter, and of a prediction."""

    def __init__(self, geometry: Geometry, speed: Speed) -> None:
        self._depth = sum(geometry.depths.values()) * geometry.uses
        words = 0 if geometry.writes_alone else geometry.vocabulary * geometry.width
        self._weights = max(1, geometry.parameters - words) * geometry.uses
        self.width, self._speed = geometry.width, speed

    def of(self, passes: LayerPasses) -> tuple[Pace, Pace]:
        """Returns the paces of a step with such passes, and of a prediction."""
        training = self._pace(passes.maps_forward + passes.maps_backward, passes.forward + 2 * passes.backward)
        return training, self._pace(passes.maps_forward, passes.forward)

    def predicting(self, forward: float) -> Pace:
        """Returns the pace of a prediction that passes this share of the layers."""
        return self._pace(forward, forward)

    def _pace(self, passes: float, attended: float) -> Pace:
        """Returns the pace of passes through all layers' maps, and of as many through their attention."""
        speed = self._speed
        return Pace(
            step=self._depth * speed.layer_seconds * passes / 2,
            token=2 * self._weights * passes / speed.maps,
            pair=4 * self.width * self._depth * attended / speed.attention,
        )

    def writing(self, rows: int, tokens: int) -> float:
        """Returns the seconds in which so many tokens are written for each of these rows, one after the other."""
        pace = self.predicting(1.0)
        return tokens * (ceil(rows / WRITTEN_ROWS) * pace.step + rows * pace.token)
