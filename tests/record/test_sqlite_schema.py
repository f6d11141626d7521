"""Tests that a tracking store's file is complete or does not exist."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from mlflow import MlflowClient

from krona_tune.record.mlflow_mirror.mlflow_runs import ensure_schema

MAKE = "import sys; from krona_tune.record.mlflow_mirror.mlflow_runs import ensure_schema; ensure_schema(sys.argv[1])"


def making(uri: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", MAKE, uri], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def unfinished(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".mlflow.db") and path.suffix != ".lock"]


def is_being_made(folder: Path) -> bool:
    """Returns whether a file is half written; SQLite's journal may vanish between being listed and being read."""
    with suppress(FileNotFoundError):
        return any(each.stat().st_size for each in unfinished(folder))
    return False


def test_studies_that_begin_at_once_make_one_store_and_a_kill_while_it_is_made_spoils_nothing(tmp_path: Path) -> None:
    uri, path = f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "mlflow.db"
    killed = making(uri)
    deadline = time.monotonic() + 60
    while not is_being_made(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not path.exists()
    both = [making(uri) for _ in range(2)]
    assert [each.wait(120) for each in both] == [0, 0]
    assert not unfinished(tmp_path)
    assert [found.name for found in MlflowClient(uri).search_experiments()] == ["Default"]


@pytest.mark.parametrize("uri", ["http://host:5000", "postgresql://host/name"])
def test_a_server_makes_its_own(uri: str) -> None:
    ensure_schema(uri)
