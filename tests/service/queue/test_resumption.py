"""Tests that a study which does not run is resumed through the queue, with more trials or time, and no other is."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from starlette.testclient import TestClient

from krona_tune.record import orders
from krona_tune.record.orders import waiting_orders
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.storage import Storage
from krona_tune.refusal import Refusal
from krona_tune.search.startup.slots import Cluster, Node
from krona_tune.service import Client, TrainingRequest
from krona_tune.service.queue import database, resumption
from krona_tune.service.queue.entry import Submission
from krona_tune.service.queue.study_queue import StudyQueue
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest
from krona_tune.study.order import Order
from krona_tune.study.request.study_spec import StudySpec
from tests.record.events import started
from tests.report.pages import page_of
from tests.service.conftest import drive, end, make_study
from tests.service.queue.conftest import SPACE
from tests.service.queue.fakes import FakeDrivers, Machine
from tests.service.serving import served
from tests.waiting import until


def resumed(client: TestClient, name: str = "first", **more: object) -> tuple[int, dict[str, object]]:
    answer = client.post("/api/queue/resume", json={"name": name, **more}, headers={"X-User": "bo"})
    return answer.status_code, answer.json()


@pytest.fixture
def finished(study: StudyFolder) -> StudyFolder:
    """Ends all trials that the study asks for."""
    sink = ParquetSink(study.results)
    for number in range(3, 6):
        end(sink, started(number), 0.4)
    return study


def test_a_study_that_was_begun_without_the_queue_gets_a_place_and_is_resumed(
    queued: TestClient, study_queue: StudyQueue, drivers: FakeDrivers, study: StudyFolder
) -> None:
    status, entry = resumed(queued, priority=3)
    assert (status, entry["name"], entry["person"], entry["priority"], entry["state"]) == (
        201, "first", "bo", 3, "queued",
    )  # fmt: skip
    study_queue.begin()
    until(lambda: drivers.started)
    assert drivers.started[0][:2] == ("resume", "first")
    drivers.ends("first", "finished")
    until(lambda: queued.get("/api/queue").json()["entries"][0]["state"] == "finished")


def test_more_trials_and_time_wait_as_orders_for_the_next_driver(queued: TestClient, finished: StudyFolder) -> None:
    assert resumed(queued, trials=4, time_budget="2h")[0] == 201
    waiting = waiting_orders(finished)
    assert {(order.what, order.value) for order in waiting} == {("trials", "+4"), ("time_budget", "2h")}
    assert resumed(queued, trials=4)[1]["problem"] == "'first' has a place in the queue"
    assert waiting_orders(finished) == waiting


@pytest.mark.slow
def test_a_study_that_was_finished_is_resumed_for_orders_that_wait(queued: TestClient, finished: StudyFolder) -> None:
    assert queued.get("/api/studies/first").json()["state"] == "finished"
    assert queued.post("/api/studies/first/orders", json={"what": "trials", "value": "+4"}).status_code == 202
    assert queued.get("/api/studies/first").json()["state"] == "stopped"
    assert resumed(queued)[0] == 201


@pytest.mark.parametrize("what", ["stop", "pause"])
def test_more_trials_outlast_an_order_that_waits_to_stop_the_study(
    queued: TestClient, finished: StudyFolder, what: str
) -> None:
    assert queued.post("/api/studies/first/orders", json={"what": what}).status_code == 202
    assert resumed(queued, trials=4)[0] == 201
    assert [order.text for order in waiting_orders(finished)] == [what, "continue", "trials +4"]


def test_a_study_whose_records_are_damaged_is_resumed_as_they_say(queued: TestClient, finished: StudyFolder) -> None:
    (finished.results / "trials.parquet").write_bytes(b"PAR1")
    answer = queued.get("/api/studies/first")
    assert (answer.status_code, "resume the study" in answer.json()["fix"]) == (422, True), answer.json()
    assert resumed(queued)[0] == 201


def no_answer(_: Machine) -> Cluster:
    raise Refusal("--address", "the cluster gives no answer", "start it")


REFUSALS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "no answer": lambda patch: patch.setattr(Machine, "cluster", no_answer),
    "the largest node has 0.5": lambda patch: patch.setattr(
        Machine, "cluster", lambda _: Cluster(nodes=(Node(0.5, 0),), dashboard="")
    ),
    "studies have a place": lambda patch: patch.setattr(database, "MOST_QUEUED", 0),
}


@pytest.mark.parametrize("said", REFUSALS)
def test_of_a_study_that_gets_no_place_nothing_waits_for_its_driver(
    queued: TestClient, finished: StudyFolder, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    ParquetSink(finished.results).ordered(Order(id="20260101T000000Z-abcdef", what="pause", state="done"))
    with monkeypatch.context() as patch:
        REFUSALS[said](patch)
        for _ in range(2):
            status, answer = resumed(queued, trials=8, time_budget="2h")
            assert (status, said in answer["problem"]) == (422, True), answer
    assert waiting_orders(finished) == []
    assert resumed(queued, trials=8)[0] == 201
    assert [order.text for order in waiting_orders(finished)] == ["continue", "trials +8"]


def test_of_four_at_once_one_resumes_a_study(
    queued: TestClient, finished: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, all_have_read = resumption.resumed_spec, Barrier(4)

    def reads(*given: Any) -> StudySpec:
        spec = read(*given)
        all_have_read.wait()
        return spec

    monkeypatch.setattr(resumption, "resumed_spec", reads)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: resumed(queued, trials=8)[0], range(4)))
    assert sorted(answers) == [201, 422, 422, 422]
    assert [order.text for order in waiting_orders(finished)] == ["trials +8"]


def test_a_study_whose_orders_can_not_be_left_loses_its_place(
    queued: TestClient, finished: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(orders, "MOST_WAITING", 0)
        status, answer = resumed(queued, trials=8)
        assert (status, "orders wait" in answer["problem"]) == (422, True), answer
    assert queued.get("/api/queue").json()["entries"][0]["state"] == "removed"
    assert resumed(queued, trials=8)[0] == 201


def test_a_study_that_had_a_place_gets_it_again(queued: TestClient, study: StudyFolder) -> None:
    assert resumed(queued, priority=3)[1]["id"] == 1
    queued.delete("/api/queue/1")
    again = resumed(queued, priority=7)[1]
    assert (again["id"], again["priority"], again["state"]) == (1, 3, "queued")


def put_back(client: TestClient) -> tuple[int, dict[str, object]]:
    answer = client.post("/api/queue/1/again")
    return answer.status_code, answer.json()


@pytest.mark.parametrize("again", [resumed, put_back])
def test_a_study_that_was_begun_by_hand_after_it_left_the_queue_is_resumed_there(
    queued: TestClient,
    study_queue: StudyQueue,
    drivers: FakeDrivers,
    root: Path,
    again: Callable[[TestClient], tuple[int, dict[str, object]]],
) -> None:
    queued.post("/api/queue", json={"name": "first", "space": SPACE.read_text(encoding="utf-8") + "tasks: [cola]\n"})
    assert queued.delete("/api/queue/1").json()["began_at"] is None
    make_study(root / "first")
    assert again(queued)[0] in {200, 201}
    study_queue.begin()
    until(lambda: drivers.started)
    assert drivers.started[0][:2] == ("resume", "first")
    drivers.ends("first", "finished")
    until(lambda: queued.get("/api/queue").json()["entries"][0]["state"] == "finished")


def test_a_study_that_somebody_else_began_meanwhile_is_nobodys_entry(
    queued: TestClient, study_queue: StudyQueue, drivers: FakeDrivers, storage: Storage, root: Path
) -> None:
    space = SPACE.read_text(encoding="utf-8") + "tasks: [cola]\n"
    sent = {"name": "first", "space": space, "notify": ["json://127.0.0.1:9"]}
    assert queued.post("/api/queue", json=sent, headers={"X-User": "ann"}).status_code == 201
    queued.delete("/api/queue/1")
    theirs = make_study(root / "first")
    begun = read_manifest(theirs.manifest).model_copy(update={"begun_by": "bo@laptop"})
    begun.write(theirs.manifest)
    status, said = put_back(queued)
    assert (status, said["problem"]) == (422, "another study is named 'first' by now")
    assert drivers.started == []
    again = resumed(queued)[1]
    assert (again["id"], again["person"]) == (2, "bo")
    assert database.Database(storage.folder / "queue.db").submission(2).notify == ()


def test_with_a_place_that_nobody_has_used_its_orders_go(queued: TestClient, finished: StudyFolder) -> None:
    by_hand = queued.post("/api/studies/first/orders", json={"what": "trials", "value": "+1"}).json()
    assert resumed(queued, trials=2000)[0] == 201
    queued.delete("/api/queue/1")
    assert [order.id for order in waiting_orders(finished)] == [by_hand["id"]]
    assert resumed(queued, trials=20)[0] == 201
    assert sorted(order.value for order in waiting_orders(finished)) == ["+1", "+20"]


def test_a_full_training_is_tracked_and_told_of_as_its_study_was(
    queued: TestClient, storage: Storage, study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "MOST_ENDED", 1)  # as many are listed, but more are known
    kept = database.Database(storage.folder / "queue.db")
    asked = {"name": "first", "space": study.spec.read_text(), "priority": 1}
    told = Submission(tracking_uri="http://mlflow:5000", notify=("json://me",), **asked)
    entry = kept.adopt(told, "ann", None)
    kept.remove(entry.id, "ann")
    kept.remove(kept.add(Submission(name="other", space=asked["space"]), "ann").id, "ann")
    trained(queued, task="cola")
    again = kept.submission(kept.live()[-1].id)
    assert (again.tracking_uri, again.notify) == (told.tracking_uri, told.notify)


@pytest.mark.parametrize(
    ("more", "place", "said"),
    [
        ({"time_budget": "soon"}, "time_budget", "'soon' is refused; write a time such as 90s"),
        ({"trials": -1}, "body.trials", "greater than or equal to 0; see /openapi.json"),
        ({"trials": 10**7}, "body.trials", "less than or equal to 1000000; see /openapi.json"),
        ({"name": "none"}, "study", "no study 'none' is here; look at the list of studies"),
        ({"name": "../x"}, "study", "no study '../x' is here; look at the list of studies"),
        ({}, "trials", "the study has all that was asked of it; give it more trials or more time"),
    ],
)
def test_what_makes_no_sense_is_refused(
    queued: TestClient, finished: StudyFolder, more: dict[str, object], place: str, said: str
) -> None:
    status, answer = resumed(queued, **{"name": "first", **more})  # type: ignore[arg-type]
    assert (status in {404, 422}, answer["place"]) == (True, place)
    assert said in f"{answer['problem']}; {answer['fix']}"
    assert (waiting_orders(finished), queued.get("/api/queue").json()["entries"]) == ([], [])


def test_a_study_that_runs_is_not_resumed_and_its_page_offers_it_only_while_none_runs(
    queued: TestClient, client: TestClient, study: StudyFolder
) -> None:
    assert page_of(queued.get("/studies/first").text).ids.count("resume") == 1
    assert "resume" not in page_of(client.get("/studies/first").text).ids, "this service runs no queue"
    assert client.post("/api/queue/resume", json={"name": "first"}).json()["problem"] == "this service runs none"
    lock = drive(study)
    assert resumed(queued)[1]["problem"] == "'first' runs"
    assert "resume" not in page_of(queued.get("/studies/first").text).ids
    lock.release()


def trained(client: TestClient, name: str = "first", **more: object) -> tuple[int, dict[str, object]]:
    answer = client.post("/api/queue/train", json={"name": name, **more}, headers={"X-User": "bo"})
    return answer.status_code, answer.json()


def test_a_full_training_has_a_place_and_a_share_of_its_own(
    queued: TestClient, study_queue: StudyQueue, drivers: FakeDrivers, study: StudyFolder
) -> None:
    status, entry = trained(queued, task="cola", all_data=True, seeds=2, priority=3)
    assert (status, entry["training"], entry["priority"]) == (201, "--task cola --seeds 2 --all-data", 3)
    assert "full training --task cola --seeds 2 --all-data" in page_of(queued.get("/").text).text
    assert resumed(queued)[1]["problem"] == "'first' has a place in the queue"
    study_queue.begin()
    until(lambda: drivers.started)
    assert drivers.started[0][:11] == (
        "train", "first", "--task", "cola", "--seeds", "2", "--all-data", "--address", "auto", "--share", "2",
    )  # fmt: skip
    drivers.ends("first")
    until(lambda: len(drivers.started) > 1)
    assert drivers.started[1][0] == "train", "a full training that died is started again"
    drivers.ends("first", "finished")
    until(lambda: queued.get("/api/queue").json()["entries"][0]["state"] == "finished")
    assert resumed(queued)[1]["id"] == 2, "its place is not that of the study"


@pytest.mark.parametrize(
    ("more", "place", "said"),
    [
        ({"task": "rte"}, "task", "unknown task 'rte'; known: cola"),
        ({"trial": "cola-0009"}, "trial", "unknown trial 'cola-0009', did you mean 'cola-000"),
        ({"trial": "--share"}, "trial", "unknown trial '--share'; known: "),
        ({"trial": "cola-0001", "task": "rte"}, "trial", "cola-0001 is of cola; leave task out"),
        ({"seeds": 0}, "body.seeds", "greater than or equal to 1"),
        ({"trial": "a b"}, "body.trial", "is not written as it must be; name a trial, such as cola-003"),
        ({"name": "none"}, "study", "no study 'none' is here; look at the list of studies"),
    ],
)
def test_a_full_training_of_nothing_is_refused(
    queued: TestClient, study: StudyFolder, more: dict[str, object], place: str, said: str
) -> None:
    status, answer = trained(queued, **{"name": "first", **more})  # type: ignore[arg-type]
    assert (status in {404, 422}, answer["place"]) == (True, place)
    assert said in f"{answer['problem']}; {answer['fix']}"
    assert queued.get("/api/queue").json()["entries"] == []


@pytest.fixture
def address(storage: Storage, study_queue: StudyQueue) -> Iterator[str]:
    with served(storage, study_queue) as found:
        yield found


def test_the_client_resumes_a_study(address: str, drivers: FakeDrivers, study: StudyFolder) -> None:
    assert Client(address).resume("first", trials=2).name == "first"
    assert [order.text for order in waiting_orders(study)] == ["trials +2"]
    until(lambda: drivers.running)
    Client(address).remove(1)
    drivers.ends("first", "cancelled")
    until(lambda: not Client(address).queue().entries[0].live)
    entry = Client(address).train(TrainingRequest(name="first", trial="cola-0002"))
    assert (entry.id, entry.training) == (2, "--trial cola-0002 --seeds 1")
