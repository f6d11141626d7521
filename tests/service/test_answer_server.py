"""Tests what requests for answers give: the labels with their probabilities and what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import krona_tune
from krona_tune.service import access
from krona_tune.service.answer_server import make_answering_app
from krona_tune.train.predict import load_adapted
from tests.service.conftest import LOCAL, TOKEN
from tests.train.exported_adapters import adapter_folder, backbone_folder, texts


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("answers")
    backbone = backbone_folder("bert", root / "backbone")
    return {task: adapter_folder(backbone, root / task, task) for task in ("cola", "stsb")}


@pytest.fixture(scope="module")
def client(adapters: dict[str, Path]) -> Iterator[TestClient]:
    with TestClient(make_answering_app(load_adapted(adapters["cola"])), base_url=LOCAL) as made:
        yield made


def test_each_example_gets_its_label_its_probabilities_and_what_it_held(
    client: TestClient, adapters: dict[str, Path]
) -> None:
    rows = [row[0] for row in texts("cola", rows=9)]
    sent = [{"id": f"é{number}", "kept": [number], "sentence": row} for number, row in enumerate(rows)]
    answer = client.post("/predict", json={"examples": sent})
    assert answer.status_code == 200
    found = answer.json()["answers"]
    assert [(each["id"], each["kept"]) for each in found] == [(f"é{number}", [number]) for number in range(9)]
    assert all("sentence" not in each for each in found)
    assert [each["prediction"] for each in found] == krona_tune.predict(adapters["cola"], rows)
    for each in found:
        likely = each["probabilities"]
        assert set(likely) == {"acceptable", "unacceptable"}
        assert sum(likely.values()) == pytest.approx(1)
        assert max(likely, key=likely.__getitem__) == each["prediction"]


def test_a_regression_is_answered_with_a_number(adapters: dict[str, Path]) -> None:
    pairs = texts("stsb", rows=3)
    with TestClient(make_answering_app(load_adapted(adapters["stsb"])), base_url=LOCAL) as client:
        sent = [{"sentence2": two, "sentence1": one} for one, two in pairs]
        found = client.post("/predict", json={"examples": sent}).json()["answers"]
    expected = [float(text) for text in krona_tune.predict(adapters["stsb"], pairs)]
    assert [each["prediction"] for each in found] == pytest.approx(expected, abs=1e-4)
    assert all(set(each) == {"prediction"} for each in found)


def nested(deep: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(deep - 1):
        found = [found]
    return found


def test_values_in_lists_are_sent_back(client: TestClient) -> None:
    answer = client.post("/predict", json={"examples": [{"sentence": "a cat", "x": nested(32)}]})
    assert answer.json()["answers"][0]["x"] == nested(32)


SENT = 'send {"examples": [{"sentence": "a text"}]}, at most 1024 at once'


@pytest.mark.parametrize(
    ("body", "place", "said"),
    [
        ({"examples": []}, "body.examples", "at least 1 item"),
        ({"examples": [{"sentence": "a cat"}] * 1025}, "body.examples", "at most 1024 items"),
        ({"rows": []}, "body.examples", "Field required"),
        ({"examples": [{"sentence": "a cat"}], "batch": 2}, "body.batch", "Extra inputs are not permitted"),
        ([{"sentence": "a cat"}], "body", "valid dictionary"),
        ({"examples": ["a cat"]}, "body.examples.0", "valid dictionary"),
        ({"examples": [{"text": "a cat"}]}, "examples[0]", "no column 'sentence'; found text"),
        ({"examples": [{"sentence": "a cat"}, {"sentence": 7}]}, "examples[1]", "sentence is 7, not a text"),
        ({"examples": [{"sentence": " "}]}, "examples[0]", "it is empty"),
        ({"examples": [{"sentence": "a", "prediction": 1}]}, "examples[0]", "it has 'prediction', which the answer"),
        ({"examples": [{"sentence": "a", "x": nested(33)}]}, "examples[0]", "its values are nested too deeply"),
        ({"examples": [{"sentence": "a", "x": nested(900)}]}, "examples[0]", "its values are nested too deeply"),
    ],
)
def test_what_are_no_examples_is_refused(client: TestClient, body: Any, place: str, said: str) -> None:
    answer = client.post("/predict", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    told = answer.json()
    assert told["place"] == place
    assert said in told["problem"]
    assert told["fix"] == SENT or place.startswith("examples[")


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 60_000, b'{"examples": [{"sentence": "\\ud800"}]}'])
def test_what_is_no_json_is_refused(client: TestClient, content: bytes) -> None:
    answer = client.post("/predict", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}
    assert set(answer.json()) == {"place", "problem", "fix"}


def test_a_body_of_another_kind_or_too_large_or_another_site_s_is_refused(client: TestClient) -> None:
    given = {"examples": [{"sentence": "a cat"}]}
    assert client.post("/predict", content=json.dumps(given)).status_code == 415
    large = {"examples": [{"sentence": "a cat " * 200_000}] * 2}
    answer = client.post("/predict", json=large)
    assert (answer.status_code, answer.json()["problem"]) == (413, "has more than 2,000,000 bytes")
    assert client.post("/predict", json=given, headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.post("/predict", json=given, headers={"Host": "evil.example"}).status_code == 421
    assert client.get("/predict").status_code == 405
    assert client.get("/").json()["place"] == "/"


def test_it_says_what_it_is_and_what_it_takes(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"version": krona_tune.__version__}
    described = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    assert SENT in described["description"]
    assert {"401", "413", "422", "503"} <= set(described["responses"])


def test_only_who_knows_the_token_is_answered(adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "FAILED_SECONDS", 0.0)
    app = make_answering_app(load_adapted(adapters["cola"]), TOKEN)
    given = {"examples": [{"sentence": "a cat"}]}
    with TestClient(app, base_url="http://answers.example", follow_redirects=False) as client:
        assert client.get("/healthz").status_code == 200
        for path in ("/", "/openapi.json", "/login"):
            assert client.get(path).status_code == (404 if path == "/login" else 401)
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            answer = client.post("/predict", json=given, headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert client.post("/predict", json=given, headers=right).status_code == 200
