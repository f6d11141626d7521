"""Provides a tracking store whose tables exist already; creating them takes seconds, so it is done once."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from krona_tune.record import ownership
from krona_tune.record.mlflow_mirror.mlflow_runs import ENVIRONMENT
from krona_tune.record.mlflow_mirror.mlflow_sink import MlflowSink, MlflowStore
from krona_tune.record.remote_copy import Copy
from krona_tune.study.folder import StudyFolder
from tests.record.copies import on, recorded
from tests.record.events import manifest
from tests.whole_studies import empty_store

SPEC = "model: tiny\n"


@pytest.fixture(scope="session", autouse=True)
def _environment() -> Iterator[None]:
    """Sets the sink's default variables before mlflow is imported, and restores the environment afterwards."""
    before = dict(os.environ)
    os.environ.update(ENVIRONMENT)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def tracking_uri(tmp_path: Path) -> str:
    (tmp_path / "mlflow.db").write_bytes(empty_store())
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def mlflow_sink(tracking_uri: str, tmp_path: Path) -> Callable[[], MlflowSink]:
    """Returns a function that opens the sink of one study, each time as a new session would."""
    return lambda: MlflowSink(
        MlflowStore(
            tracking_uri=tracking_uri, study="first-study", manifest=manifest("cola", "rte", synthetic=True), spec=SPEC
        )
    )


@pytest.fixture(autouse=True)
def _what_is_logged_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes krona_tune's loggers propagate, whatever ran in this process before."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "krona_tune"]
    for logger in map(logging.getLogger, names):
        monkeypatch.setattr(logger, "propagate", True)
        monkeypatch.setattr(logger, "disabled", False)


@pytest.fixture(params=["file", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yields an empty URI of each kind."""
    if request.param == "file":
        yield f"file://{tmp_path}/elsewhere"
        return
    name = f"memory://{tmp_path.name}/studies"
    yield name
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def here(uri: str, tmp_path: Path) -> StudyFolder:
    """Returns a study with a driver on its first machine: three trials, one of them running."""
    folder = on(tmp_path / "here", uri)
    recorded(folder, 3)
    folder.spec.write_text("tasks: [cola]\n", encoding="utf-8")
    folder.journal.write_text("1\n22\n", encoding="utf-8")
    for left_out in (folder.ray / "state", folder.checkpoints / "cola-0000" / "rung-1", folder.root / ".lock"):
        left_out.parent.mkdir(parents=True, exist_ok=True)
        left_out.write_text("not copied", encoding="utf-8")
    os.symlink(folder.journal, f"{folder.journal}.lock")
    Copy(folder).make_origin()
    return folder


@pytest.fixture(autouse=True)
def settled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a claim on a study's copy wait for no other: on a folder of this machine each sees the other at once."""
    monkeypatch.setattr(ownership, "SETTLED_SECONDS", 0.0)
