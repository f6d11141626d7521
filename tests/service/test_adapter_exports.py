"""Tests that a service exports what a study has chosen into the study's folder, sends it, and refuses what it can't."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import Any, Self
from urllib.request import urlopen

import pytest
import torch
from starlette.testclient import TestClient

from krona_tune.adapters.adapter_card import read_card, tensors_digest, trial_in
from krona_tune.adapters.adapter_files import save_adapter
from krona_tune.adapters.export_forms import Form
from krona_tune.record.remote_copy import Copy
from krona_tune.record.storage import storage_at
from krona_tune.refusal import Refusal
from krona_tune.service import Client
from krona_tune.service.adapter_exports import (
    ExportAnswer,
    ExportRequest,
    ExportSource,
    downloads,
    export_apart,
    exported_folder,
)
from krona_tune.service.web_server import make_app
from krona_tune.study.folder import StudyFolder
from tests.record.adapters import study_folder
from tests.service.conftest import LOCAL
from tests.service.serving import served
from tests.train.exported_adapters import adapter_folder


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return study_folder(tmp_path)


def refused(study: StudyFolder, task: str, form: Form = Form.MERGED) -> str:
    with pytest.raises(Refusal) as caught:
        export_apart(study, ExportRequest(task=task, form=form))
    return str(caught.value)


def exported(study: StudyFolder, form: Form) -> Path:
    """Makes the folder of an export of what is chosen of cola, which says so."""
    folder = study.exports / f"cola-{form}"
    folder.mkdir(parents=True)
    adapter = study.adapter("cola")
    source = ExportSource(trial_id=trial_in(adapter), tensors=tensors_digest(adapter))
    (study.exports / f"{folder.name}.json").write_text(source.model_dump_json(), encoding="utf-8")
    return folder


def test_what_cannot_be_exported_is_refused_before_a_process_starts(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("krona_tune.service.adapter_exports.ChildProcess", None)
    assert refused(study, "mrpc") == "task: unknown task 'mrpc'; known: cola, rte"
    assert "first-study has no adapter of rte yet; wait" in refused(study, "rte")
    assert refused(study, "cola", Form.LORA).startswith("form: unknown form 'lora'")
    exported(study, Form.PEFT)
    assert "is there already; use it, or remove it first" in refused(study, "cola", Form.PEFT)
    (study.exports / "cola-peft.json").unlink()
    assert "is there already and does not say of which adapter it is; use" in refused(study, "cola", Form.PEFT)


class Exporter:
    """Stands for the process that exports: it writes one file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def call(
        self, export: object, adapter: Path, to: Path, form: Form, download: str, *, seconds: float
    ) -> ExportAnswer:
        to.mkdir()
        (to / "model.safetensors").write_bytes((adapter / "adapter.safetensors").read_bytes())
        return ExportAnswer(folder=str(to), difference=0.0, loading="", download=download)


class SameProcess(Exporter):
    """Stands for the process that exports: this one exports."""

    def call(self, export: Any, *given: object, seconds: float) -> ExportAnswer:
        answer: ExportAnswer = export(*given)
        return answer


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"vocabulary": "another"}, "or name the backbone with krona-tune export --model"),
        ({"backbone": "/nowhere"}, "krona-tune export --model: no folder '/nowhere'; give"),
    ],
)
def test_what_needs_another_backbone_is_refused_with_the_command_that_takes_one(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], said: str
) -> None:
    monkeypatch.setattr("krona_tune.service.adapter_exports.ChildProcess", SameProcess)
    card = study.adapter("cola") / "adapter.json"
    card.write_text(json.dumps(json.loads(card.read_text(encoding="utf-8")) | changed), encoding="utf-8")
    assert said in refused(study, "cola")


