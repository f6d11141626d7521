"""Tests that a study ends with every trial counted once, whatever happened to its processes, its Ray and its files.

A driver that loses its Ray, or is asked to stop with all its processes, closes its records, says how to resume, and
leaves no process behind.
"""

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from krona_tune.record.parquet_reader import read_trials
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Status, TrialResult
from tests.conftest import Run
from tests.faults.conftest import Cost
from tests.faults.consistency import settled
from tests.faults.drivers import (
    LONG,
    TO_THE_END,
    Driver,
    begun,
    ended,
    goes_on,
    in_the_middle,
    rungs,
    seen,
    taken_up,
    until_or_end,
    well_ended,
)
from tests.waiting import PATIENCE, until
from tests.whole_studies import ONE_WORKER, RUN_STUDY, Home, WarmProgram

pytestmark = pytest.mark.slow
TASKS, TRIALS = ("cola", "rte"), 2


def started(home: Home, model: Path, name: str, *more: str) -> Driver:
    return begun(home, model, name, ",".join(TASKS), TRIALS, *LONG, *TO_THE_END, *more, program=RUN_STUDY)


def resumed(home: Home, name: str, *more: str) -> tuple[Driver, float]:
    """Resumes a study; returns its driver, and the seconds until the study had a new report or was done."""
    before = rungs(home.study(name))
    driver = taken_up(home, name, *more)
    return driver, until_or_end(driver, lambda: rungs(home.study(name)) > before)


def of(before: dict[str, TrialResult], after: dict[str, TrialResult]) -> dict[str, TrialResult]:
    """Returns of the later rows those of the trials that had ended before."""
    return {trial_id: row for trial_id, row in after.items() if trial_id in before}


def killed(driver: Driver) -> None:
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()


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
    "SIGTERM to every process": (ask_all, 130, "Interrupted. Resume with"),
    "Ray's raylet killed": (kill("raylet"), 75, "Stopped, Ray's raylet ended. Resume with"),
    "SIGTERM to the driver's group": (ask_group, 130, "Interrupted. Resume with"),
}


def test_a_study_outlives_its_worker_its_ray_its_drivers_and_damage(
    home: Home, bert: Path, cost: Cost, run: Run
) -> None:
    """Drivers lose their Ray or are asked to stop with all processes; the next loses a worker and is killed itself."""
    folder, driver = home.study("outlives"), started(home, bert, "outlives", *ONE_WORKER)
    seen(driver, lambda: rungs(folder) >= 2)
    for fault in list(FAULTS)[:2]:
        done = ended(folder)
        ends_in_order(driver, "outlives", *FAULTS[fault])
        assert of(done, ended(folder)) == done
        driver, seconds = resumed(home, "outlives", *ONE_WORKER)
        cost(fault, seconds)
    refuses_a_second_driver(folder, run)
    cost("a second driver under the same name", 0)
    assert driver.poll() is None

    worker, trial = seen(driver, lambda: next(iter(in_the_middle(home, folder).items()), None))
    os.kill(worker, signal.SIGKILL)
    cost("worker killed (SIGKILL)", goes_on(home, driver, trial, folder, lost=worker))
    parts = folder.results / "parts"
    seen(driver, lambda: list(parts.glob("reports-*.parquet")))
    killed(driver)
    cut_in_half = [max(parts.glob("reports-*.parquet")), folder.results / "trials.parquet"]
    damage(folder, *cut_in_half)
    driver, seconds = resumed(home, "outlives", *ONE_WORKER)
    cost("driver killed (SIGKILL), checkpoint and records cut in half", seconds)
    well_ended(driver)
    settled(folder, TASKS, TRIALS)
    assert all(path.with_name(path.name + ".corrupt").exists() for path in cut_in_half)


@pytest.mark.long
@pytest.mark.parametrize("fault", list(FAULTS)[2:])
def test_a_study_ends_in_order_whatever_happens_to_its_processes(
    home: Home, bert: Path, cost: Cost, fault: str
) -> None:
    name = fault.rsplit(maxsplit=1)[-1]
    driver = started(home, bert, name)
    seen(driver, lambda: rungs(home.study(name)))
    ends_in_order(driver, name, *FAULTS[fault])
    driver, seconds = resumed(home, name)
    cost(fault, seconds)
    well_ended(driver)
    settled(home.study(name), TASKS, TRIALS)


