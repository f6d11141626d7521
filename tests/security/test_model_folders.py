"""A model's folder is data too: any config.json is a geometry or refused, and no code in it is run."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krona_tune.refusal import Refusal
from krona_tune.study.families import geometry
from krona_tune.study.geometry import Geometry
from krona_tune.train.backbone import load_backbone
from krona_tune.train.device import this_device
from krona_tune.train.source import find_backbone
from krona_tune.train.words import open_tokenizer
from tests.models import CONFIGS
from tests.search.models import saved_bert
from tests.security.hostile import ODD_TEXTS, THOUSAND, VALUES, changed, clean, damaged

RIGHT: dict[str, dict[str, Any]] = {
    name: {"model_type": model_type, **values} for name, (model_type, values) in CONFIGS.items()
}
CODE = "import pathlib\npathlib.Path({mark!r}).touch()\n"
REMOTE = {"AutoConfig": "hostile.Config", "AutoModel": "hostile.Model", "AutoTokenizer": ["hostile.Words", None]}


@THOUSAND
@given(st.sampled_from(sorted(RIGHT)).flatmap(lambda name: changed(RIGHT[name])))
def test_any_config_is_a_geometry_or_refused(config: dict[str, Any]) -> None:
    found = clean(lambda: geometry(config))
    if isinstance(found, Geometry):
        assert found.parameters > 0
        assert found.sites


@THOUSAND
@given(
    damaged(json.dumps(RIGHT["bert"]).encode()) | st.binary(max_size=100) | VALUES.map(repr).map(ascii).map(str.encode)
)
def test_any_config_file_is_a_backbone_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "config"
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").touch()
    (folder / "config.json").write_bytes(content)
    clean(lambda: find_backbone(str(folder)).geometry)


@THOUSAND
@given(ODD_TEXTS | st.text(max_size=30))
def test_any_name_of_a_model_is_found_or_refused(name: str) -> None:
    clean(lambda: find_backbone(name))


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A right model's folder that also names code of its own, which would leave a mark."""
    folder = saved_bert(tmp_path / "bert")
    (folder / "hostile.py").write_text(CODE.format(mark=str(tmp_path / "mark")), encoding="utf-8")
    for name in ("config.json", "tokenizer_config.json"):
        written = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps({**written, "auto_map": REMOTE}), encoding="utf-8")
    return folder


def test_a_models_own_code_is_never_run(hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a person was asked whether to run it"))
    load_backbone(str(hostile), this_device("fp32", gpu=False))
    open_tokenizer(str(hostile), 10_000)
    assert not (tmp_path / "mark").exists()


def test_a_tokenizer_that_is_code_alone_is_refused_and_nobody_is_asked(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a person was asked whether to run it"))
    words = json.loads((hostile / "tokenizer_config.json").read_text(encoding="utf-8"))
    (hostile / "tokenizer_config.json").write_text(json.dumps({**words, "tokenizer_class": "Words"}), encoding="utf-8")
    (hostile / "config.json").write_text(json.dumps({"auto_map": REMOTE, "model_type": "hostile"}), encoding="utf-8")
    with pytest.raises(Refusal, match="no usable tokenizer"):
        open_tokenizer(str(hostile), 10_000)
    with pytest.raises(Refusal, match="unknown model_type 'hostile'"):
        find_backbone(str(hostile)).geometry  # noqa: B018
    assert not (tmp_path / "mark").exists()


def test_weights_that_would_be_unpickled_are_not(tmp_path: Path) -> None:
    folder = saved_bert(tmp_path / "bert")
    (folder / "model.safetensors").unlink()
    mark = tmp_path / "mark"
    (folder / "pytorch_model.bin").write_bytes(
        b"cpathlib\nPath.touch\n(cpathlib\nPath\n(V" + str(mark).encode() + b"\ntRtR."
    )
    with suppress(Exception):
        load_backbone(str(folder), this_device("fp32", gpu=False))
    assert not mark.exists()
