"""Tests that a task's adapter is a registered model that gives the answers of `krona_tune.predict`."""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

import krona_tune
from krona_tune.adapters.adapter_card import tensors_digest
from krona_tune.data.tasks import TASKS
from krona_tune.record.mlflow_mirror.mlflow_sink import sync
from krona_tune.record.model import save_model
from krona_tune.refusal import Refusal
from krona_tune.study.manifest import read_manifest
from tests.adapters.cards import saved
from tests.models import build
from tests.record.adapters import study_folder
from tests.train.exported_adapters import adapter_folder, backbone_folder
from tests.trained_adapters import shaped

PAIRS = [("the old dog sleeps", "a dog sleeps"), ("the cat runs", "nobody runs"), ("a man sings", "a man eats")]
SENTENCES = ["the old dog sleeps", "dog the sleeps old"]


def loaded(task: str, folder: Path, **more: Any) -> tuple[Path, Any]:
    adapter = adapter_folder(backbone_folder("bert", folder / "backbone"), folder / "adapter", task)
    save_model(folder / "model", adapter)
    return adapter, mlflow.pyfunc.load_model(str(folder / "model"), **more)


def test_sentences_and_a_frame_with_the_tasks_column_get_the_same_labels(tmp_path: Path) -> None:
    adapter, model = loaded("cola", tmp_path)
    expected = krona_tune.predict(adapter, SENTENCES)
    assert model.predict(SENTENCES) == expected
    assert model.predict(pd.DataFrame({"sentence": SENTENCES})) == expected
    assert model.predict(SENTENCES[0]) == expected[:1]


def test_a_column_beside_the_tasks_own_is_not_what_is_read(tmp_path: Path) -> None:
    adapter, model = loaded("cola", tmp_path)
    frame = pd.DataFrame({"title": ["a", "b"], "sentence": SENTENCES})
    assert model.predict(frame) == krona_tune.predict(adapter, SENTENCES)
    with pytest.raises(Refusal, match="no column 'sentence'; found title, text; CoLA takes sentence"):
        model.predict(frame.rename(columns={"sentence": "text"}))
    with pytest.raises(Refusal, match="no column 'sentence'; found 0, 1"):
        model.predict(PAIRS)


def test_pairs_are_told_apart_by_the_names_of_their_columns(tmp_path: Path) -> None:
    adapter, model = loaded("stsb", tmp_path)
    expected = [float(text) for text in krona_tune.predict(adapter, PAIRS)]
    assert model.predict(PAIRS) == expected
    frame = pd.DataFrame(PAIRS, columns=["sentence1", "sentence2"])
    assert model.predict(frame[["sentence2", "sentence1"]]) == expected
    assert expected != [float(text) for text in krona_tune.predict(adapter, [pair[::-1] for pair in PAIRS])]


def test_an_empty_text_is_refused_with_its_row(tmp_path: Path) -> None:
    _, model = loaded("cola", tmp_path)
    with pytest.raises(Refusal, match="row 1: it is empty"):
        model.predict(["the dog", " "])
    with pytest.raises(Refusal, match=r"row 1: sentence is \w+, not a text"):
        model.predict(pd.DataFrame({"sentence": ["the dog", None]}))


def test_a_model_is_the_adapters_folder_and_no_code(tmp_path: Path) -> None:
    adapter, model = loaded("cola", tmp_path)
    kept = {path.name for path in (tmp_path / "model" / "data" / "adapter").iterdir()}
    assert kept == {path.name for path in adapter.iterdir()}
    assert not [path for path in (tmp_path / "model").rglob("*") if path.suffix in {".pkl", ".py"}]
    assert model.metadata.metadata["columns"] == ["sentence"]
    assert model.metadata.flavors["python_function"]["loader_module"] == "krona_tune.record.model", "as in earlier ones"
    assert "krona_tune==1.2.3" in (tmp_path / "model" / "requirements.txt").read_text()


