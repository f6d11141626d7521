"""Forecasts a study from the lengths of its sequences and a few timed steps."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from krona_tune.adapters.first_token_maps import SHORTENED_ON
from krona_tune.adapters.placement import why_nothing_is_stored
from krona_tune.data.batches import evaluation_order, lengths, training_order
from krona_tune.data.own_task import compared_parts
from krona_tune.search.forecast import Forecast, TaskForecast, TrialParts, filling
from krona_tune.search.layer_passes import STATE_BYTES, LayerPasses, StudyPasses, layer_passes, timed_points
from krona_tune.search.pace import Load, Pace, middle
from krona_tune.search.planning.plan import Plan
from krona_tune.search.startup.begin_study import Resources
from krona_tune.study.study_state import Counts
from krona_tune.train.evaluate import EVALUATION_TOKENS
from krona_tune.train.hidden_states import stored_bytes
from krona_tune.train.loop import TaskWork
from krona_tune.train.step_times import StepTimes

BESIDE = 1.1
"""How many times longer a step takes on a processor beside another trial than alone: .95 to 1.23 in 16 studies."""


def timed_forecast(resources: Resources, probe: StepTimes) -> Forecast:
    """Returns the forecast for a study's data, batch size and schedules, at the pace that the probe measured."""
    plan, slots, tests = resources.plan, resources.slots, resources.prepared.tests
    pace = Pace.of(probe.steps, BESIDE if slots.count > 1 and not slots.gpus else 1.0)
    most = EVALUATION_TOKENS["cuda" if slots.gpus else "cpu"]
    works = resources.prepared.works
    stores = {task: _stores(plan, work) for task, work in works.items()}
    shortened = slots.devices.kind in SHORTENED_ON
    passes = {
        each: StudyPasses.of(plan.space, plan.space.sample, plan.taught_points, stores=each, shortened=shortened)
        for each in set(stores.values())
    }
    points = timed_points(plan.space, plan.taught_points)
    timed = [layer_passes(plan.space, [points[place]], stores=False, shortened=shortened) for place in (0, -1)]
    return Forecast(
        tasks={
            task: _of_task(plan, work, tests.get(task), pace, most, probe, timed, passes[stores[task]], stores[task])
            for task, work in works.items()
        },
        planned=plan.planned,
    )


def _of_task(
    plan: Plan,
    work: TaskWork,
    test: pa.Table | None,
    pace: Pace,
    most: int,
    probe: StepTimes,
    timed_passes: Sequence[LayerPasses],
    passes: StudyPasses,
    stores: bool,
) -> TaskForecast:
    """Returns the forecast of a task.

    Args:
        most: how many tokens are evaluated together.
        timed_passes: those of the point whose steps were timed, and of the usual one.
        stores: whether its trials read stored states, as `passes` say.
    """
    task, train = work.task.name, lengths(work.train)
    batches = training_order(train, round(middle(plan.spec.domains()["batch_size"])), np.random.default_rng(0))
    epoch = pace.seconds(Load.of(batches, train))
    judged, tested = (_evaluating(table, pace, most) for table in (work.validation, test))
    judging = probe.forward_shares[task]
    whole = TrialParts(epoch=epoch, evaluation=judging * judged, test=probe.test_shares.get(task, judging) * tested)
    first, usual = timed_passes
    writes = compared_parts(work.task)

    def trial(of: LayerPasses, timed: LayerPasses, step: float) -> TrialParts:
        """Returns the parts of trials with such passes; of those `timed` a step takes this share of a timed step."""
        forward = of.maps_forward / timed.maps_forward
        backward = of.maps_backward / timed.maps_backward if timed.maps_backward else 1.0
        return TrialParts(
            epoch=epoch * (probe.pass_share * forward + (step - probe.pass_share) * backward),
            evaluation=whole.evaluation * (1.0 if "validation" in writes else forward),
            test=whole.test * (1.0 if "test" in writes else forward),
        )

    reads = probe.head_share if stores else None
    if reads is not None:
        head = TrialParts(epoch=reads * epoch, evaluation=reads * judged, test=reads * tested)
    else:  # a model that answers with text has none to train
        head = TrialParts(
            epoch=0.0 if plan.geometry.text_to_text else probe.pass_share * epoch,
            evaluation=whole.evaluation,
            test=whole.test,
        )
    return TaskForecast(
        schedule=work.schedule,
        adapter=trial(passes.drawn, usual, probe.usual_share),
        taught=trial(passes.taught, first, 1.0) if passes.taught else None,
        dearest=trial(passes.most, usual, probe.usual_share),
        head=head,
        filling=filling(
            passes,
            Counts.of(plan.spec, plan.planned),
            taught=plan.planned.taught,
            once=probe.pass_share * (epoch + judged),
            tested=probe.pass_share * tested,
            heads=reads is not None,
        ),
    )


def _evaluating(table: pa.Table | None, pace: Pace, most: int) -> float:
    """Returns the seconds of steps over the batches in which a table is evaluated; 0 without one."""
    if table is None:
        return 0.0
    return pace.seconds(Load.of(evaluation_order(lengths(table), most), lengths(table)))


def _stores(plan: Plan, work: TaskWork) -> bool:
    """Returns whether what enters the layers above those that stay frozen is computed once for all trials of a task."""
    size = stored_bytes((work.train, work.validation), plan.geometry.width, STATE_BYTES)
    return (
        not why_nothing_is_stored(plan.geometry, plan.source.config)
        and work.schedule.total_examples >= work.schedule.examples_per_epoch
        and size <= plan.spec.resources.stored_states_gb * 1e9
    )
