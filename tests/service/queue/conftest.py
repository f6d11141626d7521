"""Makes a service with a queue whose drivers are not real."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from krona_tune.record.remote.storage import Storage
from krona_tune.service.app import make_app
from krona_tune.service.queue.study_queue import StudyQueue
from tests.service.conftest import LOCAL, TOKEN
from tests.service.queue.test_dispatcher import FakeDrivers, Machine

SPACE = Path(__file__).resolve().parents[3] / "search_spaces" / "mini.yaml"


@pytest.fixture
def drivers(storage: Storage) -> FakeDrivers:
    return FakeDrivers(storage)


@pytest.fixture
def study_queue(storage: Storage, drivers: FakeDrivers) -> Iterator[StudyQueue]:
    made = StudyQueue(storage, drivers, Machine(2), {"ann": 1}, pace=0.02)
    yield made
    made.end()


@pytest.fixture
def queued(storage: Storage, study_queue: StudyQueue) -> TestClient:
    """A service whose queue starts nothing: its rounds do not run."""
    return TestClient(make_app(storage, pace=0, queue=study_queue), base_url=LOCAL, follow_redirects=False)


@pytest.fixture
def guarded_queue(storage: Storage, study_queue: StudyQueue) -> TestClient:
    return TestClient(make_app(storage, TOKEN, pace=0, queue=study_queue), base_url="http://studies.example")
