"""Tests that a study is foretold from the lengths of its sequences and a few timed steps."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from krona_tune.adapters.first_token_maps import left_out_of_last_layer
from krona_tune.data.tasks import TASKS, Generation
from krona_tune.search.forecast import TrialParts
from krona_tune.search.pace import Load
from krona_tune.search.startup.slots import Slots
from krona_tune.search.startup.timed_forecast import BESIDE, timed_forecast
from krona_tune.study.manifest import PlanFacts
from krona_tune.study.request.schedule import Schedule
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.train.step_times import StepTimes
from tests.search.conftest import space
from tests.search.test_pace import PACE, timed

SHORT = Schedule(examples_per_epoch=4, rungs=(4, 8), reduction=2)
EPOCH, JUDGED, TESTED = (Load(steps=2, tokens=36, pairs=4 * 81), Load(steps=1, tokens=18, pairs=3 * 36),
                         Load(steps=1, tokens=10, pairs=50))  # fmt: skip
PROBE = StepTimes(
    steps=(timed(2, 16), timed(32, 16), timed(8, 96)), forward_shares={"rte": 0.25}, pass_share=0.25, head_share=0.01
)

LAYERS = 3 - left_out_of_last_layer(space("bert", {"a_out": 2, "a_in": 2}).geometry, "krona")
"""Counts the layers of the tiny encoder that a step computes: most maps of the last one compute one token of many."""
LAST = (LAYERS - 2) / LAYERS
"""The share of it that the last layer is."""


def spec(**sections: Any) -> StudySpec:
    return StudySpec.model_validate({"model": "m", "tasks": ("rte",), **sections})


def gathered(layers: list[str], taught: Sequence[Mapping[str, Any]] = (), **training: Any) -> Any:
    """Returns what a forecast is made of: a space on a tiny encoder, texts with known lengths, two slots."""

    def table(*lengths: int) -> pa.Table:
        return pa.table({"input_ids": [[7] * length for length in lengths], "label": [0] * len(lengths)})

    of = space("bert", {"a_out": [2, 4], "a_in": [2, 4], "layers": layers}, training={"dropout": 0.0})
    work = SimpleNamespace(task=TASKS["rte"], train=table(9, 9, 9, 9), validation=table(6, 6, 6), schedule=SHORT)
    plan = {
        "space": of,
        "source": SimpleNamespace(config={}),
        "geometry": of.geometry,
        "planned": PlanFacts(taught=len(taught)),
        "taught_points": taught,
    }
    return SimpleNamespace(
        plan=SimpleNamespace(spec=spec(training={"batch_size": 2, **training}), **plan),
        prepared=SimpleNamespace(works={"rte": work}, tests={"rte": table(5, 5)}),
        slots=Slots(cpus=1, gpus=0, count=1),
    )


def test_a_forecast_is_made_of_the_lengths_that_the_study_has() -> None:
    probe = replace(PROBE, head_share=None)
    found = timed_forecast(gathered(["all"]), probe).tasks["rte"]
    assert timed_forecast(gathered(["all"], batch_size={"low": 1, "high": 4, "log": True}), probe).tasks["rte"] == found
    assert found.adapter == TrialParts(
        epoch=pytest.approx(PACE.seconds(EPOCH)),
        evaluation=pytest.approx(0.25 * PACE.seconds(JUDGED)),
        test=pytest.approx(0.25 * PACE.seconds(TESTED)),
    )
    assert found.head == replace(found.adapter, epoch=pytest.approx(found.adapter.epoch / 4))
    two = gathered(["all"])
    two.slots = Slots(cpus=1, gpus=0, count=2)
    assert timed_forecast(two, probe).tasks["rte"].adapter.epoch == pytest.approx(BESIDE * found.adapter.epoch)
    untested = gathered(["all"])
    untested.prepared.tests = {}
    without = timed_forecast(untested, probe).tasks["rte"]
    assert without.adapter == without.dearest == replace(found.adapter, test=0.0)
    assert without.head == replace(found.head, test=0.0)


def test_what_is_stored_is_computed_once_and_then_spared() -> None:
    """Of three layers the last one is adapted, whose step was timed; what it passes below is spared."""
    whole, last = (timed_forecast(gathered([layers]), PROBE).tasks["rte"] for layers in ("all", "last 1"))
    timed_whole = PACE.seconds(EPOCH)
    assert whole.adapter.epoch == pytest.approx(timed_whole)
    assert last.adapter.epoch == pytest.approx((0.25 * LAST + 0.75) * timed_whole)
    assert (last.adapter.evaluation, last.adapter.test) == pytest.approx(
        (whole.adapter.evaluation * LAST, whole.adapter.test * LAST)
    )
    assert last.head.epoch == pytest.approx(0.01 * timed_whole)
    once = 0.25 * timed_whole + whole.adapter.evaluation
    assert whole.filling == {"baseline": pytest.approx(once), "search": 0.0, "finalist": 0.0}  # there are no finals
    assert last.filling["search"] == pytest.approx(2 / 3 * once)


def test_taught_points_are_timed_and_drawn_ones_by_a_usual_step() -> None:
    """The usual point has adapters in all layers, the taught one in the last: half of those drawn have either."""
    both, step = gathered(["all", "last 1"]), PACE.seconds(EPOCH)
    last = next(point for point in both.plan.space.sample if point["layers"] == "last 1")
    found = timed_forecast(gathered(["all", "last 1"], [last]), replace(PROBE, usual_share=1.5)).tasks["rte"]
    assert found.taught == timed_forecast(gathered(["last 1"]), PROBE).tasks["rte"].adapter
    share = fmean(point["layers"] == "last 1" for point in both.plan.space.sample)
    passed = 1 - share * 2 / LAYERS
    assert found.adapter.epoch == pytest.approx((0.25 * passed + 1.25 * passed) * step)
    assert found.adapter.evaluation == pytest.approx(0.25 * passed * PACE.seconds(JUDGED))
    assert found.dearest
    assert found.dearest.epoch == pytest.approx(1.5 * step), "with adapters in all layers"


def test_what_is_written_takes_no_part_in_a_step_and_is_spared_by_no_stored_states() -> None:
    """Writing answers takes eight steps, which says nothing of a step's pass forward."""
    of, probe = gathered(["last 1"]), replace(PROBE, forward_shares={"rte": 8.0})
    work = of.prepared.works["rte"]
    for evaluate, judged in (("generate", 8.0), ("loss", 8.0 * LAST)):
        writes = Generation(prompt="{text}", evaluate=evaluate, max_new_tokens=4)
        work.task = replace(TASKS["rte"], labels=(), metrics=("exact_match",), generation=writes)
        found = timed_forecast(of, probe).tasks["rte"]
        assert found.adapter.epoch == pytest.approx((0.25 * LAST + 0.75) * PACE.seconds(EPOCH))
        assert found.adapter.evaluation == pytest.approx(judged * PACE.seconds(JUDGED))
        assert found.adapter.test == pytest.approx(8.0 * PACE.seconds(TESTED))
        assert found.filling["baseline"] == pytest.approx(0.25 * PACE.seconds(EPOCH) + 0.25 * PACE.seconds(JUDGED))


