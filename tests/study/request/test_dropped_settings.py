"""Tests of the settings that were removed."""

import pytest

from krona_tune.refusal import Refusal
from krona_tune.study.request import dropped_settings
from krona_tune.study.request.dropped_settings import DroppedSetting
from krona_tune.study.request.loader import build_spec


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = {
        "search.wind": DroppedSetting(False, "it never helped"),
        "search.depth": DroppedSetting(3, "every depth is searched"),
    }
    monkeypatch.setattr(dropped_settings, "DROPPED", gone)


@pytest.mark.usefixtures("dropped")
def test_a_setting_at_its_old_default_is_passed_over() -> None:
    written = {"model": "m", "search": {"wind": False, "trials": 7, "depth": 3}}
    assert build_spec(written, "x.yaml") == build_spec({"model": "m", "search": {"trials": 7}}, "x.yaml")
    assert written["search"] == {"wind": False, "trials": 7, "depth": 3}


@pytest.mark.usefixtures("dropped")
@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"wind": True}, "x.yaml: search.wind: true is refused: it never helped; leave it out, or write false"),
        ({"depth": 2}, "x.yaml: search.depth: 2 is refused: every depth is searched; leave it out, or write 3"),
    ],
)
def test_another_value_is_refused_with_the_reason(search: dict[str, object], said: str) -> None:
    with pytest.raises(Refusal) as refused:
        build_spec({"model": "m", "search": search}, "x.yaml")
    assert str(refused.value).startswith(said)


@pytest.mark.usefixtures("dropped")
def test_a_setting_that_never_was_is_unknown() -> None:
    with pytest.raises(Refusal, match="unknown key 'winds'"):
        build_spec({"model": "m", "search": {"winds": False}}, "x.yaml")
