"""Tests the queue's REST interface: what is refused before anything is queued, and what a person may change."""

import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from starlette.testclient import TestClient

from krona_tune.record.orders import whoami
from krona_tune.record.storage import Storage
from krona_tune.refusal import Refusal
from krona_tune.service.queue import database
from krona_tune.service.queue import study_queue as study_queue_module
from krona_tune.service.queue.entry import Submission
from krona_tune.service.queue.study_queue import NoQueueError, StudyQueue
from krona_tune.service.queue.submission_check import check
from krona_tune.service.web_server import make_app
from krona_tune.study.folder import StudyFolder
from tests.service.conftest import LOCAL, TOKEN, make_study
from tests.service.queue.conftest import BEARER, SPACE
from tests.service.queue.fakes import FakeDrivers, Machine
from tests.waiting import until

BO = {**BEARER, "X-User": "bo"}
MINI = SPACE.read_text(encoding="utf-8") + "\ntasks: [cola]\n"


def request(name: str = "mine", **more: Any) -> dict[str, Any]:
    return {"name": name, "space": MINI, **more}


def post(client: TestClient, **more: Any) -> Any:
    return client.post("/api/queue", json=request(**more))


def submission_in(storage: Storage) -> Submission:
    """Returns what the storage's file keeps of the queue's first entry."""
    return database.Database(storage.folder / "queue.db").submission(1)


def names(client: TestClient) -> list[str]:
    return [entry["name"] for entry in client.get("/api/queue").json()["entries"]]


def test_a_study_is_submitted_with_its_plan(queued: TestClient, study_queue: StudyQueue, storage: Storage) -> None:
    answer = post(queued, priority=3)
    assert answer.status_code == 201, answer.text
    said = answer.json()
    assert (said["entry"]["id"], said["entry"]["state"], said["entry"]["priority"]) == (1, "queued", 3)
    assert (said["plan"]["tasks"], "by TPE" in said["plan"]["trials"]) == ("cola", True)
    kept = submission_in(storage)
    assert "name: mine" in kept.space
    assert stat.S_IMODE((storage.folder / "queue.db").stat().st_mode) == 0o600
    view = queued.get("/api/queue").json()
    assert (view["capacity"], view["limits"], len(view["entries"])) == ("2 CPUs", {"ann": 1}, 1)


def test_only_a_plan_queues_nothing(queued: TestClient) -> None:
    answer = post(queued, only_plan=True)
    assert (answer.status_code, answer.json()["entry"], names(queued)) == (200, None, [])
    assert answer.json()["plan"]["tasks"] == "cola"


