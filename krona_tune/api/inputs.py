"""Keeps what a study gets from a Python session as files in its folder: frames, data sets and models."""

import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq

from krona_tune.atomic_write import atomic_path
from krona_tune.refusal import Refusal, refusing
from krona_tune.study.folder import StudyFolder

DATA, MODEL, REQUEST = "data", "model", "request.yaml"
FIX = "give a pandas frame, a datasets.DatasetDict, a file, or a mapping of train, validation and test to frames"


def kept_tasks(tasks: Mapping[str, Any], folder: StudyFolder) -> dict[str, Any]:
    """Returns tasks as a YAML file writes them; data from memory are written to Parquet files.

    Args:
        tasks: by name; their `data` may be frames or data sets.

    Raises:
        Refusal: data are of another kind, or can't be written.
    """
    return {name: _kept_task(str(name), task, folder) for name, task in tasks.items()}


def _kept_task(name: str, task: Any, folder: StudyFolder) -> Any:
    if not isinstance(task, Mapping) or isinstance(task.get("data"), str | None):
        return task
    data = task["data"]
    if isinstance(data, Path):
        return {**task, "data": str(data)}
    parts = data if isinstance(data, Mapping) else {"train": data}  # a DatasetDict is a mapping too
    place = folder.inputs / DATA / name
    with refusing(f"tasks: {name}: data", "can't be kept as Parquet files", FIX):
        if not folder.spec.exists():
            shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True, exist_ok=True)
        for part, rows in parts.items():
            _keep(rows, place / f"{part}.parquet", f"tasks: {name}: data", begun=folder.spec.exists())
    return {**task, "data": str(place.resolve())}


def _keep(rows: Any, path: Path, place: str, *, begun: bool) -> None:
    """Writes rows to a file. Raises a Refusal if a study has begun with others."""
    if not hasattr(rows, "to_parquet"):
        raise Refusal(place, f"is a {type(rows).__name__}", FIX)
    options = {"index": False} if hasattr(rows, "iloc") else {}  # pandas; datasets writes no index
    with atomic_path(path) as new:
        rows.to_parquet(str(new), **options)
        if begun and not pq.read_table(path).equals(pq.read_table(new)):
            raise Refusal(place, "the study was begun with other rows", "repeat those, or choose another name")


def kept_model(model: Any, tokenizer: Any, folder: StudyFolder) -> str:
    """Returns the name or the folder of a backbone; one in memory is saved with its tokenizer.

    Raises:
        Refusal: a model in memory has no tokenizer beside it, or is no model of transformers.
    """
    if isinstance(model, str | Path):
        return str(model)
    if not hasattr(model, "save_pretrained"):
        raise Refusal("model", f"is a {type(model).__name__}", "give a hub name, a folder or a model of transformers")
    if not hasattr(tokenizer, "save_pretrained"):
        raise Refusal("tokenizer", "a model in memory needs its tokenizer", "give tokenizer=AutoTokenizer...")
    place = folder.inputs / MODEL
    if folder.spec.exists():
        _refuse_other_model(model, place)
        return str(place.resolve())
    with refusing("model", "can't be saved", "save it yourself, and give its folder"):
        place.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
    return str(place.resolve())


def _refuse_other_model(model: Any, place: Path) -> None:
    """Refuses another model than the study was begun with."""
    with TemporaryDirectory(prefix="krona_tune-") as again:
        model.save_pretrained(again)
        if _weights(Path(again)) != _weights(place):
            raise Refusal("model", "the study was begun with other weights", "repeat those, or choose another name")


def _weights(folder: Path) -> list[str]:
    return [sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.safetensors"))]
