"""The speed of a core is measured once on a processor, again when it is no longer busy, and told by any times."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from krona_tune.search.startup import processor_speed as module
from krona_tune.search.startup.processor_speed import core_speed, speed_of_times
from krona_tune.train.layer_times import SIZES, time_layers

Times = list[tuple[int, int, int, bool, float]]


def layer_times(maps: float, attention: float, calls: float) -> Times:
    """Returns what a core of this speed takes for each size."""
    return [
        (
            width,
            rows,
            length,
            back,
            calls * (1 + back) / 2
            + (1 + back) * module.MAPS * width**2 * rows * length / maps
            + (1 + 2 * back) * module.ATTENTION * width * rows * length**2 / attention,
        )
        for width, rows, length in SIZES
        for back in (False, True)
    ]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Gives an empty cache folder on a quiet machine, on which each measurement is faster than the one before."""
    found = iter(range(1, 9))
    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(module, "busy", lambda: "")

    class Child:
        def __enter__(self) -> "Child":
            return self

        def __exit__(self, *_: object) -> None: ...

        def call(self, function: Callable[..., Any], bfloat16: bool, *, seconds: float) -> Times:
            return layer_times(1e11 * next(found), 5e10, 1e-4)

    monkeypatch.setattr(module, "ChildProcess", Child)
    forget()
    return tmp_path / "cache"


def forget() -> None:
    """Forgets what this process has found, as another one that finds what is kept."""
    module._core_speed.cache_clear()  # private: what a process remembers


def maps(bfloat16: bool = False) -> int:
    """Returns which measurement of the fixture a speed in another process is from."""
    forget()
    found = core_speed(bfloat16=bfloat16)
    assert found
    return round(found.maps / 1e11)


def test_layers_are_timed_in_both_precisions() -> None:
    for bfloat16 in (False, True):
        times = time_layers(bfloat16)
        assert [row[:3] for row in times[::2]] == [row[:3] for row in times[1::2]] == list(SIZES)
        assert all(0 < seconds < 60 for *_, seconds in times)
        assert times[-1][-1] > times[0][-1]


def test_a_speed_is_found_again_from_the_times_that_it_gives(cache: Path) -> None:
    found = core_speed(bfloat16=True)
    assert found
    assert found.maps == pytest.approx(1e11, rel=0.02)
    assert found.attention == pytest.approx(5e10, rel=0.02)
    assert found.layer_seconds == pytest.approx(module.CALLS * 1e-4, rel=0.05)


def test_a_processor_is_measured_once_in_each_precision(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [maps(), maps(), maps(bfloat16=True), maps(bfloat16=True), maps()] == [1, 1, 2, 2, 1]
    known = module.this_processor()
    monkeypatch.setattr(module, "this_processor", lambda: type(known)(name="another", maker="", flags=frozenset()))
    assert [maps(), maps()] == [3, 3]
    assert len(list((cache / "processors").iterdir())) == 3


def test_what_a_busy_machine_measured_holds_while_it_is_busy(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "busy", lambda: "busy")
        assert [maps(), maps()] == [1, 1]
    assert [maps(), maps()] == [2, 2]
    monkeypatch.setattr(module, "busy", lambda: "busy")
    assert maps() == 2


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"times": null, "busy": ""}', '{"times": [[64, 1, 2, false, 0.0]], "busy": ""}', "\x00"],
)
def test_a_damaged_file_is_measured_again(cache: Path, text: str) -> None:
    maps()
    (path,) = (cache / "processors").iterdir()
    path.write_text(text, encoding="utf-8")
    assert [maps(), maps()] == [2, 2]
    assert json.loads(path.read_text(encoding="utf-8"))["busy"] == ""


def test_where_nothing_can_be_kept_each_plan_measures(cache: Path) -> None:
    cache.write_text("no folder", encoding="utf-8")
    assert [maps(), maps()] == [1, 2]
    assert core_speed(bfloat16=False) == core_speed(bfloat16=False), "but each process once"


@pytest.mark.parametrize(("maps_of", "attention_of"), [(1e11, 1e30), (1e11, 1e11)])
def test_attention_that_takes_no_time_of_its_own_is_as_fast_as_the_maps(maps_of: float, attention_of: float) -> None:
    found = speed_of_times(tuple(layer_times(maps_of, attention_of, 1e-4)))
    assert found
    assert found.attention == pytest.approx(found.maps, rel=0.1)


def test_maps_that_take_no_time_give_no_speed() -> None:
    times = [(*row[:-1], 1e-4 * (1 + row[3]) / 2) for row in layer_times(1e11, 5e10, 1e-4)]
    assert speed_of_times(tuple(times)) is None


def test_a_real_process_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(module, "busy", lambda: "")
    monkeypatch.setattr(module, "SECONDS", 600.0)
    found = core_speed(bfloat16=False)
    assert found
    assert found.maps > 1e8
    forget()
    assert found == core_speed(bfloat16=False)


def too_slow(bfloat16: bool) -> None:
    time.sleep(60)  # sleep: the call is cut


def failing(bfloat16: bool) -> None:
    raise ImportError("no torch here")


@pytest.mark.parametrize("measure", [too_slow, failing])
def test_what_can_not_be_measured_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measure: Callable[[bool], None]
) -> None:
    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(module, "measure_layers", measure)
    monkeypatch.setattr(module, "SECONDS", 0.2)
    assert core_speed(bfloat16=False) is None
    assert not any(tmp_path.iterdir())
