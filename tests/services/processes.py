"""Starts and ends programs for tests, each on its own port."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from krona_tune.search.ray_internals import HIGHEST_PORT, LOWEST_PORT
from tests.waiting import has_ended, until

UNPRIVILEGED = "nobody"
"""PostgreSQL does not run as root."""


def free_port() -> int:
    """Returns a port on which nobody listens, of those that no system gives to another process meanwhile."""
    while True:
        port = random.randint(LOWEST_PORT, HIGHEST_PORT)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def get(url: str, seconds: float = 10) -> str:
    with urllib.request.urlopen(url, timeout=seconds) as answer:
        return str(answer.read().decode())


@contextmanager
def serving(command: Sequence[str], url: str, log: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Starts a program; it answers at `url` before the context begins, and is killed when the context ends.

    A server that is asked to end may take seconds for that, and what it has answered is kept all the same.
    """
    with log.open("ab") as said:
        child = subprocess.Popen(
            command, stdout=said, stderr=said, env={**os.environ, **environment}, start_new_session=True
        )
    try:
        _await(child, url, log)
        yield
    finally:
        started = psutil.Process(child.pid).children(recursive=True) if child.poll() is None else []
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        until(lambda: all(has_ended(each.pid) for each in started))


def _await(child: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    def said() -> str:
        return f"{url} did not answer:\n{log.read_text()[-2000:]}"

    def answers() -> bool:
        assert child.poll() is None, said()
        try:
            get(url)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        return True

    until(answers, said=said)


@contextmanager
def mlflow_server(home: Path, backend: str, port: int) -> Iterator[str]:
    """Starts an MLflow server that stores and serves the artifacts itself; yields its address."""
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", backend, "--artifacts-destination", str(home / "artifacts")]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with serving(command, f"{address}/health", home / "server.log", quiet):
        yield address


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL in `home`, which a test may stop and start again; it keeps its data."""

    home: Path
    port: int
    program: str

    @property
    def address(self) -> str:
        return f"postgresql://krona@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.home, UNPRIVILEGED)
            self.home.chmod(0o755)
        self._tell("initdb", "-o", "--username=krona --auth=trust --no-sync")

    def start(self) -> None:
        options = f"-p {self.port} -k {self.home} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._tell("start", "-w", "-l", str(self._cluster / "log"), "-o", options)

    def stop(self, how: str = "fast") -> None:
        """Stops it: `fast` ends every connection, `immediate` is a crash."""
        self._tell("stop", "-w", "-m", how)

    @property
    def _cluster(self) -> Path:
        return self.home / "cluster"

    def _tell(self, what: str, *words: str) -> None:
        who = UNPRIVILEGED if os.geteuid() == 0 else None
        command = [self.program, what, "-D", str(self._cluster), *words]
        with (self.home / "pg_ctl.log").open("ab") as said:
            subprocess.run(command, user=who, cwd=self.home, stdout=said, stderr=said, check=True)


@contextmanager
def postgres(home: Path) -> Iterator[Postgres]:
    """Yields a running PostgreSQL; skips the test if PostgreSQL is not installed."""
    program = _pg_ctl()
    if program is None:
        pytest.skip("PostgreSQL is not installed")
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed")
    made = Postgres(home, free_port(), program)
    made.create()
    made.start()
    try:
        yield made
    finally:
        made.stop()


def _pg_ctl() -> str | None:
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
    return str(packaged[-1]) if packaged else shutil.which("pg_ctl")
