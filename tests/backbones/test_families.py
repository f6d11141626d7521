"""Tests that every family of transformers is planned whole, or with what it lacks, or refused with the true reason."""

from typing import Any

import pytest

from krona_tune.backbones.geometry import Role
from krona_tune.backbones.introspect import introspect
from krona_tune.refusal import Refusal
from tests.backbones.families import KINDS, LACKING, REFUSED, WHOLE, tiny

ATTENTION = {Role.QUERY, Role.KEY, Role.VALUE, Role.OUTPUT}


def every() -> list[Any]:
    names = [*WHOLE, *LACKING, *REFUSED]
    return [pytest.param(name, marks=() if name in KINDS else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", every())
def test_a_family_is_planned_or_refused_with_the_reason(name: str) -> None:
    if name in REFUSED:
        with pytest.raises(Refusal, match=REFUSED[name]):
            introspect(tiny(name), "config.json")
        return
    shape = introspect(tiny(name), "config.json")
    said = [f"{each.name}: {each.reason}" for each in shape.left_out]
    assert any(line.startswith(LACKING[name]) for line in said) if LACKING.get(name) else said == []
    if name in WHOLE:
        for stack in shape.depths:
            assert {site.role for site in shape.sites if site.stack is stack} >= ATTENTION | {Role.FEED_FORWARD_IN}


def test_the_table_has_seventy_families_and_most_are_planned() -> None:
    assert len({*WHOLE, *LACKING, *REFUSED}) >= 70
    assert len({*WHOLE, *LACKING}) >= 55
    assert {*KINDS} <= {*WHOLE, *LACKING, *REFUSED}
