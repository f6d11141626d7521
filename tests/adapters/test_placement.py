"""Tests that parameters are counted from integers before training, and that what fits nowhere is refused."""

import pytest

from krona_tune.adapters.placement import common_dimensions, count, sites
from krona_tune.refusal import Refusal
from krona_tune.study.request.trial import AdapterConfig, read_layers
from tests.models import ENCODER, T5_BASE_SIZES, build, build_from
from tests.trained_adapters import shaped

PAPER = "query+value+cross_query+cross_value"


def test_the_papers_counts_for_t5_base() -> None:
    shape, _, _ = build_from("t5", T5_BASE_SIZES, device="meta")
    adapter = AdapterConfig(a_out=24, a_in=32, roles=PAPER)
    cheapest = count(shape, adapter, outputs=2)
    assert (cheapest.adapter, cheapest.head) == (110_592, 0)
    assert round(cheapest.percent, 4) == 0.0496
    with_norms = count(shape, adapter.model_copy(update={"layer_norms": True}), outputs=2)
    assert with_norms.trainable == 158_208
    assert round(with_norms.percent, 4) == 0.0710


@pytest.mark.parametrize(
    ("adapter", "added", "percent"),
    [
        ({"method": "lora", "rank": 1, "roles": PAPER}, 110_592, 0.071),
        ({"method": "parallel_adapter", "bottleneck": 2}, 92_208, 0.063),
        ({"method": "adapter", "bottleneck": 1}, 48 * (768 + 1 + 768 + 768), 0.071),
        ({"method": "compacter", "bottleneck": 24, "phm": 4}, 48 * (768 + 24 + 24 + 24 + 768 + 768) + 64, 0.073),
        ({"method": "bitfit"}, 12 * (4 * 768 + 3072 + 768) + 12 * (8 * 768 + 3072 + 768), 0.112),
        ({"method": "krona_b", "a_out": 24, "a_in": 32}, 24 * 1536, 0.038),
        ({"method": "krona_b_res", "a_out": 24, "a_in": 32}, 24 * 1537, 0.038),
        ({"method": "full"}, 222_903_552, 100.0),
    ],
)
def test_the_rivals_counts_for_t5_base(adapter: dict[str, object], added: int, percent: float) -> None:
    """The layer norms are trained, as the reported 0.06 and 0.07 % suggest."""
    shape, _, _ = build_from("t5", T5_BASE_SIZES, device="meta")
    counted = count(shape, AdapterConfig(layer_norms=True, **adapter), outputs=2)
    assert counted.adapter == added
    assert counted.norms == (0 if adapter["method"] == "full" else 47_616)
    assert round(counted.percent, 3) == percent


def test_block_methods_stand_beside_each_feed_forward_block() -> None:
    shape, _, _ = build("t5")
    assert count(shape, AdapterConfig(method="krona_b", a_out=4, a_in=3), 2).adapter == 5 * (12 + 6 * 8)
    assert count(shape, AdapterConfig(method="krona_b_res", a_out=4, a_in=3), 2).adapter == 5 * (12 + 6 * 8 + 1)


def test_the_head_alone_trains_nothing_in_a_text_to_text_model() -> None:
    assert count(build("t5")[0], AdapterConfig(method="head_only"), 2).trainable == 0
    assert count(build("bert")[0], AdapterConfig(method="head_only"), 2).trainable == 25 * 2


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("all", (0, 1, 2, 3, 4)),
        ("first 2", (0, 1)),
        ("last 2", (3, 4)),
        ("every other", (1, 3)),
        ("4, 0,2", (0, 2, 4)),
    ],
)
def test_layers_are_read(text: str, chosen: tuple[int, ...]) -> None:
    assert read_layers(text, 5) == chosen


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({"layers": "last 4"}, "'last 4' of a stack of 3 layers; ask for 1 to 3"),
        ({"layers": "0,3"}, "'0,3' asks for layer 3; the stack has 0 to 2"),
        ({"roles": "cross_query"}, "no such site in this bert; its roles are feed_forward_in, feed_forward_out, key"),
        ({"stacks": "decoder"}, "no such site"),
        ({"a_out": 7}, "a_out 7 does not divide d_out 24; divisors: 1, 2, 3, 4, 6, 8, 12, 24; needed at encoder"),
        (
            {"method": "compacter", "phm": 5},
            "phm 5 does not divide 24; divisors of 24×24 and bottleneck 24: 1, 2, 3, 4, 6, 8, 12, 24; needed at "
            "encoder.layer.0.attention.output.dense",
        ),
        ({"method": "kronna"}, "unknown method 'kronna', did you mean 'krona'?"),
    ],
)
def test_what_fits_nowhere_is_refused(adapter: dict[str, object], message: str) -> None:
    shape, _, _ = build("bert")
    with pytest.raises(Refusal) as refused:
        count(shape, AdapterConfig(**adapter), 2)
    assert message in str(refused.value)


def test_norms_without_parameters_are_not_trained() -> None:
    shape, _, _ = build_from("olmo", {**ENCODER, "pad_token_id": 0})
    for norms, written in ((True, "true"), ("adapted", "'adapted'")):
        with pytest.raises(Refusal) as refusal:
            count(shape, shaped(shape, "krona", layer_norms=norms), outputs=2)
        assert str(refusal.value) == (
            f"adapter: layer_norms is {written}, but the layer norms of this olmo have no parameters; write false"
        )


def test_common_dimensions_divide_every_site() -> None:
    shape, _, _ = build("t5")
    places = sites(shape, AdapterConfig(roles="query+output+feed_forward_in"))
    assert {(s.d_out, s.d_in) for s in places} == {(20, 24), (24, 20), (40, 24)}
    assert common_dimensions(places) == (4, 4)


def test_cross_attention_carries_no_sequential_adapter() -> None:
    shape, _, _ = build("t5")
    assert len(sites(shape, shaped(shape, "adapter"))) == 2 * (2 + 3)
