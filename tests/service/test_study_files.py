"""Tests which of a study's files are served: none through a link, and no password in them."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Status
from tests.record.events import ended, started
from tests.service.conftest import make_study


def test_passwords_are_masked(client: TestClient, root: Path) -> None:
    folder = make_study(root / "secret")
    with folder.spec.open("a", encoding="utf-8") as file:
        file.write("tracking_uri: http://ann:hunter2@host/\n")
    failed = ended(started(6), Status.FAILED, [], error="no access to s3://ann:hunter2@bucket with password=hunter2")
    ParquetSink(folder.results).trial_ended(failed)
    answers = [
        client.get(f"{place}secret{end}").text for place, end in (("/studies/", ""), ("/api/studies/", "/trials"))
    ]
    assert not [text for text in answers if "hunter2" in text]
    assert "ann:***@bucket" in answers[1]


@pytest.mark.parametrize(
    "name",
    ["%2e%2e", "..%2f..%2fetc", "%00", "x" * 5000, "é" * 200, ".hidden", "mlflow.db", "first%2F..%2Ffirst", "a b"],
)
def test_a_name_that_is_none_leads_nowhere(client: TestClient, study: StudyFolder, name: str) -> None:
    for path in (f"/studies/{name}", f"/studies/{name}/main", f"/studies/{name}/events", f"/api/studies/{name}"):
        assert client.get(path).status_code in {404, 422}, path


@pytest.mark.parametrize("linked", ["", "study.yaml", "manifest.json", "results", "results/trials.parquet"])
def test_a_link_out_of_the_storage_is_not_followed(
    client: TestClient, tmp_path: Path, root: Path, study: StudyFolder, linked: str
) -> None:
    outside = make_study(tmp_path / "outside")
    outside.spec.write_text("canary: canary-content\n")
    place = root / "linked"
    if linked:
        make_study(place)
        target = place / linked
        target.rename(tmp_path / "moved")
        target.symlink_to(outside.root / linked)
    else:
        place.symlink_to(outside.root)
    for path in ("/studies/linked", "/api/studies/linked", "/api/studies/linked/trials", "/studies/linked/main"):
        answer = client.get(path)
        assert answer.status_code == 422
        assert "outside the storage" in answer.text
        assert "canary" not in answer.text
    assert client.post("/api/studies/linked/orders", json={"what": "pause"}).status_code == 422
    assert not (outside.root / "orders").exists()
    assert "canary" not in client.get("/").text


@pytest.mark.parametrize("linked", ["orders", ".lock", "state.json"])
def test_nothing_is_written_through_a_link(client: TestClient, tmp_path: Path, study: StudyFolder, linked: str) -> None:
    outside = tmp_path / "outside"
    if linked == "orders":
        outside.mkdir()
    else:
        outside.write_text("kept")
    (study.root / linked).symlink_to(outside)
    assert client.post("/api/studies/first/orders", json={"what": "pause"}).status_code == 422
    assert client.get("/").status_code == 200
    assert list(outside.iterdir()) == [] if outside.is_dir() else outside.read_text() == "kept"


@pytest.mark.parametrize("linked", ["state.json", "orders", "results/parts/trials-9.parquet"])
def test_a_link_in_a_circle_hides_no_other_study(
    client: TestClient, root: Path, study: StudyFolder, linked: str
) -> None:
    path = make_study(root / "circle").root / linked
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(path.name)
    assert {each["name"]: each["state"] for each in client.get("/api/studies").json()} == {
        "first": "stopped",
        "circle": "unreadable",
    }
    answer = client.get("/studies/circle")
    assert answer.status_code == 422
    assert f"{path.name} is a link that leads in a circle" in answer.text
