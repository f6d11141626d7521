"""Tests whom a request to stop reaches: the process that runs the study, and no other."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest

from krona_tune.api.driver_process import stop_driver
from krona_tune.record.ownership import lock_of, this_host
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    found = StudyFolder(tmp_path / "first")
    found.root.mkdir()
    return found


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        ("elsewhere/7", "stop: the study runs on elsewhere, as process 42; stop it there"),
        ("elsewhere", "stop: the study runs on elsewhere, as process 42; stop it there"),
        (f"{gethostname()}/7", "stop: the study runs on another machine of this name, or in another container, as"),
    ],
)
def test_a_study_of_another_machine_or_container_is_stopped_there(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch, machine: str, said: str
) -> None:
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a stranger's process is asked to stop"))
    folder.driver.write_text(f"42 {machine}", encoding="utf-8")
    with lock_of(folder), pytest.raises(Refusal, match=said):
        stop_driver(folder, None, 1.0)


@pytest.mark.parametrize("machine", [this_host(), gethostname()], ids=["now", "an older version"])
def test_the_process_that_runs_the_study_is_asked(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch, machine: str
) -> None:
    lock, asked = lock_of(folder), list[Any]()

    def kill(process: int, number: int) -> None:
        asked.append((process, number))
        lock.release()

    monkeypatch.setattr(os, "kill", kill)
    folder.driver.write_text(f"42 {machine}", encoding="utf-8")
    with lock:
        stop_driver(folder, None, 1.0)
    assert asked == [(42, signal.SIGINT)]


def test_a_process_that_is_gone_is_no_traceback(folder: StudyFolder) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    folder.driver.write_text(f"{dead.pid} {this_host()}", encoding="utf-8")
    with lock_of(folder), pytest.raises(Refusal, match=f"stop: process {dead.pid}, which runs the study, is not here"):
        stop_driver(folder, None, 1.0)


def test_another_users_process_is_no_traceback(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(*of: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    folder.driver.write_text(f"42 {this_host()}", encoding="utf-8")
    with lock_of(folder), pytest.raises(Refusal, match=r"belongs to another user; .*krona-tune order first .*cancel"):
        stop_driver(folder, None, 1.0)
