"""Tests that the table of settings is complete, and that every row of it can be reached by flag, keyword and key."""

import importlib
from inspect import signature
from typing import Any, get_args

import pytest
from pydantic import BaseModel

import krona_tune
from krona_tune.cli import service, studies
from krona_tune.study.order import OrderRequest
from krona_tune.study.request.study_spec import ResourcesSpec, StudySpec
from krona_tune.study.settings import CHANGEABLE, FLAGS, ORDERED, SETTINGS, Keywords, Setting, flag_of, with_more_trials
from tests.cli.flags import options_of
from tests.docs.blocks import ROOT


def field_at(key: str) -> Any:
    """Returns the field of the request at a dotted path."""
    model, field = StudySpec, None
    for part in key.split("."):
        field = model.model_fields[part]
        kind = field.annotation
        model = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else StudySpec
    return field


@pytest.mark.parametrize("row", SETTINGS.values(), ids=SETTINGS)
def test_a_setting_is_a_field_of_the_request_and_says_what_it_is(row: Setting) -> None:
    field = field_at(row.key)
    assert not isinstance(field.annotation, BaseModel)
    assert row.help.endswith(".")
    assert row.panel


def test_each_key_has_one_row_and_each_flag_one_key() -> None:
    assert len({row.key for row in SETTINGS.values()}) == len(SETTINGS)
    assert len(FLAGS) == len(SETTINGS) + sum(bool(row.off) for row in SETTINGS.values())


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_a_keyword_of_a_study_and_a_flag_of_run_and_submit(name: str) -> None:
    assert name in signature(krona_tune.Study).parameters
    for command in (studies.run, service.submit):
        assert {flag_of(name), flag_of(name, False)} <= options_of(command)


def test_a_keyword_may_always_be_left_out() -> None:
    for kind in Keywords.__annotations__.values():
        assert type(None) in get_args(get_args(kind)[0])


def test_what_may_change_later_is_a_field_and_so_is_all_that_trials_need() -> None:
    assert all(field_at(key) for key in CHANGEABLE)
    assert {f"resources.{name}" for name in ResourcesSpec.model_fields} <= set(CHANGEABLE)


@pytest.mark.parametrize("name", ORDERED)
def test_what_an_order_may_change_can_be_ordered(name: str) -> None:
    assert OrderRequest(what=name, value="1").text == f"{name.replace('_', '-')} 1"


def test_the_references_are_made_from_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    generated = importlib.import_module("generated_pages")
    written, keywords = generated.command_line(), generated.study_keywords()
    assert [row.help for row in SETTINGS.values() if f"`: {row.help}\n" not in written] == []
    assert [name for name in Keywords.__annotations__ if f"| `{name}` | `{SETTINGS[name].key}` |" not in keywords] == []
    assert [flag for flag in FLAGS if f"* `{flag}" not in written and f"/ {flag}`" not in written] == []


def test_a_flag_without_a_row_is_none_of_a_setting() -> None:
    """A key of the request that a flag of `run` sets would be written twice."""
    last = {key.rpartition(".")[2].replace("_", "-") for key in StudySpec(model="any").settings()}
    assert {flag for flag in options_of(studies.run) - FLAGS.keys() if flag.removeprefix("--") in last} == {"--name"}


@pytest.mark.parametrize(
    ("given", "total"), [("+20", 25), ("40", 40), (40, 40), ("+0", None), ("+00", None), ("+x", None), ("+", None)]
)
def test_more_trials_are_added_and_none_are_no_number_of_them(given: str | int, total: int | None) -> None:
    assert with_more_trials(given, 5) == total
