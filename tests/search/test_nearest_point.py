"""Tests which point of a space is nearest to a point of another space, on another backbone too."""

from typing import Any

import pytest

from krona_tune.adapters.placement import sites
from krona_tune.backbones.find_geometry import geometry
from krona_tune.kron.factors import effective_scale, factor_shape, first_step
from krona_tune.record.recorded_curves import BACKBONE
from krona_tune.search.planning.nearest_point import RateRule, nearest_point
from krona_tune.search.planning.space import DRAWS, Space, adapter_of
from tests.models import build
from tests.search.conftest import space

BERT = build("bert")[0]
DRAWN: dict[str, Any] = {
    "a_out": "divisors",
    "a_in": "divisors",
    "terms": [1, 2],
    "scale": {"low": 0.01, "high": 64.0, "log": True},
    "roles": ["query+value", "value+output", "query+key+value+output"],
    "layers": ["all", "last 1"],
}
OTHER: dict[str, Any] = {
    "method": "krona", "a_out": 4, "a_in": 6, "terms": 2, "scale": 2.0, "scaling": "stable", "init": "krona",
    "roles": "value+output", "layers": "last 1", "learning_rate": 0.004, "batch_size": 16, "stacks": "encoder+decoder",
}  # fmt: skip


def wide(**adapter: Any) -> Space:
    rates = {"low": 1e-5, "high": 1.0, "log": True}
    return space("bert", {**DRAWN, **adapter}, training={"learning_rate": rates, "batch_size": [8, 32]})


def of_first_map(params: dict[str, Any]) -> tuple[float, float]:
    """Returns what the sum is multiplied by, and how far the first step moves the first adapted map."""
    adapter = adapter_of(params)
    first = sites(BERT, adapter)[0]
    shape = factor_shape(first.d_out, first.d_in, adapter.a_out, adapter.a_in, adapter.terms)
    moved = first_step(shape, adapter.init, adapter.scale, adapter.scaling) * params["learning_rate"]
    return effective_scale(shape, adapter.scale, adapter.scaling), moved


def test_what_a_space_allows_stays_and_what_it_lacks_is_kept_in_effect() -> None:
    near = nearest_point(wide(), OTHER, BERT)
    assert near is not None
    kept = ("a_out", "a_in", "terms", "roles", "layers")
    assert {name: near[name] for name in kept} == {name: OTHER[name] for name in kept}
    assert near["scaling"] == "plain"
    assert near["scale"] == pytest.approx(2.0 / (2 * 6) ** 0.5)
    assert near["learning_rate"] == pytest.approx(0.004)
    assert near["batch_size"] == 8
    assert of_first_map(near) == pytest.approx(of_first_map(OTHER))


@pytest.mark.parametrize(
    ("shorter", "batch", "faster"),
    [(None, 32, 1.0), (1.0, 16, 1.0), (2.0, 16, 2**0.5), (1.0, 32, 2**0.5), (30.0, 16, 3**0.5), (0.1, 16, 1.0)],
)
def test_with_fewer_steps_a_learning_rate_is_greater_within_a_limit(
    shorter: float | None, batch: int, faster: float
) -> None:
    rates = {"low": 1e-5, "high": 1.0, "log": True}
    of = space("bert", DRAWN, training={"learning_rate": rates, "batch_size": batch})
    near = nearest_point(of, OTHER, BERT, RateRule(seen=shorter and 600 / shorter), 600)
    assert near is not None
    assert near["learning_rate"] == pytest.approx(0.004 * faster)


def test_a_learning_rate_makes_up_for_a_scale_that_is_fixed() -> None:
    near = nearest_point(wide(scale=4.0), OTHER, BERT)
    assert near is not None
    assert near["scale"] == 4.0
    assert of_first_map(near)[1] == pytest.approx(of_first_map(OTHER)[1])


