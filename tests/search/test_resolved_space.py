"""Tests that a request is resolved on a backbone, with its sizes, limits and methods, or is refused."""

import random
from typing import Any

import pytest

from krona_tune.adapters.placement import sites
from krona_tune.refusal import Refusal
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.request.domain import Choice, Fixed, Range
from tests.models import build
from tests.search.conftest import space

RIVALS = {"method": ["krona", "compacter", "bitfit"], "a_out": 4, "a_in": 6, "phm": [2, 3, 5], "bottleneck": [4, 6]}


def test_divisors_become_the_divisors_common_to_every_adapted_site() -> None:
    domains = space("bert", {"roles": ["query", "feed_forward_in"], "a_out": "divisors", "a_in": "divisors"}).knobs[
        "krona"
    ]
    assert domains["a_out"] == Choice((1, 2, 4, 8))
    assert domains["a_in"] == Choice((1, 2, 3, 4, 6, 8, 12, 24))
    domains = space("t5", {"roles": "query+output", "a_out": "divisors", "a_in": {"divisors": {"low": 4}}}).knobs[
        "krona"
    ]
    assert (domains["a_out"], domains["a_in"]) == (Choice((1, 2, 4)), Fixed(4))


def test_each_methods_sizes_divide_its_own_sites() -> None:
    adapter = {"method": ["krona", "krona_b"], "roles": "feed_forward_in", "a_out": "divisors", "a_in": "divisors"}
    made = space("bert", adapter)
    assert made.knobs["krona"]["a_out"] == Choice((1, 2, 4, 5, 8, 10, 20, 40))
    assert made.knobs["krona_b"]["a_out"] == Choice((1, 2, 3, 4, 6, 8, 12, 24))
    assert set(made.searched()) == {"method", "a_out", "a_out of krona_b", "a_in"}


def test_a_knob_that_no_method_reads_is_not_searched() -> None:
    made = space("bert", {"method": "krona_b", "roles": ["query", "value"], "scale": [1, 2]})
    assert set(made.searched()) == {"scale"}


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (
            {"a_out": 7},
            "x.yaml: adapter.a_out: a_out 7 does not divide 24, common to all adapted weights; divisors: 1, 2,",
        ),
        (
            {"a_in": [8, 9]},
            "x.yaml: adapter.a_in: a_in 9 does not divide 24, common to all adapted weights; divisors: 1",
        ),
        (
            {"roles": ["query", "feed_forward_in"], "a_out": 12},
            "a_out 12 does not divide 8, common to all adapted weights; divisors: 1, 2, 4, 8",
        ),
        ({"a_out": {"low": 2, "high": 8}}, "a range of sizes holds some that do not divide; write divisors, or a list"),
        (
            {"a_out": {"divisors": {"low": 13, "high": 23}}},
            "adapter.a_out: no divisor of 24 within the limits; divisors: 1",
        ),
        ({"layers": ["all", "last 4"]}, "x.yaml: adapter.layers: 'last 4' of a stack of 3 layers; ask for 1 to 3"),
        ({"layers": "0,3"}, "x.yaml: adapter.layers: '0,3' asks for layer 3; the stack has 0 to 2"),
        (
            {"roles": ["query", "cross_query"]},
            "x.yaml: adapter: roles cross_query, stacks encoder+decoder, layers all: no",
        ),
        ({"stacks": "decoder"}, "no such site in this bert; its roles are feed_forward_in, feed_forward_out, key"),
        (
            {"method": "bitfit", "init": "cdka"},
            "x.yaml: adapter.init: none of bitfit reads it; leave it out",
        ),
        (
            {"method": ["lora", "lokr"], "scaling": "stable"},
            "x.yaml: adapter.scaling: none of lora, lokr reads it; leave",
        ),
        ({"scaling": "rs"}, "scaling: 'rs' is refused"),
        ({"terms": 0}, "terms: 0 is refused"),
        (
            {"a_out": [1, 2], "a_in": 2, "terms": {"low": 1, "high": 9}},
            "x.yaml: adapter.terms: 9 terms: 4 reach every matrix in any offered shape; write 4 or less",
        ),
        ({"method": "kronna"}, "x.yaml: adapter.method: unknown method 'kronna', did you mean 'krona'?"),
        (
            {"method": ["krona", "head_only"]},
            "adapter.method: head_only has nothing to search; it is run as the baseline",
        ),
    ],
)
def test_what_does_not_fit_the_backbone_is_refused(adapter: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal) as refused:
        space("bert", adapter)
    assert message in str(refused.value)


