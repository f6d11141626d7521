"""Tests that a model's folder is data: any config.json is a geometry or refused, and no code in it is run."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krona_tune.backbones.find_geometry import geometry
from krona_tune.backbones.geometry import Geometry
from krona_tune.refusal import Refusal
from krona_tune.train.backbone import load_backbone, open_tokenizer
from krona_tune.train.backbone_source import find_backbone
from krona_tune.train.device import this_device
from krona_tune.train.predict import load_adapted
from tests.models import CONFIGS
from tests.search.models import saved_bert
from tests.security.hostile import HOSTILE, ODD_TEXTS, VALUES, changed, clean, damaged
from tests.train.exported_adapters import adapter_folder, backbone_folder

RIGHT: dict[str, dict[str, Any]] = {
    name: {"model_type": model_type, **values} for name, (model_type, values) in CONFIGS.items()
}
CODE = "import pathlib\npathlib.Path({mark!r}).touch()\n"
REMOTE = {"AutoConfig": "hostile.Config", "AutoModel": "hostile.Model", "AutoTokenizer": ["hostile.Words", None]}


@pytest.mark.slow
@HOSTILE
@given(st.sampled_from(sorted(RIGHT)).flatmap(lambda name: changed(RIGHT[name])))
def test_any_config_is_a_geometry_or_refused(config: dict[str, Any]) -> None:
    found = clean(lambda: geometry(config))
    if isinstance(found, Geometry):
        assert found.parameters > 0
        assert found.sites


@HOSTILE
@given(
    damaged(json.dumps(RIGHT["bert"]).encode()) | st.binary(max_size=100) | VALUES.map(repr).map(ascii).map(str.encode)
)
def test_any_config_file_is_a_backbone_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "config"
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").touch()
    (folder / "config.json").write_bytes(content)
    clean(lambda: find_backbone(str(folder)).geometry)


@HOSTILE
@given(ODD_TEXTS | st.text(max_size=30))
def test_any_name_of_a_model_is_found_or_refused(name: str) -> None:
    clean(lambda: find_backbone(name))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 90868376\n"
WEIGHTS, BIN, INDEX = "model.safetensors", "pytorch_model.bin", "model.safetensors.index.json"
DEEP = b"[" * 100_000


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_bert(tmp_path_factory.mktemp("right") / "bert")


@pytest.fixture
def model(right: Path, tmp_path: Path) -> Path:
    """Copies the folder of a correct model, to be damaged."""
    return Path(shutil.copytree(right, tmp_path / "model"))


Damage = Callable[[Path], object]


def put(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def instead(name: str, make: Callable[[Path], object]) -> Damage:
    """Returns a damage that replaces a file by something else."""
    return lambda folder: ((folder / name).unlink(missing_ok=True), make(folder / name))


def cut(name: str, length: int) -> Damage:
    return lambda folder: os.truncate(folder / name, length)


def config(**changes: object) -> Damage:
    def change(folder: Path) -> None:
        known = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(known | changes), encoding="utf-8")

    return change


def with_bin(damage: Damage) -> Damage:
    """Returns a damage to pickled weights that replace safetensors."""
    return lambda folder: ((folder / WEIGHTS).rename(folder / BIN), damage(folder))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (put(WEIGHTS, b""), r"model\.safetensors: is empty; save the model again, or fetch it again"),
        (put(WEIGHTS, POINTER), r"model\.safetensors: is a Git LFS pointer; fetch the file with git lfs pull"),
        (put("config.json", POINTER), r"config\.json: is a Git LFS pointer"),
        (put("tokenizer.json", POINTER), r"tokenizer\.json: is a Git LFS pointer"),
        (cut(WEIGHTS, 5), r"model\.safetensors: can't be read as safetensors \(SafetensorError: "),
        (cut(WEIGHTS, 2_000), r"model\.safetensors: can't be read as safetensors"),
        (cut(WEIGHTS, 60_000), r"model\.safetensors: can't be read as safetensors"),
        (
            put(WEIGHTS, (2).to_bytes(8, "little") + b"{}"),
            r"lack \d+ tensors that config\.json describes, the first embeddings\.word_embeddings\.weight",
        ),
        (config(hidden_size=32), r"word_embeddings\.weight is \(\d+, 24\), config\.json says \(\d+, 32\)"),
        (config(intermediate_size=41), r"intermediate\.dense\.weight is \(40, 24\), config\.json says \(41, 24\)"),
        (config(num_hidden_layers=4), r"lack 16 tensors .*, the first encoder\.layer\.3\.attention"),
        (config(vocab_size=10_000_000), r"word_embeddings\.weight is \(\d+, 24\), config\.json says \(10000000, 24"),
        (config(max_position_embeddings=10_000_000), r"position_embeddings\.weight is \(40, 24\), config\.json says"),
        (config(hidden_act="gleu"), r"hidden_act: unknown activation 'gleu', did you mean 'gelu'"),
        (with_bin(put(BIN, b"")), r"pytorch_model\.bin: is empty"),
        (with_bin(put(BIN, POINTER)), r"pytorch_model\.bin: is a Git LFS pointer"),
        (with_bin(put(BIN, b"PK\x03\x04 half of it")), r"pytorch_model\.bin: is cut off"),
        (with_bin(instead(INDEX, Path.mkdir)), r"index\.json: is no file"),
        (with_bin(put(INDEX, b"[]")), r"index\.json: is no index of weights"),
        (with_bin(put(INDEX, b'{"weight_map": {"a": 7}}')), r"index\.json: is no index of weights"),
        (with_bin(put(INDEX, b'{"weight_map": {"a": "model-1.safetensors"}}')), r"model-1\.safetensors: is missing"),
        (put("config.json", b""), r"config\.json: not JSON"),
        (put("config.json", DEEP), r"config\.json: not JSON \(RecursionError: "),
        (put("config.json", b"\xff\xfe"), r"config\.json: not JSON \(UnicodeDecodeError: "),
        (put("config.json", b"[]"), r"config\.json: holds a list, not keys and their values"),
        (put("config.json", b"null"), r"config\.json: holds a NoneType, not keys and their values"),
        (instead("config.json", Path.mkdir), r"config\.json: is no file"),
        (instead("config.json", os.mkfifo), r"config\.json: is no file"),
        (instead("config.json", lambda path: path.symlink_to("/dev/zero")), r"config\.json: is no file"),
        (instead("config.json", lambda path: path.symlink_to(path)), r"holds no config\.json"),
        (instead(WEIGHTS, Path.mkdir), r"model\.safetensors: is no file"),
        (instead(WEIGHTS, os.mkfifo), r"model\.safetensors: is no file"),
        (put("tokenizer.json", DEEP), r"tokenizer\.json: not JSON \(RecursionError: "),
        (put("tokenizer_config.json", b"[]"), r"tokenizer_config\.json: holds a list"),
        (instead("tokenizer.json", Path.mkdir), r"tokenizer\.json: is no file"),
        (instead("tokenizer.json", os.mkfifo), r"tokenizer\.json: is no file"),
        (instead("vocab.txt", os.mkfifo), r"vocab\.txt: is no file"),
        (
            put("adapter_config.json", b'{"base_model_name_or_path": "a/b"}'),
            r"model holds an adapter of peft, not a model",
        ),
        (instead("config.json", lambda path: put("adapter_config.json", b"{}")(path.parent)), r"an adapter of peft"),
        (instead("other.safetensors", os.mkfifo), r"other\.safetensors: is no file"),
    ],
)
def test_a_folder_that_holds_no_whole_model_is_refused_unloaded(model: Path, damage: Damage, said: str) -> None:
    damage(model)
    with pytest.raises(Refusal, match=said):
        find_backbone(str(model))


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b"{}", b"{", b"\xff\xfe", DEEP, b'{"model": {"type": "WordLevel", "vocab": {}}}', b'"text"'],
)
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_any_file_of_a_tokenizer_is_read_or_refused(model: Path, name: str, content: bytes) -> None:
    (model / name).write_bytes(content)
    found = clean(lambda: open_tokenizer(str(model), 10_000))
    assert isinstance(found, Refusal) or name == "tokenizer_config.json"


def tokenizer(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        known = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        change(known)
        (folder / "tokenizer.json").write_text(json.dumps(known), encoding="utf-8")

    return damage


def beyond(known: dict[str, Any]) -> None:
    words = known["model"]["vocab"]
    known["model"]["vocab"] = {word: id + 10_000 * (id > 9) for word, id in words.items()}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (tokenizer(beyond), r"its tokenizer knows \d+ words, to the id 10,\d+, the model 10,000"),
        (tokenizer(lambda known: known["post_processor"].update(special_tokens={})), "no usable tokenizer .PanicEx"),
        (tokenizer(lambda known: known["model"].update(vocab={})), "no usable tokenizer"),
        (config(hidden_dropout_prob="much"), r"its config\.json can't be read .*hidden_dropout_prob"),
    ],
)
def test_a_tokenizer_of_another_model_is_refused(model: Path, damage: Damage, said: str) -> None:
    damage(model)
    with pytest.raises(Refusal, match=said):
        open_tokenizer(str(model), 10_000)


def without_start(folder: Path) -> None:
    config(pad_token_id=None, decoder_start_token_id=None)(folder)
    (folder / "generation_config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (config(decoder_start_token_id=10**9), r"backbone: can't answer CoLA \(\w+: .*\); save the model again"),
        (without_start, "this t5 names no token that an answer begins after; give it a decoder_start_token_id"),
    ],
)
def test_a_model_that_fails_at_its_first_text_is_refused(damage: Damage, said: str, tmp_path: Path) -> None:
    backbone = backbone_folder("t5", tmp_path / "backbone")
    adapter = adapter_folder(backbone, tmp_path / "adapter")
    damage(backbone)
    with pytest.raises(Refusal, match=said):
        load_adapted(adapter)


def test_a_tokenizer_that_fails_at_its_first_text_is_refused(model: Path) -> None:
    written = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
    written["model_max_length"] = "many"
    (model / "tokenizer_config.json").write_text(json.dumps(written | {"padding_side": "above"}), encoding="utf-8")
    with pytest.raises(Refusal, match="no usable tokenizer"):
        open_tokenizer(str(model), 10_000)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (config(num_attention_heads=5), r"describes no bert \(ValueError: .*\); save the model again"),
        (config(hidden_dropout_prob="much"), r"describes no bert \(\w+: .*\); save the model again"),
        (config(layer_norm_eps=[]), r"describes no bert \(\w+: .*\); save the model again"),
        (config(pad_token_id=10_000), r"describes no bert \(\w+: .*\); save the model again"),
        (
            config(chunk_size_feed_forward=7),
            r"bert can't be run on a few tokens \(\w+: .*\); correct its config",
        ),
    ],
)
def test_a_config_that_describes_no_model_that_runs_is_refused(model: Path, damage: Damage, said: str) -> None:
    damage(model)
    with pytest.raises(Refusal, match=said):
        find_backbone(str(model))


@pytest.mark.parametrize(
    "damage",
    [
        config(dtype="float7"),
        config(transformers_weights="other.safetensors"),
        with_bin(put(BIN, b"garbage")),
        with_bin(put(BIN, pickle.dumps({"a": 1}))),
        with_bin(put(BIN, DEEP)),
    ],
)
def test_what_only_loading_shows_is_refused(model: Path, damage: Damage) -> None:
    damage(model)
    with pytest.raises(Refusal, match=r"can't be loaded \(\w+: .*\); save the model again"):
        load_backbone(find_backbone(str(model)).location, this_device("fp32", gpu=False))


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Writes the folder of a correct model that also names its own code, which would make a file if run."""
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
    with pytest.raises(Refusal, match=r"its config\.json can't be read"):
        open_tokenizer(str(hostile), 10_000)
    with pytest.raises(Refusal, match="unknown model_type 'hostile'"):
        assert not find_backbone(str(hostile)).geometry
    assert not (tmp_path / "mark").exists()


def test_weights_that_would_be_unpickled_are_not(tmp_path: Path) -> None:
    folder = saved_bert(tmp_path / "bert")
    (folder / "model.safetensors").unlink()
    mark = tmp_path / "mark"
    (folder / "pytorch_model.bin").write_bytes(
        b"cpathlib\nPath.touch\n(cpathlib\nPath\n(V" + str(mark).encode() + b"\ntRtR."
    )
    with pytest.raises(Refusal, match=r"can't be loaded \(UnpicklingError: Weights only load failed"):
        load_backbone(str(folder), this_device("fp32", gpu=False))
    assert not mark.exists()
