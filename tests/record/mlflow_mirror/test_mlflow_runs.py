"""Tests that a store that fails at any request holds each run once, and that its file is complete or does not exist."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
from tests.waiting import until
from tests.whole_studies import empty_store

WRITES = ("create_run", "delete_run", "log_batch", "log_inputs", "set_terminated", "update_run")
REQUESTS = 13
"""How many requests it takes to send what `sent` sends."""
LOST = ConnectionError("server closed the connection unexpectedly")


class Unreliable:
    """A client whose n-th writing request fails, before or after the store did it. n from 0; None: none fails."""

    def __init__(self, client: MlflowClient, failing: int | None, *, done: bool) -> None:
        self.client, self.failing, self.done = client, failing, done
        self.requests: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)
        return self._unreliable(name, method) if name in WRITES else method

    def _unreliable(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.requests.append(name)
            fails = len(self.requests) - 1 == self.failing
            if fails and not self.done:
                raise LOST
            result = method(*args, **kwargs)
            if fails:
                raise LOST
            return result

        return call


def opened(
    uri: str, monkeypatch: pytest.MonkeyPatch, failing: int | None = None, *, done: bool = False
) -> tuple[MlflowStore, Unreliable]:
    client = Unreliable(MlflowClient(uri, uri), failing, done=done)
    monkeypatch.setattr(mlflow_sink, "connected", lambda uri: client)
    store = MlflowStore(tracking_uri=uri, study="first-study", manifest=manifest("cola"), spec=SPEC)
    store.open()
    return store, client


def until_it_works(step: Callable[[], object], failures: int = 1) -> None:
    """Runs a step again if it fails, as the mirror's thread does; it fails so many times at most."""
    for _ in range(failures):
        with suppress(ConnectionError):
            step()
            return
    step()


def sent(store: MlflowStore, failures: int = 1) -> None:
    """Sends a trial of two rungs, the first with the trial's start; each step fails so many times at most."""
    trial = started(0)
    rungs = [report(trial, 0, 0.25), report(trial, 1, 0.5)]
    start = Event(what=trial, at_ms=milliseconds(trial.started_at))
    told = [Event(what=rung, at_ms=milliseconds(trial.started_at) + 1 + rung.rung) for rung in rungs]
    end = Event(what=ended(trial, Status.COMPLETED, rungs), at_ms=told[-1].at_ms + 1, ended=True)
    until_it_works(lambda: list(store.behind(Records())), failures)
    until_it_works(lambda: store.send([start, told[0]]), failures)
    until_it_works(lambda: store.send([told[1], end]), failures)
    until_it_works(lambda: store.close([]), failures)


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


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[str]]:
    """Returns what a store holds in the end if no request fails, and its requests."""
    copy = tmp_path_factory.mktemp("undisturbed") / "mlflow.db"
    copy.write_bytes(empty_store())
    with pytest.MonkeyPatch.context() as patch:
        store, client = opened(f"sqlite:///{copy}", patch)
        sent(store)
    return content(f"sqlite:///{copy}"), client.requests


@pytest.mark.parametrize("failing", range(REQUESTS))
@pytest.mark.parametrize("done", [False, True], ids=["refused", "answer lost"])
def test_a_request_that_fails_costs_nothing(
    undisturbed: tuple[dict[str, Any], list[str]],
    tracking_uri: str,
    monkeypatch: pytest.MonkeyPatch,
    done: bool,
    failing: int,
) -> None:
    expected, requests = undisturbed
    assert len(requests) == REQUESTS, "each has a test"
    store, client = opened(tracking_uri, monkeypatch, failing, done=done)
    sent(store)
    assert len(client.requests) >= REQUESTS, client.requests[failing]
    assert content(tracking_uri) == expected, client.requests[failing]


@pytest.mark.parametrize("looks", [1, 2, 3])
def test_a_store_that_is_away_for_several_tries_holds_each_run_once(
    undisturbed: tuple[dict[str, Any], list[str]], tracking_uri: str, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    """The answer to the first run's creation is lost, and so are the next looks at which runs there are."""
    store, client = opened(tracking_uri, monkeypatch, 0, done=True)
    search, away = client.client.search_runs, [LOST] * looks

    def perhaps(*args: Any, **kwargs: Any) -> Any:
        if client.requests and away:
            raise away.pop()
        return search(*args, **kwargs)

    monkeypatch.setattr(client.client, "search_runs", perhaps)
    sent(store, failures=1 + looks)
    assert content(tracking_uri) == undisturbed[0]
    assert not away


def test_a_run_that_a_repeated_request_made_twice_is_deleted(
    tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's own client repeats a request whose answer was lost, and returns the second run."""
    store, client = opened(tracking_uri, monkeypatch)
    create = client.client.create_run

    def twice(*args: Any, **kwargs: Any) -> Any:
        create(*args, **kwargs)
        return create(*args, **kwargs)

    monkeypatch.setattr(client.client, "create_run", twice)
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


@pytest.mark.slow
def test_studies_that_begin_at_once_make_one_store_and_a_kill_while_it_is_made_spoils_nothing(tmp_path: Path) -> None:
    uri, path = f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "mlflow.db"
    killed = making(uri)
    until(lambda: is_being_made(tmp_path))
    killed.kill()
    killed.wait()
    assert not path.exists()
    with ThreadPoolExecutor(2) as both:  # a lock that threads respect is one that processes respect
        list(both.map(ensure_schema, [uri] * 2))
    assert not unfinished(tmp_path)
    assert [found.name for found in MlflowClient(uri).search_experiments()] == ["Default"]


@pytest.mark.parametrize("uri", ["http://host:5000", "postgresql://host/name"])
def test_a_server_makes_its_own(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ensure_schema(uri)
    assert not list(tmp_path.iterdir())
