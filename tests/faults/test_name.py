"""Tests two drivers with one name: the second is refused while the first runs, and the first is not affected."""

import signal
from pathlib import Path

import pytest

from tests.faults.conftest import Cost
from tests.faults.drivers import begun, rungs, taken_up, until
from tests.search.test_study import Home

pytestmark = pytest.mark.slow
ENDLESS = ("--set", "schedule.epochs=512", "--set", "examples.train=512")


def test_a_second_driver_of_a_study_at_work_is_refused(home: Home, bert: Path, cost: Cost) -> None:
    folder = home.study("one")
    first = begun(home, bert, "one", "rte", 2, *ENDLESS)
    until(first, lambda: rungs(folder))
    before = folder.manifest.read_bytes()
    second = taken_up(home, "one")
    said, _ = second.communicate(timeout=120)
    assert first.poll() is None
    assert second.returncode == 2
    assert "--name: the study 'one' is being run; wait for it, or choose another name" in said
    assert folder.manifest.read_bytes() == before
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=120)
    assert first.returncode == 130
    cost("a second driver under the same name", 0)
