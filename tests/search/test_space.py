"""Tests that a space is resolved on a backbone: every drawn point fits it, and what never fits is refused."""

import random
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from krona_tune.adapters.placement import count, sites
from krona_tune.backbones.geometry import Geometry
from krona_tune.refusal import Refusal
from krona_tune.search.planning.space import Space, resolve
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.request.domain import Choice, Fixed, Range
from krona_tune.study.request.trial import check_trial
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


def test_the_terms_of_a_sum_are_counted_against_the_limit() -> None:
    made = space("bert", {"a_out": 4, "a_in": 6, "terms": [1, 4], "roles": "query"})
    points = {terms: {**made.draw(random.Random(0)), "terms": terms} for terms in (1, 4)}
    assert made.parameters(points[4]) == 4 * made.parameters(points[1]) == 4 * 3 * (24 + 24)


def test_a_layer_that_one_of_two_stacks_lacks_is_refused() -> None:
    with pytest.raises(Refusal, match="'last 3' of a stack of 2 layers"):
        space("t5", {"layers": "last 3"})
    decoder = space("t5", {"layers": "last 3", "stacks": "decoder"})
    point = decoder.draw(random.Random(0))
    adapter = TrialMessage("t", "rte", 0, "search", 1, point).checked().adapter
    assert {site.layer for site in sites(decoder.geometry, adapter)} == {0, 1, 2}


def test_the_limit_is_a_number_or_a_share_of_the_backbone() -> None:
    shape = shape_of("bert")
    small = {"a_out": 4, "a_in": 6}
    assert space("bert", small, max_params="5_00").limit == 500
    assert space("bert", small, max_params="2.5%").limit == int(shape.parameters * 0.025)
    assert space("bert").limit is None


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


RIVALS = {"method": ["krona", "compacter", "bitfit"], "a_out": 4, "a_in": 6, "phm": [2, 3, 5], "bottleneck": [4, 6]}


def test_a_method_reads_its_own_knobs_in_its_own_domains() -> None:
    own = {"bitfit": {"learning_rate": {"low": 1e-4, "high": 1e-3, "log": True}, "layers": ["all", "last 1"]}}
    made = space("bert", RIVALS, own)
    assert made.knobs["bitfit"]["learning_rate"] == Range(1e-4, 1e-3, True)
    assert made.knobs["krona"]["learning_rate"] == Fixed(3e-3)
    assert set(made.searched()) == {"method", "phm", "bottleneck", "learning_rate of bitfit", "layers of bitfit"}
    assert made.of("krona").searched() == {}
    assert made.of("bitfit").methods == ("bitfit",)


def test_sizes_that_do_not_go_together_are_infeasible_points() -> None:
    made = space("bert", RIVALS)
    points = [made.draw(random.Random(seed)) for seed in range(80)]
    compacters = [point for point in points if point["method"] == "compacter"]
    assert {made.feasible(p) for p in points if p["method"] != "compacter"} == {True}
    fits = {(p["phm"], p["bottleneck"]): made.feasible(p) for p in compacters}
    assert fits == {(2, 4): True, (2, 6): True, (3, 4): False, (3, 6): True, (5, 4): False, (5, 6): False}


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


PEFT = {"method": ["krona", "peft:HiRA", "peft:LoRA"], "a_out": 4, "a_in": 6, "r": [1, 2]}


def test_a_method_of_peft_is_searched_over_the_fields_of_its_configuration() -> None:
    own = {
        "peft:LoRA": {
            "r": 3,
            "lora_alpha": {"low": 1, "high": 8},
            "lora_dropout": {"low": 0, "high": 1},
            "roles": "key",
        }
    }
    made = space("bert", PEFT, own)
    assert made.knobs["peft:HiRA"]["peft_r"] == Choice((1, 2))
    lora = made.knobs["peft:LoRA"]
    assert (lora["peft_r"], lora["roles"]) == (Fixed(3), Fixed("key"))
    assert (lora["peft_lora_alpha"], lora["peft_lora_dropout"]) == (Range(1, 8), Range(0.0, 1.0))
    assert "peft_r" not in made.knobs["krona"]
    point = {"method": "peft:LoRA", **{name: domain.ends()[0] for name, domain in lora.items()}}
    trial = check_trial("cola", 0, point)
    assert trial.adapter.peft == {"r": 3, "lora_alpha": 1, "lora_dropout": 0}
    assert check_trial("cola", 0, trial.params()) == trial
    assert made.parameters(point) == 3 * 3 * (24 + 24)  # a key map of 24 × 24 in each of three layers


