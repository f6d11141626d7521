"""A study ends with every trial accounted for once, whatever happened to its processes and files on the way."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from krona_tune.record.read import read_reports, read_trials
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Status, TrialResult
from tests.faults.accounts import settled
from tests.search.test_study import Home, bert, home  # noqa: F401

pytestmark = pytest.mark.slow
TASKS, TRIALS = ("cola", "rte"), 4
LONG = ["--set", "schedule.epochs=16", "--set", "examples.train=256"]


def begun(home: Home, model: Path, name: str) -> "subprocess.Popen[str]":  # noqa: F811
    words = ["--tasks", ",".join(TASKS), "--trials", str(TRIALS), "--space", home.space(model), "--name", name, *LONG]
    return subprocess.Popen(
        **home.command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def until(driver: "subprocess.Popen[str]", happened: Callable[[], bool]) -> None:
    while driver.poll() is None and not happened():
        time.sleep(0.02)


def rungs(folder: StudyFolder) -> int:
    return len(read_reports(folder.results)) if folder.results.exists() else 0


def resumed(home: Home, name: str) -> dict[str, TrialResult]:  # noqa: F811
    done = home.run("--resume", name)
    assert done.returncode == 0, done.stdout + done.stderr
    return settled(home.study(name), TASKS, TRIALS)


def ended(folder: StudyFolder) -> dict[str, TrialResult]:
    rows = read_trials(folder.results) if folder.results.exists() else []
    return {row.trial_id: row for row in rows if row.status is not Status.INTERRUPTED}


@pytest.mark.parametrize("moment", range(10))
def test_a_driver_that_is_killed_loses_nothing(home: Home, bert: Path, moment: int) -> None:  # noqa: F811
    """At the start, and after 1, 2, … rungs, at some time between two events."""
    name, folder = f"killed-{moment}", home.study(f"killed-{moment}")
    driver = begun(home, bert, name)
    until(driver, lambda: folder.manifest.exists() and rungs(folder) >= moment)
    time.sleep(random.Random(moment).uniform(0, 0.5))
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    before = ended(folder)
    after = resumed(home, name)
    assert {trial_id: after[trial_id] for trial_id in before} == before


def test_a_worker_that_is_killed_is_replaced_and_goes_on_from_its_last_rung(home: Home, bert: Path) -> None:  # noqa: F811
    folder = home.study("worker")
    driver = begun(home, bert, "worker")
    until(driver, lambda: any(folder.root.glob("checkpoints/*-00*/rung-1")))
    while not (victims := workers_of(home)):
        assert driver.poll() is None
    os.kill(victims[0], signal.SIGKILL)
    said, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, said
    settled(folder, TASKS, TRIALS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_study_that_is_asked_to_stop_says_how_to_go_on(home: Home, bert: Path, number: signal.Signals) -> None:  # noqa: F811
    name = f"asked-{number.name.lower()}"
    driver = begun(home, bert, name)
    until(driver, lambda: rungs(home.study(name)) >= 3)
    driver.send_signal(number)
    said, _ = driver.communicate(timeout=120)
    assert driver.returncode == 130, said
    assert f"--resume {name}" in said
    resumed(home, name)


def test_damaged_checkpoints_and_parts_are_set_aside_and_the_rest_is_used(home: Home, bert: Path) -> None:  # noqa: F811
    folder = home.study("damaged")
    driver = begun(home, bert, "damaged")
    until(driver, lambda: rungs(folder) >= 4)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    open_ones = [row.trial_id for row in read_trials(folder.results) if row.status is Status.INTERRUPTED]
    for kept in (path for trial in open_ones for path in folder.root.glob(f"checkpoints/{trial}/rung-*")):
        whole = (kept / "adapter.safetensors").read_bytes()
        (kept / "adapter.safetensors").write_bytes(whole[: len(whole) // 2])
    part = max((folder.results / "parts").glob("reports-*.parquet"))
    part.write_bytes(part.read_bytes()[:100])
    resumed(home, "damaged")
    assert part.with_name(part.name + ".corrupt").exists()


def test_a_loss_that_explodes_is_a_row(home: Home, bert: Path) -> None:  # noqa: F811
    words = ["--tasks", "rte", "--trials", "2", "--space", home.space(bert), "--name", "explodes"]
    done = home.run(*words, "--set", "training.learning_rate=1e30", "--set", "training.clip_norm=1e30")
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    rows = settled(home.study("explodes"), ("rte",), 2)
    assert {row.status for row in rows.values() if row.kind == "search"} == {Status.DIVERGED}
    assert all("loss" in row.error for row in rows.values() if row.status is Status.DIVERGED)


def test_a_full_disk_is_said_and_the_study_goes_on_when_there_is_room(home: Home, bert: Path) -> None:  # noqa: F811
    """A file system of a few megabytes holds the study's folder; needs the right to mount one."""
    place = home.root / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(place)], check=False)
    if mounted.returncode:
        pytest.skip("no right to mount a small file system")
    try:
        words = [
            "--tasks",
            "rte",
            "--trials",
            "2",
            "--space",
            home.space(bert),
            "--name",
            "full",
            "--storage",
            str(place),
        ]
        first = home.run(*words, *LONG)
        assert first.returncode == 0, first.stdout + first.stderr
        ballast = place / "ballast"
        fill(ballast)
        blocked = home.run("--resume", "full", "--trials", "4", "--storage", str(place))
        assert blocked.returncode != 0 or "No space" in blocked.stdout + blocked.stderr
        ballast.unlink()
        done = home.run("--resume", "full", "--trials", "4", "--storage", str(place))
        assert done.returncode == 0, done.stdout + done.stderr
        settled(StudyFolder(place / "full"), ("rte",), 4)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def fill(ballast: Path) -> None:
    """Writes a file until there is no space left."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"0" * 65536):
            pass


def workers_of(home: Home) -> list[int]:  # noqa: F811
    """The processes that train for the study at home."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                title = (process / "cmdline").read_bytes()
                places = (process / "environ").read_bytes()
            except OSError:
                continue
            if title.startswith(b"ray::") and b"train" in title and str(home.root).encode() in places:
                found.append(int(process.name))
    return found
