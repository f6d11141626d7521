"""Tests that an adapter's folder is data: cards and tensors are read or refused, pickled files are never opened."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from krona_tune.adapters.adapter_card import AdapterCard, read_card, task_of
from krona_tune.adapters.adapter_files import TENSORS, read_tensors
from krona_tune.refusal import Refusal
from krona_tune.train import checkpoint
from krona_tune.train.predict import load_adapted
from tests.adapters.cards import card_of
from tests.models import build
from tests.security.hostile import HOSTILE, changed, clean, damaged
from tests.trained_adapters import shaped

SHAPE = build("bert")[0]
CARD = json.loads(card_of(SHAPE, shaped(SHAPE, "krona"), "0f").model_dump_json())


class Touch:
    """An object that makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.mark,)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapter")


@pytest.fixture(scope="module")
def right(folder: Path) -> bytes:
    save_file({"a": torch.arange(6.0).view(2, 3), "head.weight": torch.ones(3, 5)}, folder / TENSORS)
    return (folder / TENSORS).read_bytes()


@HOSTILE
@given(changed(CARD).map(json.dumps).map(str.encode) | damaged(json.dumps(CARD).encode()) | st.binary(max_size=80))
def test_any_card_is_read_or_refused(folder: Path, content: bytes) -> None:
    (folder / "adapter.json").write_bytes(content)
    card = clean(lambda: read_card(folder))
    if isinstance(card, AdapterCard):
        clean(lambda: task_of(card, folder))


@HOSTILE
@given(st.data())
def test_any_tensors_are_finite_or_refused(folder: Path, right: bytes, data: st.DataObject) -> None:
    (folder / TENSORS).write_bytes(data.draw(damaged(right) | st.binary(max_size=80)))
    tensors = clean(lambda: read_tensors(folder))
    if not isinstance(tensors, Refusal):
        assert all(tensor.isfinite().all() for tensor in tensors.values())


@pytest.mark.parametrize("said", [2**63 - 1, 10**12, 10**9])
def test_tensors_that_claim_more_than_the_file_holds_are_refused(tmp_path: Path, said: int) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [said // 4], "data_offsets": [0, said]}}).encode()
    (tmp_path / TENSORS).write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(Refusal, match="can't be read"):
        read_tensors(tmp_path)
    (tmp_path / TENSORS).write_bytes(said.to_bytes(8, "little") + header)
    with pytest.raises(Refusal, match="can't be read"):
        read_tensors(tmp_path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "is no file"),
        (Path.mkdir, "is no file"),
        (lambda path: path.symlink_to("/dev/zero"), "is no file"),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "is a Git LFS pointer; fetch"),
    ],
)
def test_what_is_no_file_of_an_adapter_is_refused_unopened(
    tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    make(tmp_path / TENSORS)
    make(tmp_path / "adapter.json")
    with pytest.raises(Refusal, match=rf"adapter\.safetensors: {said}"):
        read_tensors(tmp_path)
    with pytest.raises(Refusal, match=rf"adapter\.json: {said}"):
        read_card(tmp_path)


@pytest.mark.parametrize("name", ["adapter.bin", "adapter.pt", "adapter_model.bin", "pytorch_model.bin"])
def test_a_pickled_adapter_is_refused_unopened(tmp_path: Path, name: str) -> None:
    (tmp_path / "adapter.json").write_text(
        json.dumps({**CARD, "task": "cola", "labels": ["unacceptable", "acceptable"]})
    )
    (tmp_path / name).write_bytes(pickle.dumps(Touch(tmp_path / "mark")))
    with pytest.raises(Refusal, match=r"holds no adapter\.safetensors; nothing else is read"):
        read_tensors(tmp_path)
    (tmp_path / TENSORS).write_bytes((tmp_path / name).read_bytes())
    with pytest.raises(Refusal, match="can't be read"):
        read_tensors(tmp_path)
    assert not (tmp_path / "mark").exists()


def test_a_checkpoints_optimiser_is_never_unpickled_into_code(tmp_path: Path) -> None:
    torch.save({"adamw": Touch(tmp_path / "mark")}, tmp_path / checkpoint.OPTIMISER)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        torch.load(tmp_path / checkpoint.OPTIMISER, weights_only=True)
    source = Path(checkpoint.__file__).read_text(encoding="utf-8")
    assert source.count("torch.load(") == source.count("weights_only=True)") == 1
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("backbone", ["../../etc", "/etc", "https://host/model", "a/b/c", "$(touch x)", ""])
def test_a_card_that_names_an_odd_backbone_is_refused(tmp_path: Path, backbone: str) -> None:
    known = {**CARD, "task": "cola", "labels": ["unacceptable", "acceptable"], "backbone": backbone}
    (tmp_path / "adapter.json").write_text(json.dumps(known))
    with pytest.raises(Refusal):
        load_adapted(tmp_path)
