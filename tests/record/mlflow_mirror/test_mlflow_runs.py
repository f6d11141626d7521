"""Tests that a store that fails at any request holds each run once, and that its file is complete or does not exist."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from krona_tune.record.background import Event, milliseconds
from krona_tune.record.mlflow_mirror import mlflow_sink
from krona_tune.record.mlflow_mirror.mlflow_runs import ensure_schema
from krona_tune.record.mlflow_mirror.mlflow_sink import MlflowStore
from krona_tune.record.records import Records
from krona_tune.study.result import Status
from tests.record.conftest import SPEC
from tests.record.events import RUNGS, ended, manifest, report, started

WRITES = ("create_run", "delete_run", "log_batch", "log_inputs", "set_terminated", "update_run")
LOST = ConnectionError("server closed the connection unexpectedly")


class Unreliable:
    """A client whose n-th writing request fails, before or after the store did it. n from 0; None: none fails."""

    def __init__(self, client: MlflowClient, failing: int | None, *, done: bool) -> None:
        self._client, self._failing, self._done = client, failing, done
        self.requests: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return self._unreliable(name, method) if name in WRITES else method

    def _unreliable(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.requests.append(name)
            fails = len(self.requests) - 1 == self._failing
            if fails and not self._done:
                raise LOST
            result = method(*args, **kwargs)
            if fails:
                raise LOST
            return result

        return call


def opened(
    uri: str, monkeypatch: pytest.MonkeyPatch, failing: int | None, *, done: bool
) -> tuple[MlflowStore, Unreliable]:
    client = Unreliable(MlflowClient(uri, uri), failing, done=done)
    monkeypatch.setattr(mlflow_sink, "connected", lambda uri: client)
    store = MlflowStore(uri, None, "first-study", manifest("cola"), SPEC)
    store.open()
    return store, client


def until_it_works(step: Callable[[], object]) -> None:
    """Runs a step again if it fails, as the mirror's thread does; it fails at most once."""
    try:
        step()
    except ConnectionError:
        step()


def sent(store: MlflowStore) -> None:
    """Sends a trial of two rungs, the first with the trial's start."""
    trial = started(0)
    rungs = [report(trial, 0, 0.25), report(trial, 1, 0.5)]
    start = Event(what=trial, at_ms=milliseconds(trial.started_at))
    told = [Event(what=rung, at_ms=milliseconds(trial.started_at) + 1 + rung.rung) for rung in rungs]
    end = Event(what=ended(trial, Status.COMPLETED, rungs), at_ms=told[-1].at_ms + 1, ended=True)
    until_it_works(lambda: list(store.behind(Records())))
    until_it_works(lambda: store.send([start, told[0]]))
    until_it_works(lambda: store.send([told[1], end]))
    until_it_works(lambda: store.close([]))


def content(uri: str) -> dict[str, Any]:
    """Returns what the store holds of each run; a name that stands twice fails."""
    client = MlflowClient(uri, uri)
    experiment = client.get_experiment_by_name("first-study")
    runs = client.search_runs([experiment.experiment_id])
    found = {
        run.info.run_name: (
            run.info.status,
            dict(run.data.params),
            {name: value for name, value in run.data.tags.items() if "parent" not in name},
            {
                name: [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, name)]
                for name in run.data.metrics
            },
            [used.dataset.digest for used in run.inputs.dataset_inputs],
        )
        for run in runs
    }
    assert len(found) == len(runs)
    return found


@pytest.fixture
def undisturbed(tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], int]:
    """Returns what a store holds in the end if no request fails, and the number of its requests."""
    store, client = opened(tracking_uri, monkeypatch, None, done=False)
    sent(store)
    return content(tracking_uri), len(client.requests)


@pytest.mark.parametrize("done", [False, True], ids=["refused", "answer lost"])
def test_a_request_that_fails_costs_nothing(
    undisturbed: tuple[dict[str, Any], int],
    empty_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    done: bool,
) -> None:
    expected, requests = undisturbed
    assert requests >= 8
    for failing in range(requests):
        copy = tmp_path / f"{failing}.db"
        copy.write_bytes(empty_store.read_bytes())
        store, client = opened(f"sqlite:///{copy}", monkeypatch, failing, done=done)
        sent(store)
        assert len(client.requests) >= requests, client.requests[failing]
        assert content(f"sqlite:///{copy}") == expected, client.requests[failing]


def test_a_run_that_a_repeated_request_made_twice_is_deleted(
    tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's own client repeats a request whose answer was lost, and returns the second run."""
    store, client = opened(tracking_uri, monkeypatch, None, done=False)
    create = client._client.create_run

    def twice(*args: Any, **kwargs: Any) -> Any:
        create(*args, **kwargs)
        return create(*args, **kwargs)

    monkeypatch.setattr(client._client, "create_run", twice)
    sent(store)
    found = content(tracking_uri)
    assert set(found) == {"cola", "cola-0000"}
    assert [step for step, _ in found["cola-0000"][3]["score"]] == list(RUNGS[:2])


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
