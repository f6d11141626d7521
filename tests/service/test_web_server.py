"""Tests the service as a whole: its headers, its faults and its description."""

import pytest
from starlette.testclient import TestClient

from krona_tune.study.folder import StudyFolder


@pytest.mark.parametrize("path", ["/", "/studies/first", "/api/studies", "/nothing", "/plotly.js", "/api/studies/none"])
def test_every_answer_has_the_headers_that_keep_it_safe(client: TestClient, study: StudyFolder, path: str) -> None:
    for headers in ({}, {"Host": "evil.example"}):
        answer = client.get(path, headers=headers)
        policy = answer.headers["content-security-policy"]
        for rule in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"):
            assert rule in policy
        assert "script-src 'self' 'nonce-" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        kept = path == "/plotly.js" and not headers
        assert answer.headers["cache-control"] == ("private, max-age=31536000, immutable" if kept else "no-store")
        assert "server" not in answer.headers


def test_a_fault_is_answered_and_logged(
    client: TestClient, study: StudyFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr("krona_tune.service.served_studies.read_records", broken)
    answer = client.get("/api/studies/first")
    assert answer.status_code == 500
    assert set(answer.json()) == {"place", "problem", "fix"}
    assert "secret" not in answer.text
    assert "a secret of the inside" in caplog.text


def test_what_the_answers_are_is_described_without_pages_from_outside(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert set(described["paths"]["/api/studies/{name}/orders"]) == {"get", "post"}
    assert "404" in described["paths"]["/api/studies/{name}"]["get"]["responses"]
    assert "/" not in described["paths"]
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 404
    assert client.get("/api/version").json() == client.get("/healthz").json()
