"""Tests the login: the cookie that the token gets, and where it leads."""

from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from starlette.testclient import TestClient

from krona_tune.service import login
from krona_tune.service.login import own_path
from krona_tune.study.folder import StudyFolder
from tests.service.conftest import TOKEN


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "FAILED_SECONDS", 0.0)


def test_the_login_gives_a_cookie_that_is_not_the_token(guarded: TestClient, study: StudyFolder) -> None:
    assert guarded.post("/login", data={"token": "wrong", "to": "/"}).status_code == 401
    answer = guarded.post("/login", data={"token": TOKEN, "to": "/studies/first"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/studies/first")
    cookie = answer.headers["set-cookie"]
    assert TOKEN not in cookie
    assert all(word in cookie.lower() for word in ("httponly", "samesite=strict", "path=/"))
    assert "secure" not in cookie.lower()
    assert guarded.get("/studies/first").status_code == 200
    guarded.cookies.clear()
    assert guarded.get("/studies/first").status_code == 303


@pytest.mark.parametrize("body", ["&" * 200, "token=wrong&" * 50, "\0", "token=%ff"])
def test_a_login_with_odd_fields_is_no_login(guarded: TestClient, body: str) -> None:
    assert guarded.post("/login", content=body).status_code == 401


def test_over_https_the_cookie_is_secure(guarded: TestClient) -> None:
    answer = guarded.post("https://studies.example/login", data={"token": TOKEN})
    assert "secure" in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize("to", ["//evil.example", "/\\evil.example", "https://evil.example", "", "x", "/\nx"])
def test_the_login_leads_to_no_other_place(guarded: TestClient, to: str) -> None:
    assert own_path(to) == "/"
    assert guarded.post("/login", data={"token": TOKEN, "to": to}).headers["location"] == "/"


def test_the_login_leads_to_the_study_that_was_asked_for_in_any_script(guarded: TestClient) -> None:
    page = "/studies/gr%C3%B6%C3%9Fe"
    asked = parse_qs(urlsplit(guarded.get(page).headers["location"]).query)["to"][0]
    assert f'value="{unquote(page)}"' in guarded.get("/login", params={"to": asked}).text
    assert guarded.post("/login", data={"token": TOKEN, "to": asked}).headers["location"] == page


def test_a_service_without_a_token_has_no_login(client: TestClient) -> None:
    assert client.post("/login", data={"token": ""}).status_code == 401
