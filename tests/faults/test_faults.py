"""Tests that a study ends with every trial counted once, whatever happened to its processes and files."""

import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from krona_tune.record.parquet_reader import read_trials
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Status, TrialResult
from tests.faults.conftest import Cost
from tests.faults.consistency import settled
from tests.faults.drivers import LONG, Driver, begun, ended, rungs, taken_up, until, well_ended, workers_of
from tests.search.test_study import Home

pytestmark = pytest.mark.slow
TASKS, TRIALS = ("cola", "rte"), 4
MORE = pytest.mark.long


def started(home: Home, model: Path, name: str) -> Driver:
    return begun(home, model, name, ",".join(TASKS), TRIALS, *LONG)


def resumed(home: Home, name: str) -> tuple[dict[str, TrialResult], float]:
    """Resumes a study; returns its rows at the end, and the seconds until it had a new report or was done."""
    before = rungs(home.study(name))
    driver = taken_up(home, name)
    seconds = until(driver, lambda: rungs(home.study(name)) > before)
    well_ended(driver)
    return settled(home.study(name), TASKS, TRIALS), seconds


@pytest.mark.parametrize("moment", [1, 8, *(pytest.param(moment, marks=MORE) for moment in (0, 2, 4, 6))])
def test_a_driver_that_is_killed_loses_nothing(home: Home, bert: Path, cost: Cost, moment: int) -> None:
    """The driver is killed at the start, and after 1, 2, … rungs, at a random time between two events."""
    name, folder = f"killed-{moment}", home.study(f"killed-{moment}")
    driver = started(home, bert, name)
    until(driver, lambda: folder.manifest.exists() and rungs(folder) >= moment)
    time.sleep(random.Random(moment).uniform(0, 0.5))
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    before = ended(folder)
    after, seconds = resumed(home, name)
    cost("driver killed (SIGKILL)", seconds)
    assert {trial_id: after[trial_id] for trial_id in before} == before


def test_a_worker_that_is_killed_is_replaced_and_goes_on_from_its_last_rung(home: Home, bert: Path, cost: Cost) -> None:
    folder = home.study("worker")
    driver = started(home, bert, "worker")
    until(driver, lambda: any(rungs(folder, trial) for trial in workers_of(home).values()))
    victim, trial = next(iter(workers_of(home).items()))
    before = rungs(folder, trial)
    os.kill(victim, signal.SIGKILL)
    seconds = until(driver, lambda: rungs(folder, trial) > before)
    cost("worker killed (SIGKILL)", seconds)
    well_ended(driver)
    settled(folder, TASKS, TRIALS)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=MORE)])
def test_a_study_that_is_asked_to_stop_says_how_to_go_on(
    home: Home, bert: Path, cost: Cost, number: signal.Signals
) -> None:
    name = f"asked-{number.name.lower()}"
    driver = started(home, bert, name)
    until(driver, lambda: rungs(home.study(name)) >= 3)
    driver.send_signal(number)
    said, _ = driver.communicate(timeout=120)
    assert driver.returncode == 130, said
    assert f"--resume {name}" in said
    _, seconds = resumed(home, name)
    cost("asked to stop (SIGINT, SIGTERM)", seconds)


def test_damaged_checkpoints_and_parts_are_set_aside_and_the_rest_is_used(home: Home, bert: Path, cost: Cost) -> None:
    folder = home.study("damaged")
    driver = started(home, bert, "damaged")
    until(driver, lambda: rungs(folder) >= 4)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    open_ones = [row.trial_id for row in read_trials(folder.results) if row.status is Status.INTERRUPTED]
    for kept in (path for trial in open_ones for path in folder.root.glob(f"checkpoints/{trial}/rung-*")):
        with suppress(FileNotFoundError):  # its worker, which outlives the driver for a moment, has a later one
            whole = (kept / "adapter.safetensors").read_bytes()
            (kept / "adapter.safetensors").write_bytes(whole[: len(whole) // 2])
    part, compacted = max((folder.results / "parts").glob("reports-*.parquet")), folder.results / "trials.parquet"
    part.write_bytes(part.read_bytes()[:100])
    compacted.write_bytes(b"rows of another program")
    _, seconds = resumed(home, "damaged")
    cost("checkpoint and records cut in half", seconds)
    assert all(path.with_name(path.name + ".corrupt").exists() for path in (part, compacted))


def test_a_loss_that_explodes_is_a_row(home: Home, bert: Path, cost: Cost) -> None:
    words = ["--tasks", "rte", "--trials", "2", "--space", home.space(bert), "--name", "explodes"]
    done = home.run(*words, "--set", "training.learning_rate=1e30", "--set", "training.clip_norm=1e30")
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    rows = settled(home.study("explodes"), ("rte",), 2)
    assert {row.status for row in rows.values() if row.kind == "search"} == {Status.DIVERGED}
    assert all("loss" in row.error for row in rows.values() if row.status is Status.DIVERGED)
    cost("loss exploded", 0)


def test_a_disk_that_fills_up_stops_the_study_which_goes_on_when_there_is_room(
    home: Home, bert: Path, cost: Cost
) -> None:
    """The study's folder is on a file system of a few megabytes; this needs the right to mount one."""
    place = home.root / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(place)], check=False)
    if mounted.returncode:
        pytest.skip("no right to mount a small file system")
    try:
        folder, storage = StudyFolder(place / "full"), ("--storage", str(place))
        driver = begun(home, bert, "full", ",".join(TASKS), TRIALS, *LONG, *storage)
        until(driver, lambda: len(ended(folder)) >= 3)
        ballast = place / "ballast"
        fill(ballast)
        said, _ = driver.communicate(timeout=120)
        assert driver.returncode == 130, said
        assert "When that is fixed, resume with: python run_study.py --resume full" in said
        assert "No space left on device" in said
        assert "Traceback" not in said
        assert "adapters/" not in said
        ballast.unlink()
        before = rungs(folder)
        driver = taken_up(home, "full", *storage)
        cost("disk full", until(driver, lambda: rungs(folder) > before))
        well_ended(driver)
        settled(folder, TASKS, TRIALS)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def fill(ballast: Path) -> None:
    """Writes a file until there is no space left."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"0" * 65536):
            pass
