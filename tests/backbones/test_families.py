"""Tests that every family of transformers is planned whole, or with what it lacks, or refused with the true reason."""

import re
from pathlib import Path
from typing import Any

import pytest

from krona_tune.backbones.geometry import Role
from krona_tune.refusal import Refusal
from tests.backbones.families import KINDS, LACKING, REFUSED, WHOLE, introspected, line

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


def test_the_page_names_the_families_of_the_table_alone() -> None:
    rows = [row.split("|")[1].strip() for row in PAGE.read_text(encoding="utf-8").splitlines() if row.startswith("| ")]
    assert rows == ["family", *sorted((*WHOLE, *LACKING, *REFUSED))]


def test_the_table_has_seventy_families_and_most_are_planned() -> None:
    assert len({*WHOLE, *LACKING, *REFUSED}) >= 70
    assert len({*WHOLE, *LACKING}) >= 55
    assert {*KINDS} <= {*WHOLE, *LACKING, *REFUSED}
