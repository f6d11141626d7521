"""Tests that setting the clock back and forth changes no duration: durations come from a monotonic clock."""

import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

import krona_tune
from krona_tune.study.result import Report, Status
from krona_tune.train.loop import train_trial
from tests.search.ledgers import config, ledger
from tests.search.rungs import report
from tests.train.conftest import tiny_backbone, tiny_trial, tiny_work

HOUR = 3600.0
MOMENTS = [
    "search/driver.py",
    "search/ledger.py",
    "search/study_orders.py",
    "search/terminal/inspect_studies.py",
    "train/export_check.py",
]
"""The modules that read the time of day in the search and training: a trial's start and end, an order's end, when the
driver's state was written, how long a study that another process watches has run, and how old a folder is."""


@pytest.fixture
def jumps(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """Makes the wall clock wrong by an hour at every other call, and further back each time."""
    looks, began = count(), time.time()
    monkeypatch.setattr(time, "time", lambda: began + (HOUR if (look := next(looks)) % 2 == 0 else -HOUR) - look)
    return time.time


def test_a_trial_takes_the_seconds_that_it_takes(jumps: Callable[[], float]) -> None:
    reports: list[Report] = []
    began = time.perf_counter()
    train_trial("rte-000", tiny_trial(), tiny_work(), tiny_backbone(), reports.append)
    passed = time.perf_counter() - began
    assert all(each.train_seconds > 0 and each.evaluation_seconds > 0 for each in reports)
    assert sum(each.train_seconds + each.evaluation_seconds for each in reports) < passed


@pytest.mark.parametrize("looks_before", [0, 1])
def test_no_trial_ends_before_it_began(jumps: Callable[[], float], looks_before: int) -> None:
    for _ in range(looks_before):
        jumps()
    book, heard = ledger()
    book.started(config(0))
    for rung, score in enumerate((0.25, 0.5)):
        book.reported(report("cola-000", rung, score), f"there/rung-{rung + 1}")
    book.ended("cola-000", Status.COMPLETED)
    [row] = [row for event, row in heard.events if event == "ended"]
    assert (row.train_seconds, row.evaluation_seconds) == (2, 2)
    assert row.ended_at - row.started_at >= 4


def test_the_wall_clock_is_asked_for_moments_only() -> None:
    root = Path(krona_tune.__file__).parent
    sources = [path for package in ("search", "train") for path in (root / package).rglob("*.py")]
    sources.append(root / "record" / "driver_state.py")
    asking = [str(path.relative_to(root)) for path in sources if "time.time(" in path.read_text(encoding="utf-8")]
    assert sorted(asking) == MOMENTS
