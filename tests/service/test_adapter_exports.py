"""Tests that a service exports what a study has chosen into the study's folder, and refuses what can't be exported."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from krona_tune.adapters.adapter_card import Form
from krona_tune.record.storage import storage_at
from krona_tune.refusal import Refusal
from krona_tune.service.adapter_exports import ExportRequest, export_apart
from krona_tune.service.web_server import make_app
from krona_tune.study.folder import StudyFolder
from tests.record.adapters import study_folder
from tests.service.conftest import LOCAL


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return study_folder(tmp_path)


def refused(study: StudyFolder, task: str, form: Form = Form.MERGED) -> str:
    with pytest.raises(Refusal) as caught:
        export_apart(study, ExportRequest(task=task, form=form))
    return str(caught.value)


def test_what_cannot_be_exported_is_refused_before_a_process_starts(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("krona_tune.service.adapter_exports.ChildProcess", None)
    assert refused(study, "mrpc") == "task: unknown task 'mrpc'; known: cola, rte"
    assert "first-study has no adapter of rte yet; wait" in refused(study, "rte")
    assert refused(study, "cola", Form.LORA).startswith("form: unknown form 'lora'")
    (study.exports / "cola-peft").mkdir(parents=True)
    assert "is there already; use it, or remove it first" in refused(study, "cola", Form.PEFT)


@pytest.mark.slow
@pytest.mark.beside
def test_a_program_exports_an_adapter_by_rest(study: StudyFolder) -> None:
    client = TestClient(make_app(storage_at(str(study.root.parent))), base_url=LOCAL)
    place = "/api/studies/first-study/exports"
    answer = client.post(place, json={"task": "cola", "form": "merged"})
    assert answer.status_code == 201, answer.text
    held = answer.json()
    assert Path(held["folder"]) == study.exports / "cola-merged"
    assert (study.exports / "cola-merged" / "model.safetensors").exists()
    assert held["difference"] < 1e-4
    assert "from_pretrained" in held["loading"]
    again = client.post(place, json={"task": "cola"})
    assert (again.status_code, again.json()["place"]) == (422, "form")
    assert client.post("/api/studies/none/exports", json={"task": "cola"}).status_code == 404
    assert client.post(place, json={"task": "cola", "to": "/tmp/x"}).status_code == 422
    page = client.get("/studies/first-study").text
    assert 'data-to="/api/studies/first-study/exports"' in page
