"""Tests that a trial's step passes no layers whose outputs are stored, and which point is timed."""

from dataclasses import replace
from typing import Any

import pytest

from krona_tune.adapters.first_token_maps import left_out_of_last_layer
from krona_tune.search.layer_passes import LayerPasses, StudyPasses, layer_passes, timed_points, usual_point
from krona_tune.search.planning.space import Space
from tests.search.conftest import space

DEPTH = 3
"""The layers of the tiny BERT."""


def of_layers(*layers: str, dropout: float = 0.0) -> Space:
    return space("bert", {"a_out": [2, 4], "a_in": [2, 4, 6], "layers": list(layers)}, training={"dropout": dropout})


@pytest.mark.parametrize(
    ("layers", "dropout", "stores", "forward", "backward"),
    [
        ("all", 0.0, True, 1.0, 1.0),
        ("last 1", 0.0, True, 1 / DEPTH, 1 / DEPTH),
        ("last 1", 0.0, False, 1.0, 1 / DEPTH),
        ("last 1", 0.1, True, 1.0, 1 / DEPTH),
    ],
)
def test_what_is_below_the_adapters_is_computed_once_and_needs_no_gradients(
    layers: str, dropout: float, stores: bool, forward: float, backward: float
) -> None:
    of = of_layers(layers, dropout=dropout)
    found = layer_passes(of, of.sample, stores=stores)
    assert (found.forward, found.backward) == pytest.approx((forward, backward))
    assert sum(depth * share for depth, share in found.stored.items()) == pytest.approx(1 - forward)


def test_a_shortened_last_layer_is_passed_in_part_wherever_it_is_computed() -> None:
    of = of_layers("all", "last 1")
    whole, last = (next(p for p in of.sample if p["layers"] == layers) for layers in ("all", "last 1"))
    left = left_out_of_last_layer(of.geometry, "krona")
    assert 0.5 < left < 1
    short = [layer_passes(of, [point], stores=True, shortened=True) for point in (whole, last)]
    full = [layer_passes(of, [point], stores=True) for point in (whole, last)]
    for one, other in zip(short, full, strict=True):
        assert one == replace(other, spared=(left / DEPTH, left / DEPTH))
        assert one.maps_forward == pytest.approx(other.maps_forward - left / DEPTH)
        assert one.maps_backward == pytest.approx(other.backward - left / DEPTH)
    both = layer_passes(of, [whole, {**last, "method": "peft:LoRA"}], stores=True, shortened=True)
    assert both.spared == pytest.approx((left / DEPTH / 2, left / DEPTH / 2))
    head = layer_passes(of, [{**last, "method": "head_only"}], stores=True, shortened=True)
    assert head.maps_forward == head.maps_backward == 0
    decoder = space("llama", {"a_out": 2, "a_in": 2}, training={"dropout": 0.0})
    assert layer_passes(decoder, decoder.sample, stores=True, shortened=True).spared == (0, 0)


def test_the_passes_of_several_points_are_their_mean() -> None:
    of = of_layers("all", "last 1")
    whole, last = (next(p for p in of.sample if p["layers"] == layers) for layers in ("all", "last 1"))
    both = StudyPasses.of(of, [whole, last, last], [last], stores=True)
    assert both.drawn.forward == both.drawn.backward == pytest.approx((1 + 2 / DEPTH) / 3)
    assert both.drawn.stored == pytest.approx({2 / DEPTH: 2 / 3})
    assert both.taught == layer_passes(of, [last], stores=True)
    assert both.most == layer_passes(of, [whole], stores=True)
    assert StudyPasses.of(of, [whole], [], stores=True).taught is None


def test_states_are_filled_once_for_each_depth_that_some_trial_needs() -> None:
    drawn = LayerPasses(forward=0.5, backward=0.5, stored={0.5: 0.5, 0.75: 0.25})
    alone = StudyPasses(drawn=drawn, most=drawn)
    assert [alone.filled(trials, 0) for trials in (0, 1, 1_000)] == pytest.approx([0, 0.25 + 0.1875, 1.25])
    assert alone.filled(2, 0) == pytest.approx(0.5 * 0.75 + 0.75 * (1 - 0.75**2))
    both = StudyPasses(drawn=drawn, most=drawn, taught=LayerPasses(forward=0.25, backward=0.25, stored={0.75: 1.0}))
    assert [both.filled(0, 1), both.filled(1_000, 1)] == pytest.approx([0.75, 1.25])


@pytest.mark.parametrize("trained", [{"layer_norms": True}, {"method": "bitfit"}])
def test_gradients_pass_below_the_adapters_where_something_is_trained_there(trained: dict[str, Any]) -> None:
    of = space("bert", {"a_out": 2, "a_in": 2, "layers": "last 1", **trained}, training={"dropout": 0.0})
    found = layer_passes(of, of.sample, stores=True)
    assert (found.forward, found.backward) == (1.0, 1.0)


@pytest.mark.parametrize(("layers", "usual"), [(["all", "last 1"], "all"), (["last 1"], "last 1"), (["all"], "all")])
def test_the_usual_point_trains_about_as_many_layers_as_the_mean(layers: list[str], usual: str) -> None:
    of = of_layers(*layers)
    assert usual_point(of)["layers"] == usual
    assert of.feasible(usual_point(of))


def test_the_first_taught_point_is_timed_and_a_usual_one() -> None:
    of = of_layers("all", "last 1")
    taught = of.sample[:2]
    assert timed_points(of, taught) == (taught[0], usual_point(of))
    assert timed_points(of, ()) == (usual_point(of),)
