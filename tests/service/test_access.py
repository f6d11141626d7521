"""Tests who may use the service: tokens and cookies, hosts, origins, kinds and sizes of requests."""

from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.testclient import TestClient

from krona_tune.record.orders import waiting_orders
from krona_tune.service import access
from krona_tune.service.access import Access
from krona_tune.service.login import own_path
from krona_tune.study.folder import StudyFolder
from tests.service.conftest import TOKEN

BEARER = {"Authorization": f"Bearer {TOKEN}"}
ORDERS = "/api/studies/first/orders"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "FAILED_SECONDS", 0.0)


def test_without_the_token_only_health_and_login_answer(guarded: TestClient, study: StudyFolder) -> None:
    assert guarded.get("/healthz").status_code == guarded.get("/login").status_code == 200
    for path in ("/api/studies", "/api/version", "/openapi.json", ORDERS, "/api/nothing"):
        answer = guarded.get(path)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert set(answer.json()) == {"place", "problem", "fix"}
    for path in ("/", "/studies/first", "/studies/first/events", "/plotly.js", "/nothing"):
        answer = guarded.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/login?to={path}")
    compared = guarded.get("/compare?study=a%20b&study=c").headers["location"]
    assert own_path(parse_qs(urlsplit(compared).query)["to"][0]) == "/compare?study=a%20b&study=c"
    assert guarded.post(ORDERS, json={"what": "pause"}).status_code == 401
    assert waiting_orders(study) == []


@pytest.mark.parametrize("wrong", ["", "x", TOKEN[:-1], TOKEN + "x", "é", TOKEN.upper()])
def test_a_wrong_token_is_refused(guarded: TestClient, wrong: str) -> None:
    header = {"Authorization": f"Bearer {wrong}".encode()}
    assert guarded.get("/api/studies", headers=header).status_code == 401
    cookie = f"{Access(token=TOKEN).cookie_name}={TOKEN}"
    assert guarded.get("/api/studies", headers={"Cookie": cookie}).status_code == 401


def test_the_token_lets_in_and_the_order_says_who_gave_it(guarded: TestClient, study: StudyFolder) -> None:
    assert guarded.get("/api/studies", headers=BEARER).status_code == 200
    for name, by in (("ann", "the service (ann)"), ("", "the service")):
        answer = guarded.post(ORDERS, json={"what": "pause"}, headers=BEARER | ({"X-User": name} if name else {}))
        assert (answer.status_code, answer.json()["by"]) == (202, by)
    for name in ("x" * 41, "a\tb"):
        answer = guarded.post(ORDERS, json={"what": "pause"}, headers=BEARER | {"X-User": name})
        assert (answer.status_code, answer.json()["place"]) == (422, "X-User")


@pytest.mark.parametrize("odd", ['theirs={"a": 1}', "a@b=1", "blank name=1", "é=1", "flag", "=", ""])
def test_the_cookie_is_found_among_odd_ones_of_other_applications(guarded: TestClient, odd: str) -> None:
    own = Access(token=TOKEN)
    for cookies in (f"{odd}; {own.cookie_name}={own.cookie}", f"{own.cookie_name}={own.cookie}; {odd}"):
        assert guarded.get("/api/studies", headers={"Cookie": cookies.encode()}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.evil", "localhost@evil", "10.0.0.1", "", "[::2]"]
)
def test_without_a_token_another_name_of_this_machine_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/api/studies", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8300", "127.0.1.1", "[::1]", "[::1]:8300"])
def test_without_a_token_this_machines_names_are_accepted(client: TestClient, host: str) -> None:
    assert client.get("/api/studies", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"Origin": "http://127.0.0.1:8300"}, 202),
        ({"Origin": "http://127.0.0.1:8300", "Sec-Fetch-Site": "same-origin"}, 202),
        ({"Sec-Fetch-Site": "none"}, 202),
        ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, 202),
        ({"Origin": "https://studies.example", "Sec-Fetch-Site": "same-origin"}, 202),  # a proxy names another host
        ({"Origin": "https://studies.example", "Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "null", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:8300.evil.example"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 202),
    ],
)
def test_only_the_own_page_gives_orders(
    client: TestClient, study: StudyFolder, headers: dict[str, str], status: int
) -> None:
    sent = {"Content-Type": "application/json"} | headers
    answer = client.post(ORDERS, content=b'{"what": "pause"}', headers=sent)
    assert answer.status_code == status
    assert len(waiting_orders(study)) == (status == 202)


def test_a_large_body_is_refused_with_a_length_and_without(client: TestClient, study: StudyFolder) -> None:
    sent = {"Content-Type": "application/json"}
    assert client.post(ORDERS, content=b" " * 65_537, headers=sent).status_code == 413
    assert client.post(ORDERS, content=iter([b" " * 40_000] * 2), headers=sent).status_code == 413
    assert client.post(ORDERS, content=iter([b'{"what": ', b'"pause"}']), headers=sent).status_code == 202


def test_the_cookie_follows_from_the_token_alone() -> None:
    one, same, other = (Access(token=token) for token in (TOKEN, TOKEN, TOKEN + "x"))
    assert one.cookie == same.cookie != other.cookie
    assert one.cookie_name == same.cookie_name != other.cookie_name, "a browser mixes the ports of a machine up"