@pytest.mark.parametrize(
    ("adapter", "methods", "message"),
    [
        (
            PEFT | {"method": "peft:HiRAA"},
            {},
            "x.yaml: peft:HiRAA: unknown method of peft 'hiraa', did you mean",
        ),
        (PEFT | {"method": "peft:AdaLoRA"}, {}, "x.yaml: peft:AdaLoRA: it must be told of every step"),
        (PEFT | {"q": 3}, {}, "x.yaml: adapter: unknown field of peft:HiRA 'q'"),
        (PEFT | {"r": [0, 1]}, {}, "x.yaml: peft:HiRA: r: 0 fits no adapted map: ValueError: `r` should be a positive"),
        (PEFT | {"r": "divisors"}, {}, "x.yaml: adapter.r: divisors are the sizes of a factor"),
        (PEFT, {"peft:LoRA": {"rank": 3}}, "x.yaml: methods.peft:LoRA: unknown field of peft:LoRA 'rank'"),
        (PEFT, {"peft:LoRA": {"r": "two"}}, "x.yaml: methods.peft:LoRA.r: 'two' is refused"),
        (
            PEFT,
            {"peft:LoRA": {"target_modules": "all"}},
            "target_modules: a study sets it: roles and layers",
        ),
        (PEFT, {"peft:LoRA": {"init_lora_weights": "eva"}}, "'eva': it starts from activations on training data"),
        (
            PEFT,
            {"peft:LoRA": {"init_lora_weights": "gausian"}},
            "'gausian' is refused; write true or false, 'gau",
        ),
        (PEFT, {"peft:LoRA": {"init_lora_weights": 1}}, "init_lora_weights: 1 is refused; write true or false"),
        (PEFT, {"peft:LoRA": {"lora_dropout": float("inf")}}, "lora_dropout: inf is refused; write a finite number"),
        (PEFT, {"peft:lora": {"r": 1}}, "methods.peft:lora: peft:LoRA and peft:lora are one method"),
        (PEFT, {"peft:Nonsense": {"r": 1}}, "x.yaml: peft:Nonsense: unknown method of peft"),
        (PEFT, {"peft:DoRA": {"rrr": 1}}, "x.yaml: methods.peft:DoRA: unknown field of peft:DoRA 'rrr'"),
        (PEFT, {"peft:DoRA": {"use_dora": False}}, "methods.peft:DoRA.use_dora: peft:DoRA sets it"),
        (PEFT, {"peft:AdaMSS": {"use_asa": True}}, "use_asa: true: it must be told of every step"),
        (
            {"method": "peft:LoKr", "decompose_factor": 4},
            {},
            "adapter.decompose_factor: no searched method reads",
        ),
        (
            PEFT | {"method": "peft:HiRA", "r": 8},
            {"peft:HiRA": {"r": [1, 2]}},
            "x.yaml: adapter.r: it is never used: every method that reads it has its own (peft:HiRA); leave it out, or",
        ),
        (
            {"method": ["lora", "bitfit"], "rank": 4},
            {"lora": {"rank": 2}},
            "x.yaml: adapter.rank: it is never used: every method that reads it has its own (lora); leave it out, or "
            "write methods.lora.rank",
        ),
        ({"method": "krona", "peft_r": 2}, {}, "x.yaml: adapter.peft_r: no searched method is one of peft's"),
        ({"method": "krona", "r": 2}, {}, "x.yaml: adapter: unknown key 'r'"),
    ],
)
def test_what_peft_can_not_take_is_refused(adapter: dict[str, Any], methods: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal) as refused:
        space("bert", adapter, methods)
    assert message in str(refused.value)
