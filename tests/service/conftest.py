"""Makes a storage of small studies, clients of the service for it, and a queue whose drivers are not real."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from filelock import FileLock
from starlette.testclient import TestClient

from krona_tune.record.driver_state import TrialProgress, place_of, write_driver_state
from krona_tune.record.ownership import lock_of
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.storage import Storage, storage_at
from krona_tune.service.queue import study_queue as study_queue_module
from krona_tune.service.queue.study_queue import StudyQueue
from krona_tune.service.queue.submission_check import check
from krona_tune.service.web_server import make_app
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.loader import build_spec, dump_spec
from krona_tune.study.result import Curve, Status, TrialResult
from krona_tune.study.study_state import DriverState, End
from tests.record.events import ended, manifest, report, started
from tests.service.queue.fakes import FakeDrivers, Machine

TOKEN = "a-token-of-more-than-sixteen-signs"
LOCAL = "http://127.0.0.1:8300"
Make = Callable[..., StudyFolder]


def client_of(app: FastAPI, base_url: str = LOCAL, **more: Any) -> TestClient:
    """Returns a client of a service, which finds that no refusal tells a program to give a flag: a request has none."""
    made = TestClient(app, base_url=base_url, **more)
    made.event_hooks = {"response": [_look_for_flags]}
    return made


def _look_for_flags(answer: Any) -> None:
    if answer.status_code == 422 and answer.headers["content-type"] == "application/json":
        answer.read()
        assert "--" not in answer.json()["fix"], answer.json()


def make_study(root: Path, day: int = 1, *, synthetic: bool = False) -> StudyFolder:
    """Writes a study: a baseline with 0.2 and two ended trials with 0.5 and 0.6."""
    folder = StudyFolder(root)
    root.mkdir(parents=True)
    wanted = {"model": "m", "name": root.name, "tasks": ["cola"], "search": {"trials": 5}}
    folder.spec.write_text(dump_spec(build_spec(wanted, "x.yaml")), encoding="utf-8")
    created = f"2026-01-{day:02d}T03:04:05+00:00"
    facts = manifest("cola", synthetic=synthetic).model_copy(update={"name": root.name, "created_at": created})
    facts.write(folder.manifest)
    sink = ParquetSink(folder.results)
    head = started(0, kind="baseline", method="head_only", a_out=1, a_in=1)
    for trial, score in ((head, 0.2), (started(1), 0.5), (started(2, a_out=12), 0.6)):
        end(sink, trial, score)
    sink.study_ended([])
    return folder


def end(sink: ParquetSink, trial: TrialResult, score: float) -> None:
    last = report(trial, 2, score)
    sink.trial_started(trial)
    sink.reported(last)
    sink.trial_ended(ended(trial, Status.COMPLETED, [last]))


def begin(folder: StudyFolder, number: int, share: float, curve: Curve = ()) -> TrialResult:
    """Begins a trial, which has done this share of its budget."""
    trial = started(number)
    ParquetSink(folder.results).trial_started(trial)
    note(folder, trial, share, curve)
    return trial


def note(folder: StudyFolder, trial: TrialResult, share: float, curve: Curve = ()) -> None:
    place = place_of(folder.checkpoints, trial.trial_id)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(TrialProgress(share=share, curve=curve).model_dump_json(), encoding="utf-8")


def drive(folder: StudyFolder, *, paused: bool = False, end: End = "") -> FileLock:
    """Makes a study look as if a driver runs it; returns the lock to release."""
    lock = lock_of(folder)
    lock.acquire()
    state = DriverState(
        stage="end" if end else "search",
        trials=9,
        ended=3,
        seconds_left=75.0,
        slots=2,
        paused=paused,
        end=end,
        at=1.0,
    )
    write_driver_state(folder, state)
    return lock


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "studies").mkdir()
    return tmp_path / "studies"


@pytest.fixture
def storage(root: Path) -> Storage:
    return storage_at(str(root))


@pytest.fixture
def study(root: Path) -> StudyFolder:
    return make_study(root / "first")


@pytest.fixture
def running(root: Path) -> Iterator[StudyFolder]:
    folder = make_study(root / "running", 2, synthetic=True)
    begin(folder, 7, 0.25)
    lock = drive(folder)
    yield folder
    lock.release()


@pytest.fixture
def client(storage: Storage) -> Iterator[TestClient]:
    with client_of(make_app(storage, pace=0), follow_redirects=False) as made:
        yield made


@pytest.fixture
def guarded(storage: Storage) -> Iterator[TestClient]:
    app = make_app(storage, TOKEN, pace=0)
    with client_of(app, "http://studies.example", follow_redirects=False) as made:
        yield made


@pytest.fixture
def checked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks submissions in this process, which takes no time to start."""
    monkeypatch.setattr(study_queue_module, "check_apart", check)


@pytest.fixture
def drivers(storage: Storage) -> FakeDrivers:
    return FakeDrivers(storage)


@pytest.fixture
def study_queue(storage: Storage, drivers: FakeDrivers, checked_here: None) -> Iterator[StudyQueue]:
    made = StudyQueue(storage, drivers, Machine(2), {"ann": 1}, pace=0.02)
    yield made
    made.end()