def test_a_model_that_answers_with_text_has_no_head_to_train() -> None:
    of, probe = gathered(["all"]), replace(PROBE, head_share=None)
    head = timed_forecast(of, probe).tasks["rte"].head
    assert head.epoch == pytest.approx(0.25 * PACE.seconds(EPOCH))
    of.plan.geometry = replace(of.plan.geometry, text_to_text=True)
    assert timed_forecast(of, probe).tasks["rte"].head == replace(head, epoch=0.0)


@pytest.mark.parametrize("why", ["less than an epoch", "a convolution", "no room"])
def test_where_no_states_are_stored_all_layers_are_passed(why: str) -> None:
    of = gathered(["last 1"])
    if why == "less than an epoch":
        of.prepared.works["rte"].schedule = Schedule(examples_per_epoch=4, rungs=(2,), reduction=2)
    elif why == "a convolution":
        of.plan.source.config["conv_kernel_size"] = 3
    else:
        of.plan.spec = spec(training={"batch_size": 2}, resources={"stored_states_gb": 0})
    found = timed_forecast(of, PROBE).tasks["rte"]
    assert found.adapter.epoch == pytest.approx(PACE.seconds(EPOCH))
    assert found.head.epoch == pytest.approx(0.25 * PACE.seconds(EPOCH))
    assert not any(found.filling.values())
