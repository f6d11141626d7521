"""Makes a service with a queue whose drivers are not real."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from krona_tune.record.storage import Storage
from krona_tune.service.queue import study_queue as study_queue_module
from krona_tune.service.queue.study_queue import StudyQueue
from krona_tune.service.queue.submission_check import check
from krona_tune.service.web_server import make_app
from tests.service.conftest import LOCAL, TOKEN
from tests.service.queue.fakes import FakeDrivers, Machine

BEARER = {"Authorization": f"Bearer {TOKEN}"}
SPACE = Path(__file__).resolve().parents[3] / "search_spaces" / "mini.yaml"


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


@pytest.fixture
def queued(storage: Storage, study_queue: StudyQueue) -> TestClient:
    """A service whose queue starts nothing, since its rounds do not run, and someone who knows its token."""
    app = make_app(storage, TOKEN, pace=0, queue=study_queue, of_account=True)
    return TestClient(app, base_url=LOCAL, headers=BEARER, follow_redirects=False)


@pytest.fixture
def guarded_queue(storage: Storage, study_queue: StudyQueue) -> TestClient:
    return TestClient(make_app(storage, TOKEN, pace=0, queue=study_queue), base_url="http://studies.example")
