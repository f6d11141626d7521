"""Tests that each option of a start is one row, and what another process is told of a start, and where."""

from dataclasses import replace
from inspect import signature
from typing import Any

import pytest

import krona_tune
from krona_tune.cli import studies
from krona_tune.record.mlflow_mirror.tracking_uri import TRACKING
from krona_tune.record.notifications import NOTIFY
from krona_tune.refusal import Refusal
from krona_tune.search.start_options import START_OPTIONS, StartKeywords, StartOptions
from krona_tune.study.settings import as_flag
from tests.cli.flags import options_of

WHOLE = StartOptions(
    address="head:6379",
    tracking_uri="http://ann:hunter2@mlflow",
    wandb="team/mine",
    notify=("json://bo:hunter3@host", "json://b/?c=d e"),
    quiet=True,
    share=0,
)


def test_no_address_that_may_hold_a_password_is_among_the_words() -> None:
    assert WHOLE.words() == ["--address", "head:6379", "--wandb", "team/mine", "--share", "0", "--quiet"]
    assert WHOLE.environment() == {
        TRACKING: "http://ann:hunter2@mlflow",
        NOTIFY: "json://bo:hunter3@host json://b/?c=d%20e",
    }


def test_a_start_without_options_hides_the_addresses_that_this_process_has() -> None:
    assert StartOptions().words() == []
    assert StartOptions().environment() == {TRACKING: "", NOTIFY: ""}


@pytest.mark.parametrize(
    ("name", "value", "place"),
    [
        ("address", "head", "--address"),
        ("tracking_uri", "foo://x", "--tracking-uri"),
        ("wandb", "a/b/c", "--wandb"),
        ("notify", ("nonsense",), "--notify"),
    ],
)
def test_each_odd_option_is_refused(name: str, value: object, place: str) -> None:
    StartOptions(
        address="auto", tracking_uri="http://mlflow", notify=("json://here",), quiet=True, share=2
    ).refuse_odd()
    with pytest.raises(Refusal) as refused:
        replace(StartOptions(), **{name: value}).refuse_odd()
    assert refused.value.place == place


def test_each_row_is_a_flag_and_each_that_python_takes_a_keyword() -> None:
    flags = {as_flag(name) for name in START_OPTIONS}
    assert flags <= options_of(studies.run)
    assert flags <= options_of(studies.resume)
    assert options_of(studies.sync) & flags == {"--tracking-uri"}
    assert StartKeywords.__annotations__.keys() <= START_OPTIONS.keys()
    assert StartKeywords.__annotations__.keys() <= signature(krona_tune.Study).parameters.keys()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"wandb": 3}, "wandb: 3 is of the type int; give a text or None"),
        ({"notify": ["json://here", 3]}, "notify[1]: 3 is of the type int; give a text"),
        ({"tracking_uri": " "}, "tracking_uri: its value is empty; give one, or leave it out"),
        ({"share": 2}, "Study: unknown keyword 'share', did you mean 'shared'?"),
    ],
)
def test_python_refuses_what_no_start_takes(given: dict[str, Any], said: str) -> None:
    with pytest.raises(Refusal) as refused:
        krona_tune.Study(tasks="cola", **given)
    assert str(refused.value) == said


def test_one_address_may_stand_alone_and_none_gives_nothing() -> None:
    assert StartOptions.among({"notify": "json://here", "wandb": None, "trials": 3}).notify == ("json://here",)
    assert StartOptions.among({"notify": None, "quiet": False, "share": 0}) == StartOptions(share=0)