ODD: dict[str, tuple[dict[str, Any], str, str]] = {
    "no YAML": ({"space": "a: [b"}, "space", "YAML"),
    "an empty space": ({"space": ""}, "space", "is empty"),
    "an unknown key": ({"space": MINI + "\nsearhc: {trials: 3}\n"}, "space", "searhc"),
    "a value out of range": ({"space": MINI.replace("trials:", "trials: -4 #")}, "space", "trials"),
    "a model that is not there": ({"space": MINI.replace("model:", "model: /nowhere/none #")}, "model", "/nowhere"),
    "data that are not there": ({"space": MINI.replace("data: mini", "data: /nowhere")}, "data", "nowhere"),
    "an earlier study that is not there": (
        {"space": MINI.replace("search:", "search:\n  warm_start: [gone]")},
        "",
        "gone",
    ),
    "a priority of 0": ({"priority": 0}, "body.priority", "greater than or equal to 1"),
    "a priority of 11": ({"priority": 11}, "body.priority", "less than or equal to 10"),
    "a priority in words": ({"priority": "high"}, "body.priority", "integer"),
    "an odd name": ({"name": "../x"}, "name", "no name of a study"),
    "no name": ({"name": ""}, "name", "no name of a study"),
    "the name of the queue's file": ({"name": "queue.db"}, "name", "a file that a storage keeps"),
    "a long name": ({"name": "x" * 200}, "name", "200 bytes"),
    "an unknown field": ({"prioritee": 2}, "body.prioritee", "not permitted"),
    "an unknown service": ({"notify": ["nowhere://x"]}, "notify", "nowhere"),
    "no tracking server": ({"tracking_uri": "ftp://x"}, "tracking_uri", "ftp"),
    "no shape of a factor within the limit of parameters": (
        {"space": MINI.replace("search:", "search:\n  max_params: 100")},
        "search.max_params",
        "allows",
    ),
    "more CPUs than there are": (
        {"space": MINI + "\nresources: {cpus_per_trial: 64}\n"},
        "resources.cpus_per_trial",
        "the largest node has 2",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_bad_input_is_refused_and_nothing_is_queued(queued: TestClient, name: str) -> None:
    more, place, problem = ODD[name]
    answer = post(queued, **more)
    assert answer.status_code == 422, answer.text
    said = answer.json()
    assert place in said["place"], said
    assert problem in said["place"] + said["problem"], said
    assert said["fix"]
    assert names(queued) == []


def test_a_body_of_ten_megabytes_is_refused(queued: TestClient) -> None:
    answer = post(queued, space="x" * 10_000_000)
    assert (answer.status_code, "has more than 2,000,000 bytes" in answer.json()["problem"]) == (422, True)
    answer = post(queued, space="x" * 1_100_000)
    assert (answer.status_code, answer.json()["place"]) == (422, "body.space")
    assert names(queued) == []


def test_a_name_that_exists_is_refused(queued: TestClient, storage: Storage) -> None:
    make_study(storage.folder / "there")
    answer = post(queued, name="there")
    assert (answer.status_code, answer.json()["place"]) == (422, "name")
    assert "holds a study" in answer.json()["problem"]
    assert post(queued).status_code == 201
    answer = post(queued, priority=2)
    assert (answer.status_code, "has a place" in answer.json()["problem"]) == (422, True)
    assert names(queued) == ["mine"]


def test_a_request_that_comes_again_has_the_place_that_it_has(queued: TestClient, storage: Storage) -> None:
    first = post(queued)
    make_study(storage.folder / "mine")  # it has begun since
    again = post(queued)
    assert (again.status_code, again.json()) == (201, first.json())
    for answer in (post(queued, tracking_uri="http://m"), queued.post("/api/queue", json=request(), headers=BO)):
        assert (answer.status_code, "has a place" in answer.json()["problem"]) == (422, True)
    queued.delete("/api/queue/1")
    answer = post(queued)
    assert (answer.status_code, "holds a study" in answer.json()["problem"]) == (422, True)
    assert names(queued) == ["mine"]


def test_a_request_that_comes_again_to_a_service_that_was_started_again_has_its_place(
    storage: Storage, drivers: FakeDrivers, checked_here: None
) -> None:
    answers = []
    for _ in range(2):
        queue = StudyQueue(storage, drivers, Machine(2))
        answers.append(queue.submit(Submission(**request()), "ann"))
        queue.end()
    assert answers[0] == answers[1]
    assert answers[0].entry
    assert "cola" in answers[0].plan["tasks"]


@pytest.mark.slow
def test_submissions_are_checked_one_after_the_other(queued: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_queue_module, "TURN_SECONDS", 0.05)
    begun, released = Event(), Event()

    def slow(*words: Any, **more: Any) -> Any:
        begun.set()
        released.wait()
        return check(*words, **more)

    monkeypatch.setattr(study_queue_module, "check_apart", slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, queued)
        begun.wait()
        answer = post(queued, name="second")
        released.set()
        assert first.result().status_code == 201
    assert (answer.status_code, "are still being checked" in answer.json()["problem"]) == (503, True)
    assert post(queued, name="second").status_code == 201


def test_a_queue_needs_a_token(queued: TestClient, storage: Storage, study_queue: StudyQueue) -> None:
    with pytest.raises(Refusal, match="the queue: needs a token; give one with --token-file or KRONA_TUNE_TOKEN"):
        make_app(storage, queue=study_queue)
    for path in ("/api/queue", "/api/studies"):
        assert queued.get(path, headers={"Authorization": ""}).status_code == 401
    assert queued.get("/", headers={"Authorization": ""}).headers["location"] == "/login?to=/"


def test_with_the_account_s_own_token_the_requests_are_its_own(queued: TestClient, study: StudyFolder) -> None:
    assert post(queued).json()["entry"]["person"] == whoami().partition("@")[0]
    order = queued.post("/api/studies/first/orders", json={"what": "pause"}, headers=BO)
    assert (order.status_code, order.json()["by"]) == (202, whoami())
    assert queued.get("/api/queue", headers={"Host": "evil.example"}).status_code == 421


def test_an_entry_is_moved_removed_and_put_back(queued: TestClient) -> None:
    for name in ("first", "second"):
        post(queued, name=name)
    moved = queued.patch("/api/queue/2", json={"priority": 5})
    assert (moved.status_code, moved.json()["priority"]) == (200, 5)
    assert names(queued) == ["second", "first"], "the most urgent comes first"
    assert queued.patch("/api/queue/2", json={"priority": 50}).json()["place"] == "body.priority"
    assert queued.delete("/api/queue/2").json()["state"] == "removed"
    assert queued.delete("/api/queue/2").status_code == 422
    assert queued.post("/api/queue/2/again").json()["state"] == "queued"
    for answer in (queued.patch("/api/queue/9", json={"priority": 5}), queued.delete("/api/queue/9")):
        assert (answer.status_code, "unknown entry '9'" in answer.json()["problem"]) == (404, True)
    assert queued.patch("/api/queue/1", content="priority=5").status_code == 415


def test_with_a_token_people_say_who_they_are(guarded_queue: TestClient) -> None:
    assert guarded_queue.post("/api/queue", json=request()).status_code == 401
    headers = dict(BEARER)
    assert guarded_queue.post("/api/queue", json=request(), headers=headers).json()["entry"]["person"] == "somebody"
    headers["X-User"] = "ann"
    answer = guarded_queue.post("/api/queue", json=request("hers"), headers=headers)
    assert answer.json()["entry"]["person"] == "ann"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the queue's file wait hardly for others. The file is opened after this."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)


def test_a_locked_file_is_said_and_no_fault(impatient: None, queued: TestClient, storage: Storage) -> None:
    other = sqlite3.connect(storage.folder / "queue.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    answer = post(queued)
    assert (answer.status_code, "database is locked" in answer.json()["problem"]) == (503, True)
    other.rollback()
    other.close()
    assert post(queued).status_code == 201


def test_the_index_shows_the_queue(queued: TestClient) -> None:
    post(queued, name="<b>", space="x")
    post(queued, name="first")
    page = queued.get("/").text
    assert ("The studies share" in page, ">first<" in page, "data-change=" in page) == (True, True, True)
    stamp = queued.get("/main").headers["X-Stamp"]
    assert queued.get("/main").headers["X-Stamp"] == stamp
    queued.patch("/api/queue/1", json={"priority": 5})
    assert queued.get("/main").headers["X-Stamp"] != stamp


def test_a_service_without_a_queue_says_so(client: TestClient) -> None:
    for method, path in (("GET", "/api/queue"), ("POST", "/api/queue"), ("DELETE", "/api/queue/1")):
        answer = client.request(method, path, json=request())
        assert (answer.status_code, answer.json()["problem"]) == (422, "this service runs none")
    assert "queue-live" not in client.get("/").text


def test_one_service_runs_a_storage_s_queue(storage: Storage, study_queue: StudyQueue, drivers: FakeDrivers) -> None:
    with pytest.raises(NoQueueError, match="another service runs the queue"):
        StudyQueue(storage, drivers, Machine(2))
    study_queue.end()
    StudyQueue(storage, drivers, Machine(2)).end()


def test_device_hours_are_counted_by_person(queued: TestClient, storage: Storage, study: StudyFolder) -> None:
    hours = queued.get("/api/queue").json()["device_hours"]
    assert sum(hours.values()) == pytest.approx(3 * 2.75 / 3600)


def test_what_is_submitted_runs_to_its_end(storage: Storage, study_queue: StudyQueue, drivers: FakeDrivers) -> None:
    app = make_app(storage, TOKEN, pace=0, queue=study_queue)
    with TestClient(app, base_url=LOCAL, headers=BEARER) as client:
        assert post(client).status_code == 201
        until(lambda: drivers.running)
        assert client.get("/api/queue").json()["entries"][0]["slots"] == 2
        drivers.ends("mine", "finished")
        until(lambda: client.get("/api/queue").json()["entries"][0]["state"] == "finished")
        assert "Slots over the last day" in client.get("/").text


def test_a_request_names_whole_paths_and_earlier_studies(
    queued: TestClient, storage: Storage, study: StudyFolder
) -> None:
    answer = post(queued, space=MINI.replace("search:", "search:\n  warm_start: [first]"))
    assert answer.status_code == 201, answer.text
    assert str(study.root) in submission_in(storage).space
