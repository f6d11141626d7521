"""How a study is begun in a process of its own, watched from outside, and taken up again."""

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
"""What makes the miniature last some seconds a trial."""


def begun(home: Home, model: Path, name: str, tasks: str, trials: int, *more: str) -> Driver:
    """A study's driver, begun and not waited for."""
    words = ["--tasks", tasks, "--trials", str(trials), "--space", home.space(model), "--name", name, *more]
    return subprocess.Popen(
        **home.command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def taken_up(home: Home, name: str, *more: str) -> Driver:
    """The driver that goes on with a study, not waited for."""
    return subprocess.Popen(
        **home.command("--resume", name, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def until(driver: Driver, happened: Callable[[], object]) -> float:
    """The seconds until something has happened, or the driver has ended."""
    began = time.monotonic()
    while driver.poll() is None and not happened():
        time.sleep(0.02)
    return time.monotonic() - began


def well_ended(driver: Driver) -> str:
    """What a driver said until its good end."""
    said, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, said
    return said


def synced(home: Home, name: str, tracking_uri: str) -> float:
    """The seconds that it takes to bring MLflow up to what a study recorded."""
    began = time.monotonic()
    command = home.command("sync", str(home.study(name).root), "--tracking-uri", tracking_uri)
    command["args"][:3] = [sys.executable, "-c", "from krona_tune.cli import main; main()"]
    done = subprocess.run(**command, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return time.monotonic() - began


def pass_over(path: Path, refusal: Refusal) -> None:
    """A file that a test damaged, until the driver has set it aside."""


def rungs(folder: StudyFolder, trial_id: str | None = None) -> int:
    """How many reports a study has kept: all, or those of a trial."""
    reports = read_reports(folder.results, pass_over) if folder.results.exists() else []
    return sum(trial_id in {None, report.trial_id} for report in reports)


def ended(folder: StudyFolder) -> dict[str, TrialResult]:
    rows = read_trials(folder.results, pass_over) if folder.results.exists() else []
    return {row.trial_id: row for row in rows if row.status is not Status.INTERRUPTED}


def workers_of(home: Home) -> dict[int, str]:
    """The processes that train for the studies at home, each with its trial's id."""
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
