"""Tests that a study's seconds are counted over all its drivers, and which of its limits it reaches first."""

from math import inf
from pathlib import Path

import pytest

from krona_tune.search import budget
from krona_tune.search.budget import Amount, Budget, Rates, StudyClock, time_is_up
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.search_spec import SearchSpec


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replaces the monotonic clock by one that only the test moves."""
    now = [1000.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    return now


def test_a_driver_counts_on_from_those_before_it(tmp_path: Path, clock: list[float]) -> None:
    path = tmp_path / "clock.json"
    first = StudyClock(path)
    clock[0] += 30
    first.save(now=True)
    clock[0] += 5000  # a pause
    second = StudyClock(path)
    clock[0] += 12
    assert second.seconds() == pytest.approx(42)


def test_what_a_command_took_before_its_driver_counts(tmp_path: Path, clock: list[float]) -> None:
    began = clock[0]
    clock[0] += 25  # Ray, the workers, the data
    assert StudyClock(tmp_path / "clock.json", began=began).seconds() == 25


def test_a_driver_that_is_killed_loses_a_few_seconds(tmp_path: Path, clock: list[float]) -> None:
    path = tmp_path / "clock.json"
    killed = StudyClock(path)
    for _ in range(20):
        clock[0] += 1
        killed.save()
    assert 20 - budget.SAVE_SECONDS <= StudyClock(path).seconds() <= 20


def test_a_full_training_is_not_counted(tmp_path: Path, clock: list[float]) -> None:
    path = tmp_path / "clock.json"
    full = StudyClock(path, counts=False)
    clock[0] += 30
    full.save(now=True)
    assert not path.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"seconds": "x"}', '{"seconds": null}', '{"seconds": -3}'])
def test_a_file_that_can_not_be_read_counts_as_none(tmp_path: Path, clock: list[float], text: str) -> None:
    (tmp_path / "clock.json").write_text(text, encoding="utf-8")
    assert StudyClock(tmp_path / "clock.json").seconds() == 0


def test_a_clock_that_stands_still_counts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    clock = StudyClock(tmp_path / "clock.json")
    for still, seconds in ((False, 5.0), (True, 50.0), (True, 50.0), (False, 2.0)):
        clock.stand(still)
        now[0] += seconds
    assert clock.seconds() == 7.0
    clock.stand(True)
    now[0] += 30.0
    assert clock.seconds() == 7.0


@pytest.mark.parametrize(
    ("limits", "seconds"),
    [
        (Budget(), inf),
        (Budget(seconds=1200), 1100),
        (Budget(device_hours=0.75), 3600 * 0.25 / 6),
        (Budget(examples=500), 3600 * (300 * 0.5 / 200) / 6),
        (Budget(seconds=120, examples=500, device_hours=9), 20),
        (Budget(seconds=1200, device_hours=0.25), 0),
    ],
)
def test_the_time_left_is_that_of_the_first_limit(limits: Budget, seconds: float) -> None:
    """Three trials run at once on two devices each."""
    used = Amount(seconds=100, examples=200, device_hours=0.5)
    assert limits.seconds_left(used, Rates(devices=2, slots=3)) == pytest.approx(seconds)


@pytest.mark.parametrize(("limit", "up"), [(40, True), (60, False), (None, False)])
def test_time_that_is_used_up_is_known_before_a_study_goes_on(tmp_path: Path, limit: float | None, up: bool) -> None:
    folder = StudyFolder(tmp_path)
    folder.clock.write_text('{"seconds": 50.0}')
    assert time_is_up(SearchSpec(time_budget=limit), folder) == up
