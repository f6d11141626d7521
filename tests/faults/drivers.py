"""Starts a study in its own process, watches it from outside, and resumes it."""

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from krona_tune.record.orders import give_order
from krona_tune.record.parquet_reader import read_reports, read_trials
from krona_tune.record.records import read_records
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import OrderRequest
from krona_tune.study.result import Status, TrialResult
from tests.waiting import PATIENCE, until
from tests.whole_studies import RUN_STUDY, SOON, Home, WarmProgram

Driver = subprocess.Popen[str]
Found = TypeVar("Found")
TO_THE_END = ("--set", "search.early_stopping=false")
"""Makes every trial pass each rung, so that one which is seen after its first has more before it."""
BARE = f"{SOON}{RUN_STUDY}"
"""`run_study.py`, but what takes seconds and is not tested is left out."""
TRAINER = "ray::KronaTrial"
"""What the title of a process begins with that holds a trial."""
LONG = ("--set", "schedule.epochs=16", "--set", "examples.train=256")
"""Makes the miniature take a few seconds per trial."""
ENDLESS = (
    *("--set", "examples.train=2048", "--set", "schedule.epochs=200", "--set", "schedule.report_every=epoch"),
    *("--set", "search.early_stopping=false", "--set", "finalists={top: 0}"),
)
"""Makes a trial take minutes, with a report every second or so: it ends when somebody orders that."""
NO_HEAD = ("--set", "search.baseline_learning_rates=[]")
"""Leaves out the head alone, which nobody can stop."""


def begun(home: Home, model: Path, name: str, tasks: str, trials: int, *more: str, program: str = BARE) -> Driver:
    """Starts a study's driver without waiting for it."""
    words = ["--tasks", tasks, "--trials", str(trials), "--space", home.space(model), "--name", name, *more]
    return subprocess.Popen(
        **home.command(*words, program=program),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def taken_up(home: Home, name: str, *more: str, program: str = BARE) -> Driver:
    """Starts a driver that resumes a study, without waiting for it."""
    return subprocess.Popen(
        **home.command("--resume", name, *more, program=program),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def until_or_end(driver: Driver, happened: Callable[[], object]) -> float:
    """Waits until something has happened or the driver has ended; returns the seconds."""
    return until(lambda: driver.poll() is not None or happened())


def seen(driver: Driver, look: Callable[[], Found]) -> Found:
    """Looks until something is found, which must come before the driver ends; returns it."""
    found = look()

    def is_found() -> bool:
        nonlocal found
        found = found or look()
        assert found or driver.poll() is None, driver.communicate()[0]
        return bool(found)

    until(is_found)
    return found


def well_ended(driver: Driver) -> str:
    """Waits for the driver, asserts that it ends well, and returns its output."""
    said, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, said
    return said


def stop(folder: StudyFolder, trial: str) -> None:
    """Orders a trial's end."""
    give_order(folder, OrderRequest(what="stop_trial", trial=trial), by="ann")


def synced(home: Home, warm: WarmProgram, name: str, tracking_uri: str) -> float:
    """Returns the seconds that a sync needs to bring MLflow up to date with a study's records."""
    began = time.monotonic()
    done = warm.run(home, "sync", str(home.study(name).root), "--tracking-uri", tracking_uri, program="main")
    assert done.returncode == 0, done.stdout + done.stderr
    return time.monotonic() - began


def pass_over(path: Path, refusal: Refusal) -> None:
    """Ignores a file that a test damaged, until the driver has quarantined it."""


def rungs(folder: StudyFolder, trial_id: str | None = None) -> int:
    """Returns how many reports a study has kept: all, or those of a trial."""
    reports = read_reports(folder.results, pass_over) if folder.results.exists() else []
    return sum(trial_id in {None, report.trial_id} for report in reports)


def running(folder: StudyFolder) -> list[str]:
    """Returns the searched trials that run now."""
    found = read_records(folder.results, runs=True)
    kinds = {row.trial_id: row.kind for row in found.trials}
    return sorted(each for each in found.running if kinds[each] == "search")


def ended(folder: StudyFolder) -> dict[str, TrialResult]:
    rows = read_trials(folder.results, pass_over) if folder.results.exists() else []
    return {row.trial_id: row for row in rows if row.status is not Status.INTERRUPTED}


def workers_of(home: Home) -> dict[int, str]:
    """Returns the processes that train for the studies at home, each with its trial's id."""
    found = {process: re.match(r"(\w+-\w+(?:-\w+)*), .*\.train", at) for process, at in trainers_of(home).items()}
    return {process: trial[1] for process, trial in found.items() if trial}


def trainers_of(home: Home) -> dict[int, str]:
    """Returns the workers of the studies at home that hold a trial, whether they train or wait, with their titles."""
    found = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                title = (process / "cmdline").read_text(encoding="utf-8", errors="replace")
                places = (process / "environ").read_bytes()
            except OSError:
                continue
            if title.startswith(TRAINER) and str(home.root).encode() in places:
                found[int(process.name)] = title.removeprefix(TRAINER).lstrip("(")
    return found


def in_the_middle(home: Home, folder: StudyFolder) -> dict[int, str]:
    """Returns the processes that train, and their trials, that have passed a first rung and have more than one to go.

    They are those of a study whose trials have five rungs each: LONG, to the end.
    """
    return {process: trial for process, trial in workers_of(home).items() if 1 <= rungs(folder, trial) <= 3}


def goes_on(home: Home, driver: Driver, trial: str, folder: StudyFolder, lost: int) -> float:
    """Waits until another process than the lost one has brought a trial further; returns the seconds.

    What the lost one reported last may come after its end, and shows nothing.
    """
    began = time.monotonic()
    seen(driver, lambda: trial in ended(folder) or trial in {**workers_of(home), lost: ""}.values())
    before = rungs(folder, trial)
    seen(driver, lambda: trial in ended(folder) or rungs(folder, trial) > before)
    return time.monotonic() - began


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
