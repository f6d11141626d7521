"""Provides a tracking store whose tables exist already; creating them takes seconds, so it is done once."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from krona_tune.record.mlflow_mirror.mlflow_runs import ENVIRONMENT
from krona_tune.record.mlflow_mirror.mlflow_sink import MlflowSink
from tests.record.events import manifest

SPEC = "model: tiny\n"


@pytest.fixture(scope="session", autouse=True)
def _environment() -> Iterator[None]:
    """Sets the sink's default variables before mlflow is imported, and restores the environment afterwards."""
    before = dict(os.environ)
    os.environ.update(ENVIRONMENT)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    sink = MlflowSink(tracking_uri=uri, artifact_location=None, study="none", manifest=manifest(), spec=SPEC)
    sink.study_ended([])
    assert sink.unsent == 0
    return folder / "mlflow.db"


@pytest.fixture
def tracking_uri(empty_store: Path, tmp_path: Path) -> str:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def mlflow_sink(tracking_uri: str, tmp_path: Path) -> Callable[[], MlflowSink]:
    """Returns a function that opens the sink of one study, each time as a new session would."""
    return lambda: MlflowSink(
        tracking_uri=tracking_uri,
        artifact_location=(tmp_path / "mlartifacts").as_uri(),
        study="first-study",
        manifest=manifest("cola", "rte", synthetic=True),
        spec=SPEC,
    )
