"""Tests who may begin a study and where, and that the form shows what files are called as text."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from krona_tune.record.storage import Storage
from krona_tune.service import NewStudy
from krona_tune.service.client import Client
from krona_tune.service.new_study.data_roots import DataRoots
from krona_tune.service.new_study.new_study_routes import ROUTES
from krona_tune.service.queue.study_queue import StudyQueue
from krona_tune.service.web_server import make_app
from tests.report.pages import page_of
from tests.service.conftest import LOCAL, TOKEN
from tests.service.new_study.conftest import BEARER
from tests.service.serving import served

EVIL = '"><script>alert("k")</script>.csv'


def test_without_a_root_or_a_queue_there_is_no_form_and_the_reason_is_told(
    storage: Storage, study_queue: StudyQueue, data: Path, client: TestClient
) -> None:
    without_root = TestClient(make_app(storage, TOKEN, pace=0, queue=study_queue), base_url=LOCAL, headers=BEARER)
    without_queue = TestClient(make_app(storage, pace=0, roots=DataRoots.at([data])), base_url=LOCAL)
    reasons = {without_root: "this service offers no data", without_queue: "this service runs no queue"}
    for asker, reason in reasons.items():
        for path, method in ROUTES.items():
            answer = asker.request(method, path, json={} if method == "POST" else None)
            assert (answer.status_code, answer.json()["problem"]) == (404, reason), path
        assert "New study" not in asker.get("/").text
        assert asker.get("/new").status_code == 404


def test_the_rules_of_the_service_hold(begins: TestClient) -> None:
    for path in (*ROUTES, "/new"):
        answer = begins.get(path, headers={"Authorization": "Bearer wrong"})
        assert answer.status_code == (303 if path == "/new" else 401)
        assert begins.get(path, headers={"Host": "evil.example"}).status_code in {421, 401, 303}
    for path in ("/api/plan", "/api/studies"):
        assert begins.post(path, json={}, headers={"Origin": "http://evil.example"}).status_code == 403
        assert begins.post(path, content="{}", headers={"Content-Type": "text/plain"}).status_code == 415
        assert begins.post(path, json={"name": "x" * 70_000}).status_code == 413


def test_the_index_has_the_form_s_button_dialog_and_script_once(begins: TestClient) -> None:
    html = begins.get("/").text
    found = page_of(html)
    assert found.ids.count("new-study") == found.ids.count("new") == 1
    assert len(set(found.ids)) == len(found.ids)
    nonces = {tag.get("nonce") for name, tag in found.attributes if name == "script" and tag.get("type") is None}
    assert len(nonces) == 1


def test_every_field_of_the_form_has_a_label_and_words_that_describe_it(begins: TestClient) -> None:
    found = page_of(begins.get("/new").text)
    shown = [tag for name, tag in found.attributes if name in {"input", "select"} and tag.get("type") is None]
    labels = {tag["for"] for name, tag in found.attributes if name == "label" and "for" in tag}
    assert {tag["id"] for tag in shown} == labels
    for tag in shown:
        assert set((tag["aria-describedby"] or "").split()) <= set(found.ids)
    [sent] = [tag["value"] for name, tag in found.attributes if tag.get("type") == "hidden"]
    [again] = [tag["value"] for _, tag in page_of(begins.get("/new").text).attributes if tag.get("type") == "hidden"]
    assert sent
    assert sent != again


def test_names_of_files_and_columns_are_text(begins: TestClient, data: Path) -> None:
    (data / EVIL.replace("/", "")).write_text('text,"</select><script>"\nx,1\n')
    html = begins.get("/new").text
    found = page_of(html)
    assert found.tags["script"] == 0
    assert not [name for _, tag in found.attributes for name in tag if name.startswith("on")]
    assert EVIL.replace("/", "") in found.text
    answer = begins.get("/api/data/columns", params={"file": str(data / EVIL.replace("/", ""))})
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["columns"][1] == "</select><script>"


@pytest.mark.slow
def test_the_client_begins_a_study(storage: Storage, study_queue: StudyQueue, data: Path) -> None:
    with served(storage, study_queue, DataRoots.at([data])) as address:
        client = Client(address, user="bo")
        offer = client.offer()
        file = next(each.value for each in offer.data if each.kind == "file")
        text, label, _ = client.columns(file)
        asked = NewStudy(name="mine", data=file, text=text, label=label, model=offer.model[0].value, trials=2)
        assert "2 a task by TPE" in client.plan(asked)
        entry = client.begin(asked).entry
        assert entry
        assert (entry.name, entry.person) == ("mine", "bo")
