"""Tests what is said of a study before a step is timed: it grows with the model, the texts and the trials."""

from dataclasses import replace
from typing import Any

import pytest

from krona_tune.data.tasks import TASKS
from krona_tune.search.forecast import Forecast
from krona_tune.search.planning.resolved_space import resolve
from krona_tune.search.startup import estimate
from krona_tune.search.startup.estimate import Speed, TextSizes, speed_of, untimed_forecast
from krona_tune.search.startup.processor_speed import CoreSpeed
from krona_tune.search.startup.slots import Slots
from krona_tune.study.request.loader import build_spec
from krona_tune.study.request.study_spec import StudySpec
from tests.models import build

SHAPE = build("bert")[0]
SPEED = Speed(maps=1e9, attention=1e9, layer_seconds=1e-3, spread=2.0, how="")
SIZES = TextSizes(train=640, validation=300, test=200, tokens=20.0, pairs=500.0)


def spec(layers: str | list[str] = "all", epochs: float = 3, **training: Any) -> StudySpec:
    return build_spec(
        {
            "model": "m",
            "tasks": ["cola"],
            "adapter": {"a_out": 4, "a_in": 2, "layers": layers},
            "training": {"dropout": 0.0, "batch_size": 16, **training},
            "schedule": {"epochs": epochs},
        },
        "x.yaml",
    )


def foretold(asked: StudySpec, sizes: TextSizes = SIZES, speed: Speed = SPEED) -> Forecast:
    return untimed_forecast(asked, resolve(asked, SHAPE, "x.yaml"), TASKS, {"cola": sizes}, speed)


def seconds(of: Forecast) -> float:
    """Returns the forecast seconds of a trial that nothing stops."""
    return of.tasks["cola"].whole(of.tasks["cola"].adapter)


def test_a_trial_takes_longer_with_more_of_anything() -> None:
    usual = seconds(foretold(spec()))
    more = {
        "examples": foretold(spec(), replace(SIZES, train=1280)),
        "validation": foretold(spec(), replace(SIZES, validation=900)),
        "tokens": foretold(spec(), replace(SIZES, tokens=40.0)),
        "long texts": foretold(spec(), replace(SIZES, pairs=5_000.0)),
        "small batches": foretold(spec(batch_size=4)),
        "a slower device": foretold(spec(), speed=replace(SPEED, maps=5e8)),
    }
    assert [name for name, each in more.items() if seconds(each) <= usual] == []


def test_what_is_below_the_adapters_is_computed_once() -> None:
    assert seconds(foretold(spec("last 1"))) < seconds(foretold(spec("last 1", dropout=0.1)))


def test_taught_points_are_foretold_by_their_own_layers() -> None:
    asked = spec(["all", "last 1"])
    of = resolve(asked, SHAPE, "x.yaml")
    taught = next(point for point in of.sample if point["layers"] == "last 1")
    task = untimed_forecast(asked, of, TASKS, {"cola": SIZES}, SPEED, [taught]).tasks["cola"]
    assert task.taught == foretold(spec("last 1")).tasks["cola"].adapter
    assert task.taught.epoch < task.adapter.epoch < foretold(spec("all")).tasks["cola"].adapter.epoch


def test_the_head_alone_takes_little_where_states_are_stored() -> None:
    stored, computed = (foretold(spec("last 1", dropout=rate)).tasks["cola"] for rate in (0.0, 0.1))
    assert stored.head.epoch < 0.1 * stored.adapter.epoch
    assert stored.filling["baseline"] > 0 == computed.filling["baseline"]
    assert computed.head.epoch > stored.head.epoch


def test_states_for_which_there_is_no_room_or_no_second_epoch_are_computed_in_every_step() -> None:
    usual = foretold(spec("last 1")).tasks["cola"]
    many = foretold(spec("last 1"), replace(SIZES, train=50_000_000)).tasks["cola"]
    assert many.adapter.epoch / 50_000_000 > 1.2 * usual.adapter.epoch / SIZES.train
    short = foretold(spec("last 1", epochs=0.5)).tasks["cola"]
    assert short.adapter.epoch > 1.2 * usual.adapter.epoch
    assert not any(short.filling.values())


def test_the_speed_of_cores_is_measured_in_a_trials_precision_and_that_of_a_gpu_assumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured = {True: 3e11, False: 1e11}
    monkeypatch.setattr(
        estimate,
        "core_speed",
        lambda *, bfloat16: CoreSpeed(maps=measured[bfloat16], attention=5e10, layer_seconds=1e-3),
    )
    one, four = (speed_of(Slots(cpus=cpus, gpus=0, count=1), 4) for cpus in (1, 4))
    assert (one.maps, speed_of(Slots(cpus=1, gpus=0, count=1), 2).maps) == (1e11, 3e11)
    assert (four.maps, four.attention) == pytest.approx((4**0.8 * one.maps, 4**0.8 * one.attention))
    assert four.layer_seconds == one.layer_seconds
    assert "timed layers" in one.how == four.how
    whole, half = (speed_of(Slots(cpus=1, gpus=gpus, count=1), 2) for gpus in (1, 0.5))
    assert whole.maps == 2 * half.maps
    assert "assumed GPU" in whole.how
    assert whole.spread > one.spread
    monkeypatch.setattr(estimate, "core_speed", lambda *, bfloat16: None)
    assumed = speed_of(Slots(cpus=1, gpus=0, count=1), 4)
    assert "assumed processor" in assumed.how
    assert assumed.spread > one.spread