def ends_in_order(driver: Driver, name: str, happens: Callable[[Driver], None], status: int, reason: str) -> None:
    """Lets it happen; asserts that the driver ends soon, says how to resume and leaves no process."""
    happens(driver)
    said, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == status, said
    assert f"{reason}: krona-tune resume {name}" in said
    assert "Traceback" not in said
    until(lambda: not session_of(driver))


def refuses_a_second_driver(folder: StudyFolder, run: Run) -> None:
    """Asserts that a driver which wants a study that is being run is refused and changes nothing."""
    before = folder.manifest.read_bytes()
    status, _, said = run("--resume", folder.name, "--storage", folder.root.parent)
    assert (status, "is being run; wait for it; krona-tune watch" in said) == (2, True), said
    assert folder.manifest.read_bytes() == before


def damage(folder: StudyFolder, part: Path, compacted: Path) -> None:
    """Cuts the checkpoints of the trials that have not ended, and a part of the records, and breaks the other part."""
    open_ones = [row.trial_id for row in read_trials(folder.results) if row.status is Status.INTERRUPTED]
    for kept in (path for trial in open_ones for path in folder.root.glob(f"checkpoints/{trial}/rung-*")):
        with suppress(FileNotFoundError):  # its worker, which outlives the driver for a moment, has a later one
            whole = (kept / "adapter.safetensors").read_bytes()
            (kept / "adapter.safetensors").write_bytes(whole[: len(whole) // 2])
    part.write_bytes(part.read_bytes()[:100])
    compacted.write_bytes(b"rows of another program")


@pytest.mark.long
@pytest.mark.parametrize("moment", [0, 1, 2, 4, 6, 8])
def test_a_driver_that_is_killed_loses_nothing(home: Home, bert: Path, cost: Cost, moment: int) -> None:
    """The driver is killed at the start, and as soon as 1, 2, … rungs are seen in its records."""
    name, folder = f"killed-{moment}", home.study(f"killed-{moment}")
    driver = started(home, bert, name)
    until_or_end(driver, lambda: folder.manifest.exists() and rungs(folder) >= moment)
    killed(driver)
    before = ended(folder)
    driver, seconds = resumed(home, name)
    cost("driver killed (SIGKILL)", seconds)
    well_ended(driver)
    assert of(before, settled(folder, TASKS, TRIALS)) == before


@pytest.mark.long
def test_a_study_that_is_asked_to_stop_by_sigterm_says_how_to_go_on(home: Home, bert: Path, cost: Cost) -> None:
    driver = started(home, bert, "asked")
    until_or_end(driver, lambda: rungs(home.study("asked")) >= 3)
    driver.send_signal(signal.SIGTERM)
    said, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 130, said
    assert "resume asked" in said
    driver, seconds = resumed(home, "asked")
    cost("asked to stop (SIGINT, SIGTERM)", seconds)
    well_ended(driver)
    settled(home.study("asked"), TASKS, TRIALS)


def test_a_loss_that_explodes_is_a_row(home: Home, bert: Path, cost: Cost, warm: WarmProgram) -> None:
    words = ["--tasks", "rte", "--trials", "2", "--space", home.space(bert), "--name", "explodes"]
    done = warm.run(home, *words, "--set", "training.learning_rate=1e30", "--set", "training.clip_norm=1e30")
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
        driver = begun(home, bert, "full", "cola", 2, *ONE_WORKER, *LONG, *storage)
        seen(driver, lambda: ended(folder))
        ballast = place / "ballast"
        fill(ballast)
        said, _ = driver.communicate(timeout=PATIENCE)
        assert driver.returncode == 130, said
        assert "When that is fixed, resume with: krona-tune resume full" in said
        assert "No space left on device" in said
        assert "Traceback" not in said
        assert "adapters/" not in said
        ballast.unlink()
        before = rungs(folder)
        driver = taken_up(home, "full", *ONE_WORKER, *storage)
        cost("disk full", until_or_end(driver, lambda: rungs(folder) > before))
        well_ended(driver)
        settled(folder, ("cola",), 2)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def fill(ballast: Path) -> None:
    """Writes a file until there is no space left."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"0" * 65536):
            pass
