"""Provides the tracking stores of a study: a sqlite file, a server on sqlite, a server on PostgreSQL."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from krona_tune.record.mlflow_mirror.mlflow_runs import ENVIRONMENT
from tests.services.processes import Postgres, free_port, mlflow_server, postgres


@pytest.fixture(scope="session", autouse=True)
def _environment() -> Iterator[None]:
    """Makes a dead server noticeable in seconds; restores the environment afterwards."""
    before = dict(os.environ)
    os.environ.update({**ENVIRONMENT, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"})
    yield
    os.environ.clear()
    os.environ.update(before)


@dataclass(frozen=True)
class Server:
    """An MLflow server that a test may start and stop repeatedly; it keeps its data."""

    home: Path
    backend: str
    port: int

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def up(self) -> Iterator[str]:
        with mlflow_server(self.home, self.backend, self.port) as address:
            yield address


@pytest.fixture(scope="session")
def database() -> Iterator[Postgres]:
    """Yields an empty PostgreSQL; skips the test if PostgreSQL is not installed."""
    with tempfile.TemporaryDirectory(prefix="krona-pg-") as home, postgres(Path(home)) as made:
        yield made


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Server:
    home = tmp_path / "server"
    home.mkdir()
    if request.param == "sqlite":
        return Server(home, f"sqlite:///{home / 'backend.db'}", free_port())
    return Server(home, fresh(request.getfixturevalue("database").address, f"t{free_port()}"), free_port())


def fresh(address: str, name: str) -> str:
    """Returns the URI of a new database for one test."""
    import psycopg2

    connection = psycopg2.connect(address)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    connection.close()
    return f"{address.rpartition('/')[0]}/{name}".replace("postgresql://", "postgresql+psycopg2://")
