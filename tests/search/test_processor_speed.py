"""The speed of a core is measured once on a processor, and not kept where it can't be or was measured on a busy one."""

import json
from pathlib import Path

import pytest

from krona_tune.search.startup import processor_speed as module
from krona_tune.search.startup.processor_speed import core_speed


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Gives an empty cache folder on a quiet machine, on which each measurement is faster than the one before."""
    speeds = iter(range(1, 9))
    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(module, "busy", lambda: "")
    monkeypatch.setattr(module, "_measure", lambda: float(next(speeds)))
    return tmp_path / "cache"


def test_a_core_multiplies_millions_of_numbers_a_second() -> None:
    assert 1e8 < module._measure() < 1e13


def test_a_processor_is_measured_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [core_speed(), core_speed()] == [1, 1]
    other = module.this_processor()
    monkeypatch.setattr(module, "this_processor", lambda: type(other)(name="another", maker="", flags=frozenset()))
    assert [core_speed(), core_speed()] == [2, 2]
    assert len(list((cache / "processors").iterdir())) == 2


def test_what_a_busy_machine_measured_is_not_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "busy", lambda: "busy")
        assert [core_speed(), core_speed()] == [1, 2]
    assert not cache.exists()
    assert [core_speed(), core_speed()] == [3, 3]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"core_speed": null}', '{"core_speed": "fast"}', '{"core_speed": 0}']
)
def test_a_damaged_file_is_measured_again(cache: Path, text: str) -> None:
    core_speed()
    (path,) = (cache / "processors").iterdir()
    path.write_text(text, encoding="utf-8")
    assert [core_speed(), core_speed()] == [2, 2]
    assert json.loads(path.read_text(encoding="utf-8"))["core_speed"] == 2


def test_where_nothing_can_be_kept_each_plan_measures(cache: Path) -> None:
    cache.write_text("no folder", encoding="utf-8")
    assert [core_speed(), core_speed()] == [1, 2]
