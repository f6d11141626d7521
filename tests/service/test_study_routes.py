"""Tests of the routes of studies: trials, reports and orders as plain values, refusals in one shape."""

import json
from dataclasses import replace
from math import nan

import pytest
from starlette.testclient import TestClient

from krona_tune.record.orders import waiting_orders, whoami
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Status
from tests.record.events import curve, ended, report, started
from tests.service.conftest import note

SCHEMA = "see /openapi.json"


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


def test_a_curve_is_told_of_what_runs_and_of_each_report(client: TestClient, running: StudyFolder) -> None:
    trial = started(7)
    ParquetSink(running.results).reported(replace(report(trial, 0, 0.5), curve=curve(0.9, nan)))
    note(running, trial, 0.5, curve(0.75, after=340, to=510))
    [row] = client.get("/api/studies/running/reports?trial=cola-0007").json()["rows"]
    assert (row["curve_examples"], row["curve_loss"]) == ([170, 340], [0.9, None])
    [told] = client.get("/api/studies/running").json()["running"]
    assert (told["curve_examples"], told["curve_loss"]) == ([170, 340, 510], [0.9, None, 0.75])
    assert told["curve_learning_rate"] == pytest.approx([0.00983, 0.00966, 0.00949])


def test_trials_are_paged_and_filtered(client: TestClient, study: StudyFolder) -> None:
    ParquetSink(study.results).trial_ended(ended(started(9), Status.DIVERGED, []))
    whole = client.get("/api/studies/first/trials").json()
    assert [row["trial_id"] for row in whole["rows"]] == ["cola-0000", "cola-0001", "cola-0002", "cola-0009"]
    part = client.get("/api/studies/first/trials?offset=1&limit=2").json()
    assert (part["total"], part["offset"], part["rows"]) == (4, 1, whole["rows"][1:3])
    failed = client.get("/api/studies/first/trials?status=diverged&task=cola").json()
    assert [row["trial_id"] for row in failed["rows"]] == ["cola-0009"]
    unknown = client.get("/api/studies/first/trials?task=coal")
    assert (unknown.status_code, unknown.json()["problem"]) == (422, "unknown task 'coal', did you mean 'cola'?")
    misspelt = client.get("/api/studies/first/trials?status=stopped")
    assert misspelt.status_code == 422
    assert "stopped_early" in misspelt.text


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
    assert (order.text, order.by) == ("clone cola-0001 adapter.scale=2 from its last rung", whoami())
    assert client.get("/api/studies/first/orders").json() == [answer.json()]
    assert "cola-0001 adapter.scale=2 from its last rung" in client.get("/studies/first").text


@pytest.mark.parametrize(
    ("body", "place", "problem", "fix"),
    [
        ({"what": "explode"}, "body.what", "Input should be", SCHEMA),
        ({"what": "stop_trial"}, "body", "stop_trial needs a trial", SCHEMA),
        ({"what": "pause", "by": "eve"}, "body.by", "not permitted", SCHEMA),
        (
            {"what": "clone_trial", "trial": "a", "settings": ["x"]},
            "body.settings.0",
            "not written as it must be",
            "write each change as NAME=VALUE, such as training.learning_rate=0.001",
        ),
        ([], "body", "valid dictionary", SCHEMA),
        (
            {"what": "share", "value": "2"},
            "order.what",
            "only the queue gives shares",
            "order max_concurrent, or pause",
        ),
        (
            {"what": "clone_trial", "trial": "cola-0001"},
            "clone",
            "cola-0001 has these values: the same would be trained again",
            "change one with settings, such as training.learning_rate=0.001",
        ),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(
    client: TestClient, study: StudyFolder, body: object, place: str, problem: str, fix: str
) -> None:
    answer = client.post("/api/studies/first/orders", json=body)
    assert answer.status_code == 422
    assert set(answer.json()) == {"place", "problem", "fix"}
    assert (answer.json()["place"], answer.json()["fix"]) == (place, fix)
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


def test_an_order_is_checked_without_being_given(client: TestClient, study: StudyFolder) -> None:
    order = {"what": "clone_trial", "trial": "cola-0002", "settings": ["adapter.scale=2"]}
    assert client.post("/api/studies/first/orders/check", json=order).status_code == 204
    refused = client.post("/api/studies/first/orders/check", json={**order, "settings": ["adapter.scale=-2"]})
    assert refused.status_code == 422
    assert "scale" in refused.json()["place"]
    assert client.post("/api/studies/gone/orders/check", json=order).status_code == 404
    assert client.get("/api/studies/first/orders").json() == []