def test_more_terms_than_the_shapes_hold_are_infeasible_points_or_refused() -> None:
    made = space("bert", {"a_out": [2, 12], "a_in": 2, "terms": [1, 8, 24]})
    points = [made.draw(random.Random(seed)) for seed in range(80)]
    fits = {(p["a_out"], p["terms"]): made.feasible(p) for p in points}
    assert fits == {(2, 1): True, (2, 8): False, (2, 24): False, (12, 1): True, (12, 8): True, (12, 24): True}
    with pytest.raises(Refusal, match=r"x.yaml: methods.krona.terms: 8 terms: 4 reach every matrix"):
        space("bert", {"a_out": 2, "a_in": 2}, {"krona": {"terms": 8}})


def test_a_layer_that_one_of_two_stacks_lacks_is_refused() -> None:
    with pytest.raises(Refusal, match="'last 3' of a stack of 2 layers"):
        space("t5", {"layers": "last 3"})
    decoder = space("t5", {"layers": "last 3", "stacks": "decoder"})
    point = decoder.draw(random.Random(0))
    adapter = TrialMessage("t", "rte", 0, "search", 1, point).checked().adapter
    assert {site.layer for site in sites(decoder.geometry, adapter)} == {0, 1, 2}


def test_the_limit_is_a_number_or_a_share_of_the_backbone() -> None:
    shape = build("bert")[0]
    small = {"a_out": 4, "a_in": 6}
    assert space("bert", small, max_params="5_00").limit == 500
    assert space("bert", small, max_params="2.5%").limit == int(shape.parameters * 0.025)
    assert space("bert").limit is None


def test_a_limit_below_everything_is_refused_with_the_least_cost() -> None:
    with pytest.raises(Refusal) as refused:
        space("bert", {"a_out": [4, 6], "a_in": [4, 6]}, max_params=287)
    assert str(refused.value) == (
        "x.yaml: search.max_params: 287 allows 287 parameters, krona's smallest adapter drawn has 288; "
        "raise --max-params, or offer cheaper sizes or fewer sites"
    )


def test_a_range_stays_a_range() -> None:
    domains = space("bert", {"scale": {"low": 0.5, "high": 8, "log": True}}).knobs["krona"]
    assert domains["scale"] == Range(0.5, 8, True)


def test_a_method_reads_its_own_knobs_in_its_own_domains() -> None:
    own = {"bitfit": {"learning_rate": {"low": 1e-4, "high": 1e-3, "log": True}, "layers": ["all", "last 1"]}}
    made = space("bert", RIVALS, own)
    assert made.knobs["bitfit"]["learning_rate"] == Range(1e-4, 1e-3, True)
    assert made.knobs["krona"]["learning_rate"] == Fixed(3e-3)
    assert set(made.searched()) == {"method", "phm", "bottleneck", "learning_rate of bitfit", "layers of bitfit"}
    assert made.of("krona").searched() == {}
    assert made.of("bitfit").methods == ("bitfit",)


@pytest.mark.parametrize(
    ("adapter", "methods", "message"),
    [
        ({"method": "compacter", "phm": 5}, {}, "x.yaml: compacter: adapter: phm 5 does not divide 24"),
        (RIVALS, {"bitfit": {"a_out": 2}}, "x.yaml: methods.bitfit.a_out: bitfit does not read it; it reads layer_"),
        (RIVALS, {"bitfit": {"learning_rat": 2}}, "x.yaml: methods.bitfit: unknown key 'learning_rat', did you mean"),
        (RIVALS, {"bitfit": {"method": "krona"}}, "x.yaml: methods.bitfit: unknown key 'method'"),
        (RIVALS, {"bitfit": {"learning_rate": -1}}, "x.yaml: methods.bitfit: learning_rate: -1 is refused"),
        (RIVALS, {"bitfit": {"learning_rate": []}}, "methods.bitfit.learning_rate: an empty list leaves nothing"),
        (RIVALS, {"bitfit": 3}, "x.yaml: methods.bitfit: 3 is refused"),
    ],
)
def test_what_a_method_can_not_search_is_refused(
    adapter: dict[str, Any], methods: dict[str, Any], message: str
) -> None:
    with pytest.raises(Refusal) as refused:
        space("bert", adapter, methods)
    assert message in str(refused.value)
