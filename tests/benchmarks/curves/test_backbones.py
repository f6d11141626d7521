"""Tests that packaged encoders are read as they are laid out: a file of four bits, an archive in parts; both tiny."""

import io
import struct
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tests.benchmarks.curves.backbones import (
    BLOCK,
    EMBEDDINGS,
    FOUR_BITS,
    LAYER,
    MAGIC,
    WHOLE,
    whole_weights,
    write_archived,
    write_e5,
)

WIDTH, INNER, POSITIONS, TYPES = 32, 64, 16, 2
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "\u2581", "\u2581ab", "c", "\u2581a", "b"]
SCORES = [0.0, 0.0, 0.0, 0.0, -3.0, -1.0, -2.0, -2.0, -2.0]
ROWS = len(PIECES) + 1
SHAPES = {
    "q": (WIDTH, WIDTH), "k": (WIDTH, WIDTH), "v": (WIDTH, WIDTH), "ao": (WIDTH, WIDTH), "aln": (WIDTH,),
    "fi": (INNER, WIDTH), "fo": (WIDTH, INNER), "oln": (WIDTH,),
}  # fmt: skip


def blocks(rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    found = np.empty(rows * columns // 32, BLOCK)
    found["scale"] = rng.uniform(0.01, 0.02, len(found))
    found["nibbles"] = rng.integers(256, size=(len(found), 16))
    return found


def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {
        "emb.word": blocks(ROWS, WIDTH, rng), "emb.pos": rng.normal(size=(POSITIONS, WIDTH)),
        "emb.type": rng.normal(size=(TYPES, WIDTH)), "emb.ln.w": np.ones(WIDTH), "emb.ln.b": np.zeros(WIDTH),
    }  # fmt: skip
    for name, shape in SHAPES.items():
        found[f"l0.{name}.w"] = blocks(*shape, rng) if len(shape) == 2 else rng.normal(size=shape)
        found[f"l0.{name}.b"] = rng.normal(size=shape[0])
    return {name: each if each.dtype == BLOCK else each.astype("<f4") for name, each in found.items()}


def written(path: Path) -> Path:
    words = [piece.encode() for piece in PIECES]
    offsets = np.cumsum([0, *map(len, words)]).astype("<u4")
    content = struct.pack("<4sI7ifi", MAGIC, 1, WIDTH, 1, 4, INNER, ROWS, POSITIONS, TYPES, 1e-12, 32)
    content += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, offsets[-1])
    content += offsets.tobytes() + np.array(SCORES, "<f4").tobytes() + b"".join(words)
    content += struct.pack("<iI", 0, 3) + b"map" + struct.pack("<i", len(tensors()))
    entries = {name.encode(): each for name, each in tensors().items()}
    at = len(content) + sum(2 + len(name) + struct.calcsize("<BIQQ") for name in entries)
    for name, each in entries.items():
        four_bits = each.dtype == BLOCK
        entry = (FOUR_BITS, each.size * 32, at, each.nbytes) if four_bits else (WHOLE, each.size, at, each.nbytes)
        content += struct.pack("<H", len(name)) + name + struct.pack("<BIQQ", *entry)
        at += each.nbytes
    path.write_bytes(content + b"".join(each.tobytes() for each in entries.values()))
    return path


def test_a_block_holds_its_first_half_in_the_lower_bits() -> None:
    block = np.zeros(1, BLOCK)
    block["scale"], block["nibbles"][0, :2] = 0.5, [0x9F, 0x18]
    found = whole_weights(block, 32)[0]
    assert found[[0, 1, 2, 16, 17, 18]].tolist() == [3.5, 0.0, -4.0, 0.5, -3.5, -4.0]


def test_the_encoder_has_the_weights_of_the_file_and_an_identity_for_the_pooler(tmp_path: Path) -> None:
    write_e5(written(tmp_path / "model.bin"), tmp_path / "model")
    model, stored = AutoModel.from_pretrained(tmp_path / "model"), tensors()
    weights = model.state_dict()
    for short, long in EMBEDDINGS.items():
        own = stored[short]
        expected = whole_weights(own, WIDTH) if own.dtype == BLOCK else own
        assert np.array_equal(weights[f"embeddings.{long}"], expected), short
    for short, long in LAYER.items():
        own = stored[f"l0.{short}.w"]
        expected = whole_weights(own, SHAPES[short][-1]) if own.dtype == BLOCK else own
        assert np.array_equal(weights[f"encoder.layer.0.{long}.weight"], expected), short
        assert np.array_equal(weights[f"encoder.layer.0.{long}.bias"], stored[f"l0.{short}.b"]), short
    assert torch.equal(weights["pooler.dense.weight"], torch.eye(WIDTH))


def test_the_tokenizer_takes_the_likeliest_pieces_and_joins_a_pair(tmp_path: Path) -> None:
    write_e5(written(tmp_path / "model.bin"), tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.tokenize("ab  ac") == ["\u2581ab", "\u2581a", "c"]
    assert tokenizer("ab", "a").input_ids == [0, 5, 2, 2, 7, 2]


def test_another_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(SystemExit, match="not a file of this layout"):
        write_e5(tmp_path / "model.bin", tmp_path / "model")


def test_an_archive_in_parts_gives_the_models_own_files_alone(tmp_path: Path) -> None:
    content = {"config.json": "{}", "1_Pooling/config.json": "no", "README.md": "no"}
    whole = io.BytesIO()
    with ZipFile(whole, "w") as archive:
        for name, text in content.items():
            archive.writestr(f"model/{name}", text)
    parts = [tmp_path / "model.zip.001", tmp_path / "model.zip.002"]
    for part, half in zip(parts, (whole.getvalue()[:100], whole.getvalue()[100:]), strict=True):
        part.write_bytes(half)
    write_archived(parts, tmp_path / "model")
    assert {path.name: path.read_text() for path in (tmp_path / "model").iterdir()} == {"config.json": "{}"}
