"""Tests that names, gradients and a person's corrections give each map its role, against tables written by hand."""

import pytest

from krona_tune.backbones.geometry import Role
from krona_tune.backbones.introspect import introspect
from krona_tune.backbones.map_roles import regular_rows
from krona_tune.refusal import Refusal
from tests.backbones.expected_maps import EXPECTED, Expected
from tests.backbones.introspected import found, of
from tests.models import CONFIGS, ENCODER


@pytest.mark.parametrize("name", CONFIGS)
def test_each_map_has_the_role_that_a_person_gives_it(name: str) -> None:
    shape = of(name)
    table = EXPECTED.get(name, EXPECTED.get(CONFIGS[name][0]))
    assert table is not None
    tables: list[Expected] = list(table) if isinstance(table, tuple) else [table]
    for (stack, depth), expected in zip(shape.depths.items(), tables, strict=True):
        for layer in range(depth):
            assert found(shape, stack, layer) == {role: set(names) for role, names in expected.items()}


@pytest.mark.parametrize(
    ("chosen", "rows"),
    [
        ("1100110011", (0, 2, 4, 3)),
        ("0111", (1, 3, 3, 1)),
        ("0101", (1, 1, 2, 2)),
        ("1101", None),
        ("1010010", None),
        ("0000", None),
    ],
)
def test_rows_are_regular_blocks_or_none(chosen: str, rows: tuple[int, ...] | None) -> None:
    named = regular_rows([each == "1" for each in chosen])
    assert (named and (named.start, named.block, named.stride, named.count)) == rows


def test_a_correction_gives_a_map_its_role_and_is_refused_if_it_names_none() -> None:
    config = {"model_type": "deberta-v2", **ENCODER, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
    shape = introspect(config, "here", {Role.KEY: "*.pos_key_proj"})
    assert sum(site.role is Role.KEY for site in shape.sites) == 6
    with pytest.raises(Refusal, match=r"backbone: roles: query: '\*.q_prj' names no map; maps: attention.output.dense"):
        introspect(config, "here", {Role.QUERY: "*.q_prj"})


def test_a_correction_that_an_earlier_one_leaves_nothing_is_refused() -> None:
    with pytest.raises(Refusal, match=r"roles: query: an earlier pattern has named all maps of '\*.query'; leave one"):
        introspect({"model_type": "bert", **ENCODER}, "here", {Role.KEY: "*.self.*", Role.QUERY: "*.query"})
