"""Tests what is printed of a plan."""

from dataclasses import replace

import pytest

from krona_tune.api.plan_printing import print_recommendation
from krona_tune.search.planning.plan import make_plan
from krona_tune.study.request.loader import build_spec


def test_a_plan_without_a_recommendation_is_no_reason_to_refuse_a_dry_run(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"model": model, "tasks": ["rte"], "data": "mini", "adapter": {"a_out": "divisors", "a_in": "divisors"}}
    plan = make_plan(build_spec(asked, "here"), "here")
    print_recommendation(plan)
    assert "Without any search" in capsys.readouterr().out
    print_recommendation(replace(plan, space=replace(plan.space, limit=1)))
    assert capsys.readouterr().out == ""
