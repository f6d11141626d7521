"""Tests that every family of transformers is planned whole, or with what it lacks, or refused with the true reason."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from krona_tune.backbones.geometry import Role
from krona_tune.refusal import Refusal
from tests.backbones.families import ABOUT, KINDS, LACKING, REFUSED, WHOLE, build, introspected, line

ATTENTION = {Role.QUERY, Role.KEY, Role.VALUE, Role.OUTPUT}
PAGE = Path(__file__).parents[2] / "docs" / "families.md"


def every() -> list[Any]:
    names = [*WHOLE, *LACKING, *REFUSED]
    return [pytest.param(name, marks=() if name in KINDS else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", every())
def test_a_family_is_planned_or_refused_with_the_reason(name: str) -> None:
    shape = introspected(name)
    if name in REFUSED:
        assert isinstance(shape, Refusal)
        assert re.search(REFUSED[name], str(shape))
        return
    assert not isinstance(shape, Refusal), shape
    said = [f"{each.name}: {each.reason}" for each in shape.left_out]
    assert any(line.startswith(LACKING[name]) for line in said) if LACKING.get(name) else said == []
    if name in WHOLE:
        for stack in shape.depths:
            assert {site.role for site in shape.sites if site.stack is stack} >= ATTENTION | {Role.FEED_FORWARD_IN}


@pytest.mark.parametrize("name", every())
def test_the_page_says_of_a_family_what_is_found(name: str) -> None:
    assert line(name) in PAGE.read_text(encoding="utf-8").splitlines(), "print the page again"


LONG_ROPE = {"rope_type": "longrope", "short_factor": [1.0, 1.0, 1.0], "long_factor": [1.0, 2.0, 4.0], "factor": 4.0}
READ_FIRST = {"original_max_position_embeddings": 16}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0}


@pytest.mark.parametrize(
    ("name", "changes", "depends"),
    [
        ("funnel", {}, True),
        ("phi3", {"rope_parameters": {"rope_theta": 1e4, **LONG_ROPE, **READ_FIRST}, **READ_FIRST}, True),
        ("qwen2", {"rope_parameters": {"rope_theta": 1e4, **DYNAMIC}, "max_position_embeddings": 16}, True),
        ("qwen2", {}, False),
    ],
)
def test_logits_depend_on_padding_in_the_families_that_the_page_names(
    name: str, changes: dict[str, Any], depends: bool
) -> None:
    _, model = build(name, **changes)
    ids = torch.randint(5, 97, (3, 11), generator=torch.Generator().manual_seed(1))
    known, padding = torch.ones_like(ids), torch.zeros(3, 9, dtype=torch.int64)
    with torch.no_grad():
        alone = model(input_ids=ids, attention_mask=known).logits
        padded = model(input_ids=torch.cat([ids, padding], 1), attention_mask=torch.cat([known, padding], 1)).logits
    assert torch.allclose(padded, alone, rtol=1e-5, atol=1e-7) != depends


def test_the_page_begins_as_it_is_printed() -> None:
    assert PAGE.read_text(encoding="utf-8").startswith(ABOUT), "print the page again"


def test_the_page_names_the_families_of_the_table_alone() -> None:
    rows = [row.split("|")[1].strip() for row in PAGE.read_text(encoding="utf-8").splitlines() if row.startswith("| ")]
    assert rows == ["family", *sorted((*WHOLE, *LACKING, *REFUSED))]


def test_the_table_has_seventy_families_and_most_are_planned() -> None:
    assert len({*WHOLE, *LACKING, *REFUSED}) >= 70
    assert len({*WHOLE, *LACKING}) >= 55
    assert {*KINDS} <= {*WHOLE, *LACKING, *REFUSED}
