"""Tests that a storage's studies are read once for many viewers, and from elsewhere too."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Semaphore

import pytest
import requests
from rich.console import Console
from starlette.testclient import TestClient

from krona_tune.record import ownership
from krona_tune.record.driver_state import write_driver_state
from krona_tune.record.orders import give_order
from krona_tune.record.ownership import claim
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.remote_copy import Copy
from krona_tune.record.remote_files import Store
from krona_tune.record.storage import Storage, storage_at
from krona_tune.search.terminal.inspect_studies import studies_in
from krona_tune.service import stamped_cache
from krona_tune.service.response_models import StudySummary
from krona_tune.service.served_studies import FETCH_SECONDS, LOOK_SECONDS, ServedStudies
from krona_tune.service.web_server import make_app
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import OrderRequest
from krona_tune.study.study_state import DriverState, End
from tests.record.events import report, started
from tests.report.pages import page_of
from tests.service.conftest import LOCAL, drive, end, make_study, note
from tests.service.serving import served
from tests.waiting import until


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """Makes a storage at a URI with one study, `far`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = make_study(tmp_path / "made" / "far")
    uri = f"file://{tmp_path}/copy"
    copy = Copy(StudyFolder(made.root, f"{uri}/far"))
    copy.make_origin()
    copy.push()
    return storage_at(uri)


