"""Tests that a study that loses its Ray, or is asked to stop with all its processes, closes its records, says how to
resume, and leaves no process behind."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.conftest import Cost
from tests.faults.consistency import settled
from tests.faults.drivers import LONG, Driver, begun, rungs, taken_up, until, well_ended
from tests.search.test_study import Home

pytestmark = pytest.mark.slow
MOST_SECONDS = 30
"""For steps that take a few seconds; Ray itself waits a minute."""


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


@pytest.mark.parametrize(
    ("fault", "happens", "status", "reason"),
    [
        ("SIGTERM to every process", ask_all, 130, "Interrupted. Resume with"),
        pytest.param(
            "SIGTERM to the driver's group", ask_group, 130, "Interrupted. Resume with", marks=pytest.mark.long
        ),
        ("Ray's head killed", kill("gcs_server"), 75, "Stopped, Ray's gcs_server ended. Resume with"),
        ("Ray's raylet killed", kill("raylet"), 75, "Stopped, Ray's raylet ended. Resume with"),
    ],
)
def test_a_study_that_loses_its_ray_ends_in_order(
    home: Home, bert: Path, cost: Cost, fault: str, happens: Callable[[Driver], None], status: int, reason: str
) -> None:
    name = fault.replace(" ", "-").replace("'", "")
    folder = home.study(name)
    driver = begun(home, bert, name, "cola", 3, *LONG)
    until(driver, lambda: rungs(folder) >= 2)
    happens(driver)
    began = time.monotonic()
    said, _ = driver.communicate(timeout=MOST_SECONDS)
    assert driver.returncode == status, said
    assert f"{reason}: python run_study.py --resume {name}" in said
    assert "Traceback" not in said
    while session_of(driver) and time.monotonic() - began < MOST_SECONDS:
        time.sleep(0.1)
    assert not session_of(driver)
    before = rungs(folder)
    driver = taken_up(home, name)
    cost(fault, until(driver, lambda: rungs(folder) > before))
    well_ended(driver)
    settled(folder, ("cola",), 3)
