"""Tests that a study that loses its Ray, or is asked to stop with all its processes, closes its records, says how to
resume, and leaves no process behind."""

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from krona_tune.study.folder import StudyFolder
from tests.faults.conftest import Cost
from tests.faults.consistency import settled
from tests.faults.drivers import LONG, TO_THE_END, Driver, begun, rungs, seen, taken_up, until_or_end, well_ended
from tests.waiting import until
from tests.whole_studies import Home

pytestmark = pytest.mark.slow
MOST_SECONDS = 120
"""For steps that take a few seconds on an idle machine."""
TRIALS = 5


def session_of(driver: Driver) -> dict[int, str]:
    """Returns the names of the driver and the processes it started, with Ray's workers, which have their own groups."""
    found = subprocess.run(["ps", "-eo", "pid=,sid=,stat=,comm="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 3) for line in found.splitlines()]
    return {int(pid): name for pid, session, state, name in rows if int(session) == driver.pid and state[0] != "Z"}


def kill(name: str) -> Callable[[Driver], None]:
    def done(driver: Driver) -> None:
        (process,) = (pid for pid, command in session_of(driver).items() if command.startswith(name))
        os.kill(process, signal.SIGKILL)

    return done


def ask_group(driver: Driver) -> None:
    """Signals as `timeout` does: Ray's own processes are in the driver's group."""
    os.killpg(driver.pid, signal.SIGTERM)


def ask_all(driver: Driver) -> None:
    """Signals every process, as systemd and Slurm do."""
    for process in session_of(driver):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)


FAULTS = {
    "Ray's head killed": (kill("gcs_server"), 75, "Stopped, Ray's gcs_server ended. Resume with"),
    "Ray's raylet killed": (kill("raylet"), 75, "Stopped, Ray's raylet ended. Resume with"),
    "SIGTERM to every process": (ask_all, 130, "Interrupted. Resume with"),
    "SIGTERM to the driver's group": (ask_group, 130, "Interrupted. Resume with"),
}


@pytest.mark.parametrize(
    ("name", "faults"),
    [("thrice", list(FAULTS)[:3]), pytest.param("group", list(FAULTS)[3:], marks=pytest.mark.long)],
)
def test_a_study_ends_in_order_each_time_that_it_loses_its_ray(
    home: Home, bert: Path, cost: Cost, name: str, faults: list[str]
) -> None:
    folder = home.study(name)
    driver, before = begun(home, bert, name, "cola", TRIALS, *LONG, *TO_THE_END), 0
    for fault in faults:
        seen(driver, more_rungs(folder, before + 1))
        ends_in_order(driver, name, *FAULTS[fault])
        before = rungs(folder)
        driver = taken_up(home, name)
        cost(fault, until_or_end(driver, more_rungs(folder, before)))
    well_ended(driver)
    settled(folder, ("cola",), TRIALS)


def more_rungs(folder: StudyFolder, than: int) -> Callable[[], bool]:
    return lambda: rungs(folder) > than


def ends_in_order(driver: Driver, name: str, happens: Callable[[Driver], None], status: int, reason: str) -> None:
    """Lets it happen; asserts that the driver ends soon, says how to resume and leaves no process."""
    happens(driver)
    said, _ = driver.communicate(timeout=MOST_SECONDS)
    assert driver.returncode == status, said
    assert f"{reason}: python run_study.py --resume {name}" in said
    assert "Traceback" not in said
    until(lambda: not session_of(driver), MOST_SECONDS)
