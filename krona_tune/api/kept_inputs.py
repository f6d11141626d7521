"""Keeps data and models from memory as files in a study's folder."""

import atexit
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq

from krona_tune.atomic_write import atomic_folder, atomic_path
from krona_tune.data.own_files import part_of
from krona_tune.refusal import Refusal, refusing, unknown
from krona_tune.study.folder import DATA, MODEL, StudyFolder
from krona_tune.study.request.loader import resolve_tasks
from krona_tune.study.request.plain_yaml import plain_values

REQUEST = "request.yaml"
FIX = "give a pandas frame, a datasets.DatasetDict, a file, or a mapping of train, validation and test to frames"

_described = set[StudyFolder]()
"""The new studies that this process has described, and not started in another."""


def note_described(folder: StudyFolder) -> None:
    """Notes a new study, so that nothing is left of it if this process ends without beginning it."""
    if not folder.root.exists():
        _described.add(StudyFolder(folder.root.resolve()))


def note_started(folder: StudyFolder) -> None:
    """Notes that another process begins a study, and needs what is kept for it."""
    _described.discard(StudyFolder(folder.root.resolve()))


@atexit.register
def forget_described() -> None:
    """Removes what was kept of data, models and spaces from memory for studies that never began."""
    for folder in _described:
        if not folder.spec.exists():
            shutil.rmtree(folder.inputs, ignore_errors=True)
            with suppress(OSError):  # it is not there, or holds something else
                folder.root.rmdir()
    _described.clear()


def kept_tasks(tasks: Mapping[str, Any], folder: StudyFolder) -> dict[str, Any]:
    """Returns tasks as a YAML file writes them; data from memory are written to Parquet files.

    Args:
        tasks: by name; their `data` may be frames or data sets.

    Raises:
        Refusal: data are of another kind, or can't be written.
    """
    named = {name: {**task, "data": name} if has_data(task) else task for name, task in tasks.items()}
    plain = plain_values(named, "tasks")
    resolve_tasks(plain, folder.inputs, "tasks")  # their names become folders
    return {name: _kept_task(name, task, tasks[name], folder) for name, task in plain.items()}


def has_data(task: Any) -> bool:
    """Returns whether a task holds data themselves, not the name of where they are."""
    return isinstance(task, Mapping) and not isinstance(task.get("data"), str | PathLike | None)


def _kept_task(name: str, plain: Any, task: Any, folder: StudyFolder) -> Any:
    if not has_data(task):
        return plain
    data = task["data"]
    parts = data if isinstance(data, Mapping) else {"train": data}  # a DatasetDict is a mapping too
    _refuse_odd_parts(parts, f"tasks: {name}: data")
    place = folder.inputs / DATA / name
    with refusing(f"tasks: {name}: data", "can't be kept as Parquet files", FIX):
        if not folder.spec.exists():
            shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True, exist_ok=True)
        for part, rows in parts.items():
            _keep(rows, place / f"{part}.parquet", f"tasks: {name}: data", begun=folder.spec.exists())
    return {**plain, "data": str(place.resolve())}


def _refuse_odd_parts(parts: Mapping[Any, Any], place: str) -> None:
    for part in parts:
        if not isinstance(part, str) or not re.fullmatch(r"[\w.-]+", part) or not part_of(part):
            raise unknown(place, "part", part, ["train", "validation", "test"])
    if not parts:
        raise Refusal(place, "holds no part", FIX)


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
        shutil.rmtree(place, ignore_errors=True)
        with atomic_folder(place) as built:
            model.save_pretrained(built)
            tokenizer.save_pretrained(built)
    return str(place.resolve())


def _refuse_other_model(model: Any, place: Path) -> None:
    """Refuses another model than the study was begun with."""
    with TemporaryDirectory(prefix="krona_tune-") as again:
        model.save_pretrained(again)
        if _weights(Path(again)) != _weights(place):
            raise Refusal("model", "the study was begun with other weights", "repeat those, or choose another name")


def _weights(folder: Path) -> list[str]:
    return [sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.safetensors"))]