def test_who_runs_a_study_elsewhere_is_asked_as_seldom_as_its_files_are_fetched(
    elsewhere: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    read, now = ownership.read_lease, [1000.0 * FETCH_SECONDS]
    monkeypatch.setattr(ownership, "read_lease", lambda store: asked.append(store.uri) or read(store))
    monkeypatch.setattr(stamped_cache.time, "monotonic", lambda: now[0])
    studies = ServedStudies(elsewhere)
    for _ in range(int(FETCH_SECONDS / LOOK_SECONDS)):
        assert [each.state for each in studies.summaries()] == ["stopped"]
        now[0] += LOOK_SECONDS
    assert len(asked) == 1
    studies.summaries()
    assert len(asked) == 2


def test_a_killed_study_elsewhere_is_listed_as_far_as_it_has_reported(elsewhere: Storage, tmp_path: Path) -> None:
    made = make_study(tmp_path / "made" / "killed", day=2)
    sink = ParquetSink(made.results)
    sink.trial_started(started(3))
    sink.reported(report(started(3), 0, 0.9))
    sink.study_ended([])
    copy = Copy(StudyFolder(made.root, f"{elsewhere.uri}/killed"))
    copy.make_origin()
    copy.push()
    found = {each.name: each.best for each in ServedStudies(elsewhere).summaries()}
    assert found == {"killed": 0.9, "far": 0.6}


def test_a_storage_elsewhere_is_read_and_gets_the_orders(elsewhere: Storage, tmp_path: Path) -> None:
    client = TestClient(make_app(elsewhere, pace=0), base_url=LOCAL)
    assert [each["best"] for each in client.get("/api/studies").json()] == [0.6]
    assert client.get("/studies/far").status_code == 200
    assert client.post("/api/studies/far/orders", json={"what": "pause"}).status_code == 202
    assert len(list((tmp_path / "copy" / "far" / "orders").iterdir())) == 1
    assert len(client.get("/api/studies/far/orders").json()) == 1
    assert client.get("/api/studies/near").status_code == 404


def test_a_storage_that_fails_shows_what_was_read_last(elsewhere: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0 * FETCH_SECONDS]
    monkeypatch.setattr(stamped_cache.time, "monotonic", lambda: now[0])
    client = TestClient(make_app(elsewhere), base_url=LOCAL)
    paths = ("/", "/api/studies", "/studies/far", "/api/studies/far")
    assert [client.get(path).status_code for path in paths] == [200] * 4

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no route to it")

    for name in ("names", "read", "sizes", "below"):
        monkeypatch.setattr(Store, name, refuse)
    now[0] += 2 * FETCH_SECONDS
    assert [client.get(path).status_code for path in paths] == [200] * 4
    never = client.get("/studies/near")
    assert (never.status_code, "no route to it" in never.text) == (503, True)


def test_a_storage_that_can_not_be_reached_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    client = TestClient(make_app(storage_at("nowhere://ann:hunter2@place/x"), pace=0), base_url=LOCAL)
    for path in ("/", "/api/studies", "/studies/x", "/api/studies/x"):
        answer = client.get(path)
        assert answer.status_code == 422
        assert "hunter2" not in answer.text


@pytest.mark.slow
def test_a_storage_that_hangs_holds_up_neither_the_health_nor_what_is_known(
    storage: Storage, study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, waiting = Event(), Semaphore(0)
    listed, asked = Storage.studies, ServedStudies.summaries

    def slow(place: Storage) -> list[StudyFolder]:
        released.wait()
        return listed(place)

    def counted(studies: ServedStudies) -> list[StudySummary]:
        waiting.release()
        return asked(studies)

    with served(storage) as address, ThreadPoolExecutor(THREADS) as pool, ExitStack() as ending:
        ending.callback(released.set)
        assert [each["name"] for each in requests.get(f"{address}/api/studies", timeout=60).json()] == ["first"]
        monkeypatch.setattr(stamped_cache, "PATIENCE", 2.0)
        monkeypatch.setattr(Storage, "studies", slow)
        monkeypatch.setattr(ServedStudies, "summaries", counted)
        answers = [pool.submit(requests.get, f"{address}/api/studies", timeout=60) for _ in range(THREADS)]
        for _ in answers:
            assert waiting.acquire(timeout=60)
        assert requests.get(f"{address}/healthz", timeout=60).status_code == 200
        assert [len(each.result().json()) for each in answers] == [1] * THREADS


def test_the_stamp_changes_with_records_and_orders_and_not_with_progress(
    storage: Storage, running: StudyFolder
) -> None:
    studies = ServedStudies(storage, pace=0)
    seen = [studies.look("running").stamp]
    present = studies.present("running")
    note(running, started(7), 0.5)
    assert studies.look("running").stamp == seen[0]
    assert "50 %" in studies.present("running") != present
    end(ParquetSink(running.results), started(8), 0.7)
    seen.append(studies.look("running").stamp)
    give_order(running, OrderRequest(what="pause"))
    seen.append(studies.look("running").stamp)
    assert len(set(seen)) == 3
    assert "cola-0008" in studies.body("running").html


def test_the_index_changes_when_what_it_shows_of_the_time_left_does(storage: Storage, running: StudyFolder) -> None:
    stamps = []
    for seconds in (7230.2, 7231.9, 7310.0, None):
        state = DriverState(stage="search", trials=9, ended=3, seconds_left=seconds, slots=2, at=1.0)
        write_driver_state(running, state)
        stamps.append(ServedStudies(storage, pace=0).stamp())
    assert stamps[0] == stamps[1], "both are 2 h 00 min"
    assert len(set(stamps)) == 3


def test_a_driver_that_found_nothing_left_is_seen_though_it_ran_between_two_looks(
    client: TestClient, study: StudyFolder
) -> None:
    def states() -> list[str]:
        (listed,), detail = client.get("/api/studies").json(), client.get("/api/studies/first").json()
        return [listed["state"], detail["state"]]

    assert states() == ["stopped", "stopped"]
    found = DriverState(stage="end", trials=3, ended=3, slots=2, end="finished", fulfilled=99, at=1.0)
    write_driver_state(study, found)
    assert states() == ["finished", "finished"]


ENDS: tuple[End, ...] = ("", "finished")


@pytest.mark.parametrize("end", ENDS)
def test_while_a_resumed_driver_starts_nothing_is_said_of_the_session_before(
    client: TestClient, storage: Storage, study: StudyFolder, end: End
) -> None:
    drive(study, paused=not end, end=end).release()
    os.utime(study.state, (1e9, 1e9))
    with claim(study):
        page = page_of(client.get("/studies/first").text).text
        assert ("Stage: " in page, "paused" in page, " left" in page) == (False, False, False)
        (listed,), detail = client.get("/api/studies").json(), client.get("/api/studies/first").json()
        for said in (listed, detail):
            assert (said["state"], said["trials"], said["ended"], said["seconds_left"]) == ("running", 6, 3, None)
        assert detail["driver"] is None
        with (screen := Console(width=200)).capture() as printed:
            screen.print(studies_in(storage))
        assert "running, 3 completed" in printed.get()
        assert client.post("/api/studies/first/orders", json={"what": "cancel"}).status_code == 202


def test_many_viewers_cost_one_page(storage: Storage, study: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    studies = ServedStudies(storage, pace=1000)
    asked, drawn = list[int](), list[int]()

    def view() -> None:
        asked.append(1)
        studies.body("first")

    def slow(*words: object, **named: object) -> str:
        drawn.append(1)
        until(lambda: len(asked) == 10)
        return "page"

    monkeypatch.setattr("krona_tune.service.served_studies.render_body", slow)
    threads = [threading.Thread(target=view) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drawn) == 1
    end(ParquetSink(study.results), started(8), 0.7)
    studies.body("first")
    assert len(drawn) == 1, "a page that was just drawn is not drawn again"
    assert not studies.may_draw("first")


THREADS = 40
"""As many requests as a service has threads."""
