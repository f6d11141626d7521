"""Checks a model's weight files as far as is possible without loading them. No torch."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from safetensors import safe_open

from krona_tune.backbones.geometry import Geometry, Role
from krona_tune.hub import refuse_unreadable
from krona_tune.refusal import Refusal, refusing

Shapes = dict[str, tuple[int, ...]]

FILES = ("model.safetensors", "pytorch_model.bin")
"""What transformers loads, in its order: the file, else the parts that its index names."""
FIX = "save the model again, or fetch it again"
POSITIONS = "max_position_embeddings"
ROWS = {
    "word_embeddings.weight": "vocab_size",
    "position_embeddings.weight": POSITIONS,
    "token_type_embeddings.weight": "type_vocab_size",
    "shared.weight": "vocab_size",
}
"""Tables with as many rows as a key of config.json says."""
EMBEDDINGS = ("shared.weight", "lm_head.weight")
COMPARED_BYTES = 2**20
"""The bytes to compare of each embedding: two that were trained separately differ long before."""
SAFE, ZIP = ".safetensors", b"PK"


def weight_files(folder: Path) -> list[Path]:
    """Returns the files that a folder's model is loaded from; none if it holds no weights."""
    for name in FILES:
        if (folder / name).exists():
            return [folder / name]
        if (index := folder / f"{name}.index.json").exists():
            return _parts(index)
    return []


def _parts(index: Path) -> list[Path]:
    refuse_unreadable(index, FIX)
    with refusing(str(index), "is no index of weights", FIX):
        named = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        return [index.parent / name for name in named]


def shapes_of(files: list[Path]) -> Shapes:
    """Returns each tensor's shape by name; none of pickled weights: only their length and first bytes are checked.

    Raises:
        Refusal: a file is missing, empty, cut off, or holds something else.
    """
    for path in files:
        if not path.exists():
            raise Refusal(str(path), "is missing", FIX)
        refuse_unreadable(path, FIX)
        if not path.stat().st_size:
            raise Refusal(str(path), "is empty", FIX)
        if _first(path) == ZIP and not is_zipfile(path):
            raise Refusal(str(path), "is cut off", FIX)
    return {name: sizes for path in files if path.suffix == SAFE for name, sizes in _shapes(path)}


def _first(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(ZIP))


def _shapes(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields each tensor's name and shape, after the header was found to fit the file."""
    with refusing(str(path), "can't be read as safetensors", FIX), safe_open(path, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118 (it is no dict)
            yield name, tuple(file.get_slice(name).get_shape())


def refuse_other_shapes(found: Shapes, config: Mapping[str, Any], shape: Geometry, place: str) -> None:
    """Refuses tensors of another model than config.json describes.

    Names may begin with the base model's own name, such as `bert.`.
    """
    found = {name.partition(".")[2]: sizes for name, sizes in found.items()} | found
    maps = dict(_maps(shape))
    within = {name.partition(".")[2]: wanted for name, wanted in maps.items()}
    if within.keys() & found.keys():  # the base model of a text-to-text one
        maps = within
    if found and not maps.keys() & found.keys():
        return  # the library renames tensors of this type as it loads them, and says then what is missing
    for name, wanted in maps.items():
        if name not in found:
            raise Refusal(place, f"lacks {name}, which config.json describes", FIX)
        if found[name] != wanted:
            raise Refusal(place, f"{name} is {found[name]}, config.json says {wanted}", FIX)
    for name, sizes in found.items():
        key = next((key for ending, key in ROWS.items() if f".{name}".endswith(f".{ending}")), "")
        rows = config.get(key)
        more = key == POSITIONS and rows and sizes[0] >= rows  # some tables begin with rows that are not read
        if rows and sizes[:1] != (rows,) and not more:
            raise Refusal(place, f"{name} is {sizes}, config.json says {key} {rows}", FIX)


def tying(files: list[Path], found: Shapes) -> dict[str, bool]:
    """Returns what a text-to-text model's weights say about its two embeddings, whatever its config says: transformers
    uses both if both are there and differ, else one for both."""
    there = [name for name in EMBEDDINGS if name in found]
    if len(there) < len(EMBEDDINGS):
        return {"tie_word_embeddings": True} if there else {}
    starts = {start for path in files if path.suffix == SAFE for start in _starts(path, EMBEDDINGS)}
    return {"tie_word_embeddings": len(starts) == 1}


def _starts(path: Path, names: Sequence[str]) -> Iterator[bytes]:
    """Yields the first bytes of those tensors that a file holds, found by its header (a length, then JSON)."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        for name in names:
            if name in header:
                begin, end = header[name]["data_offsets"]
                file.seek(8 + length + begin)
                yield file.read(min(end - begin, COMPARED_BYTES))


def _maps(shape: Geometry) -> Iterator[tuple[str, tuple[int, int]]]:
    for site in shape.sites:
        if site.role is not Role.FEED_FORWARD:
            yield f"{site.name}.weight", site.weight_shape
