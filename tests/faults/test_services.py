"""Tests that if the tracking server fails and returns during a study, the study warns, each run is there once, and the
server's password nowhere."""

from pathlib import Path

import pytest

from krona_tune.study.folder import StudyFolder
from tests.faults.conftest import Cost
from tests.faults.consistency import settled
from tests.faults.drivers import ENDLESS, NO_HEAD, begun, rungs, seen, stop, synced, well_ended
from tests.services.processes import free_port, mlflow_server
from tests.whole_studies import ONE_WORKER, Home, WarmProgram

pytestmark = pytest.mark.slow
TASK = "cola"
PASSWORD = "correct-horse-7"


def warned(folder: StudyFolder) -> bool:
    return "the study continues" in folder.log.read_text(encoding="utf-8")


def test_a_server_that_is_gone_and_back_costs_a_warning_and_its_password_stays_secret(
    home: Home, bert: Path, warm: WarmProgram, tmp_path: Path, cost: Cost
) -> None:
    folder, port, kept = home.study("server"), free_port(), f"sqlite:///{tmp_path / 'backend.db'}"
    asked = f"http://me:{PASSWORD}@127.0.0.1:{port}"
    with mlflow_server(tmp_path, kept, port):
        driver = begun(home, bert, "server", TASK, 2, *ENDLESS, *NO_HEAD, *ONE_WORKER, "--tracking-uri", asked)
        seen(driver, lambda: rungs(folder) >= 3)
    stop(folder, f"{TASK}-000")
    seen(driver, lambda: rungs(folder, f"{TASK}-001") and warned(folder))
    with mlflow_server(tmp_path, kept, port) as address:
        stop(folder, f"{TASK}-001")
        said = well_ended(driver)
        seconds = synced(home, warm, "server", address)
        settled(folder, (TASK,), 2, address, head=False)
    cost("MLflow server gone and back", seconds)
    files = [path for path in folder.root.rglob("*") if path.is_file()]
    assert PASSWORD not in said
    assert [path.name for path in files if PASSWORD.encode() in path.read_bytes()] == []