def test_an_adapter_that_peft_has_not_is_advised_in_the_forms_that_the_service_offers(
    study: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("krona_tune.service.adapter_exports.ChildProcess", SameProcess)
    rmtree(study.adapter("cola"))
    adapter_folder(tmp_path / "backbone", study.adapter("cola"), "cola", a_out=4, a_in=6, roles="query+value")
    said = refused(study, "cola", Form.PEFT)
    assert re.findall(r"form (\w+)", said) == ["merged", "krona", "adapter"], said


def test_an_export_of_what_was_chosen_before_is_not_offered_and_gives_way(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("krona_tune.service.adapter_exports.ChildProcess", Exporter)
    asked = ExportRequest(task="cola")
    export_apart(study, asked)
    assert [each.form for each in downloads(study, ["cola"])] == [None, Form.MERGED]
    tensors = study.adapter("cola") / "adapter.safetensors"
    tensors.write_bytes(b"of another trial")
    assert [each.form for each in downloads(study, ["cola"])] == [None]
    with pytest.raises(Refusal, match="what is chosen of cola is not exported as merged; export it first"):
        exported_folder(study, "cola", Form.MERGED)
    export_apart(study, asked)
    folder = exported_folder(study, "cola", Form.MERGED)
    assert files(folder) == {"model.safetensors": b"of another trial"}
    assert "is there already; use it" in refused(study, "cola")


def test_what_a_killed_export_left_is_removed(study: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("krona_tune.service.adapter_exports.ChildProcess", Exporter)
    left, under_way = study.exports / ".unfinished-old", study.exports / ".unfinished-new"
    for folder in (left, under_way):
        folder.mkdir(parents=True)
    os.utime(left, (0, 0))
    export_apart(study, ExportRequest(task="cola"))
    assert (left.exists(), under_way.exists()) == (False, True)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_adapter_and_an_export_are_downloaded_as_they_are(study: StudyFolder, tmp_path: Path) -> None:
    export = exported(study, Form.MERGED)
    (export / "model.safetensors").write_bytes(b"weights")
    with served(storage_at(str(study.root.parent))) as address:
        client = Client(address)
        adapter = client.download("first-study", "cola", tmp_path / "out" / "adapter")
        merged = client.download("first-study", "cola", str(tmp_path / "merged"), Form.MERGED)
        page = urlopen(f"{address}/studies/first-study").read().decode()
        for task, form, to, refusal in (
            ("rte", None, "new", "task: first-study has no adapter of rte yet"),
            ("mrpc", None, "new", "task: unknown task 'mrpc'"),
            ("cola", Form.ONNX, "new", "form: what is chosen of cola is not exported as onnx; export it first"),
            ("cola", None, "merged", "merged is there already; name a new folder"),
        ):
            with pytest.raises(Refusal, match=refusal):
                client.download("first-study", task, tmp_path / to, form)
    assert files(adapter) == files(study.adapter("cola")) != {}
    assert files(merged) == {"model.safetensors": b"weights"}
    assert not (tmp_path / "new").exists()
    for path in ("adapters/cola", "exports/cola/merged"):
        assert f'href="/api/studies/first-study/{path}" download' in page
    assert "adapters/rte" not in page


def test_a_link_out_of_the_study_is_neither_sent_nor_written_through(study: StudyFolder, tmp_path: Path) -> None:
    exported(study, Form.MERGED)
    study.exports.rename(tmp_path / "elsewhere")
    study.exports.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refusal, match="cola-merged is a link to a place outside it"):
        exported_folder(study, "cola", Form.MERGED)
    assert "cola-onnx is a link to a place outside it" in refused(study, "cola", Form.ONNX)


def test_the_adapter_of_a_study_that_has_a_copy_is_brought_and_its_exports_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    storage, here = f"file://{tmp_path}/copy", study_folder(tmp_path / "here")
    copy = Copy(replace(here, remote=f"{storage}/first-study"))
    copy.make_origin()
    copy.push()
    client = TestClient(make_app(storage_at(storage), pace=0), base_url=LOCAL)
    sent = client.get("/api/studies/first-study/adapters/cola")
    assert sent.status_code == 200, sent.text
    assert 'adapters/cola" download' in client.get("/studies/first-study").text
    export = exported(storage_at(storage).study("first-study"), Form.MERGED)
    (export / "model.safetensors").write_bytes(b"weights")
    assert client.get("/api/studies/first-study/exports/cola/merged").status_code == 200
    assert (export / "model.safetensors").exists()
    save_adapter(here.adapter("cola"), {"x": torch.ones(2)}, read_card(here.adapter("cola")))
    copy.push()
    earlier = client.get("/api/studies/first-study/exports/cola/merged")
    assert earlier.status_code == 422, "it is of what was chosen before"


@pytest.mark.slow
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
    sent = client.get(held["download"])
    assert (sent.status_code, sent.headers["content-type"]) == (200, "application/zip")
    again = client.post(place, json={"task": "cola"})
    assert (again.status_code, again.json()["place"]) == (422, "form")
    assert client.post("/api/studies/none/exports", json={"task": "cola"}).status_code == 404
    assert client.post(place, json={"task": "cola", "to": "/tmp/x"}).status_code == 422
    page = client.get("/studies/first-study").text
    assert 'data-to="/api/studies/first-study/exports"' in page
