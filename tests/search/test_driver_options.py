"""Tests what another process is told of a start, and where it is told it."""

from dataclasses import replace

import pytest

from krona_tune.cli.options import NOTIFY, TRACKING
from krona_tune.refusal import Refusal
from krona_tune.search.driver_options import StartOptions

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