@pytest.mark.parametrize(("layers", "kept", "times"), [("last 1", "all", 1 / 3), ("all", "last 1", 1.0)])
def test_a_learning_rate_shrinks_as_more_layers_are_adapted(layers: str, kept: str, times: float) -> None:
    of, other = wide(layers=kept), {**OTHER, "layers": layers}
    before, near = (nearest_point(of, other, BERT, RateRule(by_depth=deep)) for deep in (False, True))
    assert before is not None
    assert near is not None
    assert (before["layers"], before["learning_rate"]) == (kept, pytest.approx(0.004))
    assert near == {**before, "learning_rate": pytest.approx(times * 0.004)}


def test_a_layer_that_is_used_several_times_counts_as_often() -> None:
    rates = {"low": 1e-5, "high": 1.0, "log": True}
    of = space("albert", {**DRAWN, "layers": "all"}, training={"learning_rate": rates})
    before, near = (nearest_point(of, OTHER, BERT, RateRule(by_depth=deep)) for deep in (False, True))
    assert before is not None
    assert near is not None
    assert of.geometry.uses > 1
    assert near["learning_rate"] == pytest.approx(before["learning_rate"] / of.geometry.uses)


def test_a_learning_rate_stays_where_more_layers_of_a_decoder_are_adapted() -> None:
    rates = {"low": 1e-5, "high": 1.0, "log": True}
    of = space("llama", {**DRAWN, "layers": "all"}, training={"learning_rate": rates})
    before, near = (nearest_point(of, OTHER, BERT, RateRule(by_depth=deep)) for deep in (False, True))
    assert near == before is not None


def test_sizes_are_shares_of_the_map_and_layers_of_the_depth() -> None:
    twice = geometry(
        {**BACKBONE, "hidden_size": 2 * BERT.width, "num_hidden_layers": 2 * BERT.depths[BERT.first_stack]}
    )
    near = nearest_point(wide(), {**OTHER, "a_out": 8, "a_in": 12, "layers": "last 2"}, twice)
    assert near is not None
    assert (near["a_out"], near["a_in"], near["layers"]) == (4, 6, "last 1")


def test_values_that_do_not_fit_together_give_the_nearest_that_do() -> None:
    own = wide(a_out=1, a_in=[1, 6])
    assert not own.feasible({**(nearest_point(own, OTHER, BERT) or {}), "a_in": 1, "terms": 2})
    near = nearest_point(own, {**OTHER, "a_out": 2, "a_in": 1}, BERT)
    assert near is not None
    assert own.holds(near)
    assert near["roles"] == "value+output"


def test_the_points_that_fit_are_drawn_once_for_all_and_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    own, other, drawn = wide(a_out=1, a_in=[1, 6]), {**OTHER, "a_out": 2, "a_in": 1}, [0]
    draw = Space.draw

    def counted(of: Space, *asked: Any) -> dict[str, Any]:
        drawn[0] += 1
        return draw(of, *asked)

    monkeypatch.setattr(Space, "draw", counted)
    first = nearest_point(own, other, BERT)
    once, kept = drawn[0], [dict(point) for point in own.points_of("krona")]
    assert once >= DRAWS
    assert nearest_point(own, {**other, "scale": 0.5, "learning_rate": 0.02}, BERT) != first
    assert nearest_point(own, other, BERT) == first
    assert (drawn[0], own.points_of("krona")) == (once, kept)


@pytest.mark.parametrize(
    ("of", "params"),
    [
        pytest.param(space("bert", {"method": "lora", "rank": [1, 2]}), OTHER, id="the method is not there"),
        pytest.param(space("bert", {"a_out": 4, "a_in": 6}), OTHER, id="nothing is searched"),
        pytest.param(wide(), {**OTHER, "a_out": 5}, id="a point that its own backbone can't have"),
        pytest.param(wide(), {**OTHER, "roles": "cross_query"}, id="a point without a site"),
    ],
)
def test_there_is_no_point_where_nothing_is_shared(of: Space, params: dict[str, Any]) -> None:
    assert nearest_point(of, params, BERT) is None
