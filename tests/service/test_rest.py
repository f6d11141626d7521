"""Tests the REST interface: studies, trials, reports and orders as plain values, refusals in one shape."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Semaphore

import pytest
import requests
from starlette.testclient import TestClient

from krona_tune.record import ownership
from krona_tune.record.orders import waiting_orders, whoami
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.remote_copy import Copy
from krona_tune.record.storage import Storage, storage_at
from krona_tune.service import stamped_cache
from krona_tune.service.answers import StudySummary
from krona_tune.service.served_studies import FETCH, LOOK, ServedStudies
from krona_tune.service.web_server import make_app
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Status
from tests.record.events import ended, report, started
from tests.service.conftest import LOCAL, make_study
from tests.service.test_live_events import served

THREADS = 40
"""As many requests as a service has threads."""


def test_the_studies_are_listed(client: TestClient, study: StudyFolder, running: StudyFolder) -> None:
    newest, oldest = client.get("/api/studies").json()
    assert (newest["name"], newest["state"], newest["trials"], newest["ended"]) == ("running", "running", 9, 3)
    assert (newest["synthetic"], newest["seconds_left"]) == (True, 75.0)
    assert (oldest["state"], oldest["best"], oldest["head_only"]) == ("stopped", 0.6, 0.2)
    assert oldest["device_seconds"] == pytest.approx(3 * 2.75)


def test_a_study_is_told_with_what_runs(client: TestClient, running: StudyFolder) -> None:
    detail = client.get("/api/studies/running").json()
    [trial] = detail["running"]
    assert (trial["trial"], trial["share"], trial["rung"], trial["rungs"]) == ("cola-0007", 0.25, 0, 3)
    assert trial["knobs"]["a_out"] == 24
    assert (detail["driver"]["stage"], detail["orders"]) == ("search", [])


def test_trials_are_paged_and_filtered(client: TestClient, study: StudyFolder) -> None:
    ParquetSink(study.results).trial_ended(ended(started(9), Status.DIVERGED, []))
    whole = client.get("/api/studies/first/trials").json()
    assert [row["trial_id"] for row in whole["rows"]] == ["cola-0000", "cola-0001", "cola-0002", "cola-0009"]
    part = client.get("/api/studies/first/trials?offset=1&limit=2").json()
    assert (part["total"], part["offset"], part["rows"]) == (4, 1, whole["rows"][1:3])
    failed = client.get("/api/studies/first/trials?status=diverged&task=cola").json()
    assert [row["trial_id"] for row in failed["rows"]] == ["cola-0009"]
    assert client.get("/api/studies/first/trials?task=rte").json()["total"] == 0


def test_reports_are_those_of_a_trial_and_what_is_no_number_is_null(client: TestClient, study: StudyFolder) -> None:
    ParquetSink(study.results).reported(report(started(9), 0, float("nan")))
    answer = client.get("/api/studies/first/reports?trial=cola-0009")
    assert "NaN" not in answer.text
    [row] = answer.json()["rows"]
    assert (row["trial_id"], row["score"]) == ("cola-0009", None)


def test_an_order_becomes_a_file_beside_the_study(client: TestClient, study: StudyFolder) -> None:
    asked = {"what": "clone_trial", "trial": "cola-0001", "settings": ["adapter.scale=2"], "from_last_rung": True}
    answer = client.post("/api/studies/first/orders", json=asked)
    assert answer.status_code == 202
    [order] = waiting_orders(study)
    assert answer.json() == json.loads(order.model_dump_json())
    assert (order.said, order.by) == ("clone cola-0001 adapter.scale=2 from its last rung", whoami())
    assert client.get("/api/studies/first/orders").json() == [answer.json()]
    assert "cola-0001 adapter.scale=2 from its last rung" in client.get("/studies/first").text


@pytest.mark.parametrize(
    ("body", "place", "problem"),
    [
        ({"what": "explode"}, "body.what", "Input should be"),
        ({"what": "stop_trial"}, "body", "stop_trial needs a trial"),
        ({"what": "pause", "by": "eve"}, "body.by", "not permitted"),
        ({"what": "clone_trial", "trial": "a", "settings": ["x"]}, "body.settings.0", "not written as it must be"),
        ([], "body", "valid dictionary"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(
    client: TestClient, study: StudyFolder, body: object, place: str, problem: str
) -> None:
    answer = client.post("/api/studies/first/orders", json=body)
    assert answer.status_code == 422
    assert set(answer.json()) == {"place", "problem", "fix"}
    assert answer.json()["place"] == place
    assert problem in answer.json()["problem"]
    assert waiting_orders(study) == []


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 60_000, b'{"what": "\\ud800"}', b"", b"NaN", b'"x"'])
def test_a_body_that_is_no_order_is_refused(client: TestClient, study: StudyFolder, content: bytes) -> None:
    answer = client.post("/api/studies/first/orders", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}
    assert set(answer.json()) == {"place", "problem", "fix"}


def test_what_is_not_there_is_refused_in_the_same_shape(client: TestClient) -> None:
    for path in ("/api/studies/none", "/api/studies/none/trials", "/api/studies/none/orders", "/api/nothing"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert set(answer.json()) == {"place", "problem", "fix"}
    assert client.post("/api/studies/none/orders", json={"what": "pause"}).status_code == 404
    assert client.delete("/api/studies").status_code == 405
    assert client.delete("/api/studies").headers["allow"] == "GET"


def test_a_study_that_can_not_be_read_is_refused(client: TestClient, study: StudyFolder) -> None:
    study.manifest.write_text("{")
    answer = client.get("/api/studies/first")
    assert answer.status_code == 422
    assert answer.json()["place"].endswith("manifest.json")
    assert client.get("/api/studies").json()[0]["state"] == "unreadable"


def test_what_the_answers_are_is_described_without_pages_from_outside(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert set(described["paths"]["/api/studies/{name}/orders"]) == {"get", "post"}
    assert "404" in described["paths"]["/api/studies/{name}"]["get"]["responses"]
    assert "/" not in described["paths"]
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 404
    assert client.get("/api/version").json() == client.get("/healthz").json()


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
    read, now = ownership.read_lease, [1000.0 * FETCH]
    monkeypatch.setattr(ownership, "read_lease", lambda store: asked.append(store.uri) or read(store))
    monkeypatch.setattr(stamped_cache.time, "monotonic", lambda: now[0])
    studies = ServedStudies(elsewhere)
    for _ in range(int(FETCH / LOOK)):
        assert [each.state for each in studies.summaries()] == ["stopped"]
        now[0] += LOOK
    assert len(asked) == 1
    studies.summaries()
    assert len(asked) == 2


def test_a_storage_elsewhere_is_read_and_gets_the_orders(elsewhere: Storage, tmp_path: Path) -> None:
    client = TestClient(make_app(elsewhere, pace=0), base_url=LOCAL)
    assert [each["best"] for each in client.get("/api/studies").json()] == [0.6]
    assert client.get("/studies/far").status_code == 200
    assert client.post("/api/studies/far/orders", json={"what": "pause"}).status_code == 202
    assert len(list((tmp_path / "copy" / "far" / "orders").iterdir())) == 1
    assert len(client.get("/api/studies/far/orders").json()) == 1
    assert client.get("/api/studies/near").status_code == 404


def test_a_storage_that_can_not_be_reached_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    client = TestClient(make_app(storage_at("nowhere://ann:hunter2@place/x"), pace=0), base_url=LOCAL)
    for path in ("/", "/api/studies", "/studies/x", "/api/studies/x"):
        answer = client.get(path)
        assert answer.status_code == 422
        assert "hunter2" not in answer.text


def test_a_storage_that_hangs_holds_up_neither_the_health_nor_what_is_known(
    storage: Storage, study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamped_cache, "PATIENCE", 2.0)
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
        monkeypatch.setattr(Storage, "studies", slow)
        monkeypatch.setattr(ServedStudies, "summaries", counted)
        answers = [pool.submit(requests.get, f"{address}/api/studies", timeout=60) for _ in range(THREADS)]
        for _ in answers:
            assert waiting.acquire(timeout=60)
        assert requests.get(f"{address}/healthz", timeout=60).status_code == 200
        assert [len(each.result().json()) for each in answers] == [1] * THREADS
