"""Starts a study in its own process, watches it from outside, and resumes it."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from krona_tune.record.parquet_reader import read_reports, read_trials
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Status, TrialResult
from tests.search.test_study import Home

Driver = subprocess.Popen[str]
LONG = ("--set", "schedule.epochs=16", "--set", "examples.train=256")
"""Makes the miniature take a few seconds per trial."""


def begun(home: Home, model: Path, name: str, tasks: str, trials: int, *more: str) -> Driver:
    """Starts a study's driver without waiting for it."""
    words = ["--tasks", tasks, "--trials", str(trials), "--space", home.space(model), "--name", name, *more]
    return subprocess.Popen(
        **home.command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def taken_up(home: Home, name: str, *more: str) -> Driver:
    """Starts a driver that resumes a study, without waiting for it."""
    return subprocess.Popen(
        **home.command("--resume", name, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def until(driver: Driver, happened: Callable[[], object]) -> float:
    """Waits until something has happened or the driver has ended; returns the seconds."""
    began = time.monotonic()
    while driver.poll() is None and not happened():
        time.sleep(0.02)
    return time.monotonic() - began


def well_ended(driver: Driver) -> str:
    """Waits for the driver, asserts that it ends well, and returns its output."""
    said, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, said
    return said


def synced(home: Home, name: str, tracking_uri: str) -> float:
    """Returns the seconds that a sync needs to bring MLflow up to date with a study's records."""
    began = time.monotonic()
    command = home.command("sync", str(home.study(name).root), "--tracking-uri", tracking_uri)
    command["args"][:3] = [sys.executable, "-c", "from krona_tune.cli import program; program()"]
    done = subprocess.run(**command, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return time.monotonic() - began


def pass_over(path: Path, refusal: Refusal) -> None:
    """Ignores a file that a test damaged, until the driver has quarantined it."""


def rungs(folder: StudyFolder, trial_id: str | None = None) -> int:
    """Returns how many reports a study has kept: all, or those of a trial."""
    reports = read_reports(folder.results, pass_over) if folder.results.exists() else []
    return sum(trial_id in {None, report.trial_id} for report in reports)


def ended(folder: StudyFolder) -> dict[str, TrialResult]:
    rows = read_trials(folder.results, pass_over) if folder.results.exists() else []
    return {row.trial_id: row for row in rows if row.status is not Status.INTERRUPTED}


def workers_of(home: Home) -> dict[int, str]:
    """Returns the processes that train for the studies at home, each with its trial's id."""
    found = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                title = (process / "cmdline").read_text(encoding="utf-8", errors="replace")
                places = (process / "environ").read_bytes()
            except OSError:
                continue
            trial = re.match(r"ray::KronaTrial\((\w+-\w+(?:-\w+)*), .*\.train", title)
            if trial and str(home.root).encode() in places:
                found[int(process.name)] = trial[1]
    return found


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
