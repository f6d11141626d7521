"""Sends thousands of made-up requests to the service: none may break it, and it keeps to its storage."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from krona_tune.record.storage import storage_at
from krona_tune.service.web_server import make_app
from tests.service.conftest import LOCAL, TOKEN, make_study

CANARY = "canary-4f1c"
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 150
"""Requests for each of the operations."""
MANY = settings(
    max_examples=EXAMPLES,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
    database=None,
)
LOCALHOST = {"Host": "localhost"}
ODD_PATHS = ["/studies/{}", "/studies/{}/main", "/api/studies/{}", "/api/studies/{}/trials", "/{}", "/plotly.js/{}"]
ODD_NAMES = [
    "../canary",
    "..%2Fcanary",
    "%2e%2e%2fcanary",
    "..%5Ccanary",
    "%252e%252e%252fcanary",
    "first/../../canary",
    "first%2F..%2F..%2Fcanary",
    "//canary",
    "%00",
    "first%00",
    "%ff%fe",
    "%ed%a0%80",
    "x" * 4000,
    "file:%2F%2F%2Fetc%2Fpasswd",
    "first;x=1",
    "first%0d%0aX-Evil:%201",
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A storage with a study, and beside it a file and a study that nobody may read."""
    (tmp_path / "canary").write_text(CANARY)
    outside = make_study(tmp_path / "outside")
    outside.spec.write_text(f"model: {CANARY}\n")
    make_study(tmp_path / "studies" / "first")
    (tmp_path / "studies" / "note.txt").write_text(CANARY)
    return tmp_path


def outside_of(place: Path) -> dict[str, tuple[bytes, int]]:
    """Returns every file beside the storage, with its content and when it was changed."""
    paths = [path for path in place.rglob("*") if path.is_file() and "studies" not in path.parts]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


@pytest.fixture
def unchanged(place: Path) -> Iterator[None]:
    before = outside_of(place)
    yield
    assert outside_of(place) == before
    assert {path.name for path in place.iterdir()} == {"canary", "outside", "studies"}
    assert {path.name for path in (place / "studies").iterdir()} == {"first", "note.txt"}


@pytest.mark.slow
@pytest.mark.usefixtures("unchanged")
def test_no_request_that_the_description_allows_or_forbids_breaks_the_service(place: Path) -> None:
    app = make_app(storage_at(str(place / "studies")))
    described = schemathesis.openapi.from_asgi("/openapi.json", app, headers=LOCALHOST)
    sent: Counter[str] = Counter()

    def send(case: schemathesis.Case) -> None:
        sent[case.operation.label] += 1
        if "name" in case.path_parameters and sent.total() % 2:
            case.path_parameters["name"] = "first"
        answer = case.call(headers=LOCALHOST)
        case.validate_response(answer, checks=CHECKS)
        assert CANARY not in answer.text

    for found in described.get_all_operations():
        operation = found.ok()
        cases = operation.as_strategy() | operation.as_strategy(schemathesis.GenerationMode.NEGATIVE)
        MANY(given(case=cases)(send))()
    assert sent.total() > 1_000, sent


@pytest.mark.slow
@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("token", ["", TOKEN])
def test_an_odd_path_leads_nowhere(place: Path, token: str) -> None:
    client = TestClient(make_app(storage_at(str(place / "studies")), token, pace=0), base_url=LOCAL)
    for path in ODD_PATHS:
        for name in ODD_NAMES:
            for method in ("GET", "POST", "PUT", "HEAD", "OPTIONS"):
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                answer = client.request(method, path.format(name), headers=headers, follow_redirects=False)
                assert answer.status_code in {400, 401, 404, 405, 415, 422}, (method, path, name)
                assert CANARY not in answer.text
                assert "x-evil" not in answer.headers
