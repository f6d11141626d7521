"""Makes clients of a service with a queue whose drivers are not real."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from krona_tune.record.storage import Storage
from krona_tune.service.queue import dispatcher
from krona_tune.service.queue.study_queue import StudyQueue
from krona_tune.service.web_server import make_app
from tests.service.conftest import TOKEN, client_of
from tests.service.queue.fakes import Queue

BEARER = {"Authorization": f"Bearer {TOKEN}"}
SPACE = Path(__file__).resolve().parents[3] / "search_spaces" / "mini.yaml"


@pytest.fixture
def queued(storage: Storage, study_queue: StudyQueue) -> TestClient:
    """A service whose queue starts nothing, since its rounds do not run, and someone who knows its token."""
    app = make_app(storage, TOKEN, pace=0, queue=study_queue, of_account=True)
    return client_of(app, headers=BEARER, follow_redirects=False)


@pytest.fixture
def guarded_queue(storage: Storage, study_queue: StudyQueue) -> TestClient:
    return client_of(make_app(storage, TOKEN, pace=0, queue=study_queue), "http://studies.example")


@pytest.fixture(autouse=True)
def halts_told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[str, ...], str, str]]:
    """Returns the addresses to which the queue would tell of a halt, with the study's name and the reason."""
    told: list[tuple[tuple[str, ...], str, str]] = []
    monkeypatch.setattr(
        dispatcher, "tell_of_halt", lambda urls, *, study, reason: told.append((tuple(urls), study, reason))
    )
    return told


@pytest.fixture
def queue(storage: Storage) -> Queue:
    return Queue(storage)
