"""Tests that a drawn point fits the backbone and is a trial, and which points are feasible."""

import random
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from krona_tune.adapters.placement import count
from krona_tune.backbones.geometry import Geometry
from krona_tune.search.planning.resolved_space import resolve
from krona_tune.search.planning.space import Space
from krona_tune.search.trial_message import TrialMessage
from tests.models import STORING, build
from tests.search.conftest import space, spec

WIDE = {
    "method": ["krona", "krona_b", "krona_b_res"],
    "a_out": "divisors",
    "a_in": {"divisors": {"low": 2}},
    "scale": {"low": 0.25, "high": 16, "log": True},
    "roles": ["query", "query+value", "output+feed_forward_in", "feed_forward_out"],
    "layers": ["all", "last 2", "every other", "0"],
    "layer_norms": [False, True],
}


@cache
def shape_of(name: str) -> Geometry:
    return build(name)[0]


@cache
def wide(name: str) -> Space:
    training = {"batch_size": {"low": 4, "high": 16, "step": 4}, "dropout": {"low": 0.0, "high": 0.5}}
    return resolve(spec(WIDE, training), shape_of(name), "x.yaml")


@settings(max_examples=60)
@given(
    name=st.sampled_from(["bert", "t5", "t5 gated", "umt5", "distilbert", "deberta", "deberta-v3"]), seed=st.integers()
)
def test_every_drawn_point_fits_the_backbone_and_is_a_trial(name: str, seed: int) -> None:
    point = wide(name).draw(random.Random(seed))
    made = TrialMessage("rte-000", "rte", 0, "search", 3, point).checked()
    counted = count(shape_of(name), made.adapter, outputs=2)
    assert counted.adapter > 0
    assert counted.adapter + counted.norms == wide(name).parameters(point)
    assert made.training.batch_size in {4, 8, 12, 16}
    assert 0 <= (made.training.dropout or 0) <= 0.5
    assert 0.25 <= made.adapter.scale <= 16


@pytest.mark.parametrize("name", STORING)
def test_every_family_has_a_space(name: str) -> None:
    assert wide(name).feasible_share() == 1
    assert {label.split(" of ")[0] for label in wide(name).searched()} == {*WIDE, "batch_size", "dropout"}


def test_a_draw_reaches_all_choices_and_spreads_a_logarithmic_range() -> None:
    rng = random.Random(0)
    points = [wide("bert").draw(rng) for _ in range(400)]
    krona = [point for point in points if point["method"] == "krona"]
    assert {point["a_out"] for point in points} == set(wide("bert").knobs["krona_b"]["a_out"].ends())
    assert {point["roles"] for point in krona} == set(WIDE["roles"])
    below_geometric_mean = sum(point["scale"] < 2 for point in points) / len(points)
    assert 0.4 < below_geometric_mean < 0.6


def test_whole_ranges_draw_whole_numbers_between_their_ends() -> None:
    training = {"batch_size": {"low": 3, "high": 24, "log": True}, "dropout": {"low": 0.0, "high": 0.5, "step": 0.25}}
    made = resolve(spec(training=training), shape_of("bert"), "x.yaml")
    rng = random.Random(1)
    points = [made.draw(rng) for _ in range(300)]
    assert {type(point["batch_size"]) for point in points} == {int}
    assert {point["batch_size"] for point in points} <= set(range(3, 25))
    assert len({point["batch_size"] for point in points}) > 15
    assert {point["dropout"] for point in points} == {0.0, 0.25, 0.5}


def test_a_point_holds_the_knobs_that_its_method_reads_and_no_other() -> None:
    rng = random.Random(0)
    for point in (wide("bert").draw(rng) for _ in range(60)):
        assert next(iter(point)) == "method"
        assert ("roles" in point) == (point["method"] == "krona")
        assert {"layers", "a_out", "learning_rate"} <= set(point)


def test_the_terms_of_a_sum_are_counted_against_the_limit() -> None:
    made = space("bert", {"a_out": 4, "a_in": 6, "terms": [1, 4], "roles": "query"})
    points = {terms: {**made.draw(random.Random(0)), "terms": terms} for terms in (1, 4)}
    assert made.parameters(points[4]) == 4 * made.parameters(points[1]) == 4 * 3 * (24 + 24)


def test_a_limit_counts_adapters_and_layer_norms_and_not_the_head() -> None:
    limited = space("bert", {"a_out": 4, "a_in": 6, "layer_norms": [False, True]}, max_params=300)
    points = [limited.draw(random.Random(seed)) for seed in range(30)]
    cost = 3 * 2 * (4 * 6 + 6 * 4)
    assert {limited.parameters(p) for p in points} == {cost, cost + limited.geometry.norms}
    assert {limited.feasible(p) for p in points if p["layer_norms"]} == {False}
    assert {limited.feasible(p) for p in points if not p["layer_norms"]} == {True}
    assert 0.45 < limited.feasible_share() < 0.55


def test_a_point_at_the_limit_is_within_it() -> None:
    at, below = (space("bert", {"a_out": [4, 24], "a_in": 6}, max_params=limit) for limit in (24 * 6 * 6 + 24, 288))
    assert at.feasible({"method": "krona", "a_out": 4, "a_in": 6})
    assert below.feasible({"method": "krona", "a_out": 4, "a_in": 6})
    assert not below.feasible({"method": "krona", "a_out": 24, "a_in": 6})


def test_sizes_that_do_not_go_together_are_infeasible_points() -> None:
    made = space(
        "bert", {"method": ["krona", "compacter"], "a_out": 4, "a_in": 6, "phm": [2, 3, 5], "bottleneck": [4, 6]}
    )
    points = [made.draw(random.Random(seed)) for seed in range(80)]
    compacters = [point for point in points if point["method"] == "compacter"]
    assert {made.feasible(p) for p in points if p["method"] == "krona"} == {True}
    fits = {(p["phm"], p["bottleneck"]): made.feasible(p) for p in compacters}
    assert fits == {(2, 4): True, (2, 6): True, (3, 4): False, (3, 6): True, (5, 4): False, (5, 6): False}