@pytest.mark.parametrize(
    ("method", "quantize", "extras"),
    [
        ("krona", None, ""),
        ("lokr", None, "[peft]"),
        ("krona", "nf4", "[quantize]"),
        ("lokr", "int8", "[peft,quantize]"),
    ],
)
def test_its_environment_has_what_its_method_and_its_weights_need(
    method: str, quantize: str | None, extras: str, tmp_path: Path
) -> None:
    facts = {"task": "cola", "labels": TASKS["cola"].labels, "quantize": quantize}
    saved(tmp_path / "adapter", "bert", shaped(build("bert")[0], method), **facts)
    save_model(tmp_path / "model", tmp_path / "adapter")
    assert f"krona_tune{extras}==1.2.3" in (tmp_path / "model" / "requirements.txt").read_text().splitlines()


def test_the_backbone_may_be_found_elsewhere(tmp_path: Path) -> None:
    adapter, _ = loaded("cola", tmp_path)
    expected = krona_tune.predict(adapter, SENTENCES)
    (tmp_path / "backbone").rename(tmp_path / "moved")
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"), model_config={"model": str(tmp_path / "moved")})
    assert model.predict(SENTENCES) == expected


def test_studies_of_one_name_keep_their_own_registered_models(tmp_path: Path, tracking_uri: str) -> None:
    first, second = (study_folder(tmp_path / name) for name in ("here", "there"))
    tensors = second.adapter("cola") / "adapter.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\1")
    later = read_manifest(second.manifest).model_copy(update={"created_at": "2031-01-01T00:00:00+00:00"})
    later.write(second.manifest)
    client = MlflowClient(tracking_uri, tracking_uri)
    for folder in (first, second, first, second):
        sync(folder, tracking_uri)
    digests = {
        name: [version.tags["krona.adapter_sha256"] for version in client.search_model_versions(f"name='{name}'")]
        for name in ("first-study.cola", "first-study.cola-2031-01-01T000000+0000")
    }
    assert list(digests.values()) == [[tensors_digest(each.adapter("cola"))] for each in (first, second)]


OWN_NAME = "first-study.cola-2025-01-02T030405+0000"
"""The registered model of a study whose usual name somebody else has."""


@pytest.mark.parametrize(
    ("tags", "versions", "name"),
    [
        ({}, 1, OWN_NAME),
        ({"team": "search"}, 1, OWN_NAME),
        ({"team": "search"}, 0, "first-study.cola"),
        ({"krona.study": "first-study", "krona.task": "cola"}, 1, "first-study.cola"),
    ],
    ids=["somebody else's", "somebody else's with a tag", "prepared", "an earlier version's"],
)
def test_a_registered_model_that_somebody_else_filled_is_left_as_it_is(
    tmp_path: Path, tracking_uri: str, tags: dict[str, str], versions: int, name: str
) -> None:
    folder, client = study_folder(tmp_path / "studies"), MlflowClient(tracking_uri, tracking_uri)
    client.create_registered_model("first-study.cola", tags)
    for _ in range(versions):
        client.create_model_version("first-study.cola", (tmp_path / "elsewhere").as_uri())
    for _ in range(2):
        sync(folder, tracking_uri)
    found, taken = client.get_registered_model("first-study.cola"), name == "first-study.cola"
    assert (found.tags == tags, len(found.aliases)) == (not taken, 2 * taken)
    assert len(client.search_model_versions("name='first-study.cola'")) == versions + taken
    chosen = client.get_model_version_by_alias(name, "chosen")
    assert chosen.tags["krona.adapter_sha256"] == tensors_digest(folder.adapter("cola"))


def test_a_new_adapter_is_a_new_version_and_the_alias_follows_it(tmp_path: Path, tracking_uri: str) -> None:
    folder = study_folder(tmp_path / "studies")
    client = MlflowClient(tracking_uri, tracking_uri)
    sync(folder, tracking_uri)
    [first] = client.search_model_versions("name='first-study.cola'")
    assert (first.tags["krona.task"], first.tags["krona.method"]) == ("cola", "krona")
    with pytest.raises(MlflowException):
        client.get_registered_model("first-study.rte")
    tensors = folder.adapter("cola") / "adapter.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\1")
    sync(folder, tracking_uri)
    assert str(client.get_model_version_by_alias("first-study.cola", "winner").version) == "2"
    assert len(client.search_model_versions("name='first-study.cola'")) == 2
