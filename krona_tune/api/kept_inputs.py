"""Keeps data and models from memory as files in a study's folder."""

import atexit
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from math import isnan
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from krona_tune.atomic_write import atomic_folder, atomic_path, write_atomically
from krona_tune.data.own_examples import columns_of
from krona_tune.data.own_files import part_of
from krona_tune.data.separated_text import refuse_lacking
from krona_tune.record.ownership import is_locked
from krona_tune.refusal import Refusal, refusing, shown, unknown
from krona_tune.study.folder import DATA, MODEL, StudyFolder
from krona_tune.study.request.loader import resolve_tasks
from krona_tune.study.request.plain_yaml import plain_values
from krona_tune.study.request.task_spec import TaskSpec

REQUEST = "request.yaml"
GIVE_DATA = (
    "give a pandas frame, as pandas.DataFrame(ROWS) makes one of dicts, a datasets.DatasetDict, a file, or a mapping "
    "of train, validation and test to frames"
)
PLAIN = "hold words or numbers of one kind in each column, as frame[NAME].astype(str) makes them"
REPEAT = "repeat those, or choose another name"

_described = set[StudyFolder]()
"""The new studies that this process has described, and not started in another."""


def note_described(folder: StudyFolder) -> None:
    """Notes a new study, so that nothing is left of it if this process ends without beginning it."""
    if not folder.root.exists():
        _described.add(StudyFolder(folder.root.resolve()))


def note_started(folder: StudyFolder) -> None:
    """Notes that another process begins a study, and needs what is kept for it."""
    _described.discard(StudyFolder(folder.root.resolve()))


def keep_text(folder: StudyFolder, name: str, text: str) -> Path:
    """Writes a text to a file beside what is kept of a study's inputs, and returns its path."""
    path, fix = folder.inputs / name, "name a folder that can be written"
    with refusing(str(folder.inputs), f"{name} can't be kept there", fix):
        folder.inputs.mkdir(parents=True, exist_ok=True)
        return write_atomically(path, text)


def note_used(request: str) -> None:
    """Notes that a study begins whose request may name what is kept for another one, which then stays."""
    for folder in [each for each in _described if str(each.inputs) in request]:
        _described.discard(folder)


@atexit.register
def forget_described() -> None:
    """Removes what was kept of data, models and spaces from memory for studies that never began."""
    for folder in _described:
        if not (folder.spec.exists() or is_locked(folder)):  # another process may begin it just now
            shutil.rmtree(folder.inputs, ignore_errors=True)
            with suppress(OSError):  # it is not there, or holds something else
                folder.root.rmdir()
    _described.clear()


def kept_tasks(tasks: Mapping[str, Any], folder: StudyFolder) -> dict[str, Any]:
    """Returns tasks as a YAML file writes them; of data from memory their columns are written to Parquet files.

    Args:
        tasks: by name; their `data` may be frames or data sets.

    Raises:
        Refusal: data are of another kind, lack a column, can't be written, or are others than a study was begun with.
    """
    named = {name: {**task, "data": name} if has_data(task) else task for name, task in tasks.items()}
    plain: dict[str, Any] = plain_values(named, "tasks")
    checked = resolve_tasks(plain, folder.inputs, "tasks")  # their names become folders
    for name, task in tasks.items():
        if has_data(task):
            plain[name]["data"] = str(_kept(name, task["data"], TaskSpec.model_validate(checked[name]), folder))
    return plain


@contextmanager
def naming_kept_data(folder: StudyFolder) -> Iterator[None]:
    """Makes refusals in this context name a task's data from memory, where they would name the file that keeps them."""
    place = (folder.inputs / DATA).resolve()
    kept = re.compile(rf"{re.escape(str(place))}/([\w-]+)(?:/([\w.-]+)\.parquet)?")

    def named(found: re.Match[str]) -> str:
        several = found[2] and len(list((place / found[1]).glob("*.parquet"))) > 1
        return f"tasks: {found[1]}: data" + f": {found[2]}" * bool(several)

    try:
        yield
    except Refusal as refusal:
        said, problem, fix = (kept.sub(named, text) for text in (refusal.place, refusal.problem, refusal.fix))
        raise refusal.at(said, problem=problem, fix=fix) from None


def has_data(task: Any) -> bool:
    """Returns whether a task holds data themselves, not the name of where they are."""
    return isinstance(task, Mapping) and not isinstance(task.get("data"), str | PathLike | None)


def _kept(name: str, data: Any, spec: TaskSpec, folder: StudyFolder) -> Path:
    """Writes a task's data to its folder, and returns that."""
    said, begun = f"tasks: {name}: data", folder.spec.exists()
    parts = data if isinstance(data, Mapping) else {"train": data}
    parts = {part if isinstance(part, str) else str(part): rows for part, rows in parts.items()}  # a Split's name
    if hasattr(data, "cache_files"):  # a DatasetDict, whose other splits are passed over, as those of the hub are
        parts = {name: rows for name, rows in parts.items() if part_of(name)}
    _refuse_odd_parts(parts, said)
    place = folder.inputs / DATA / name
    if begun and not place.is_dir():
        known = sorted(path.name for path in place.parent.glob("*"))
        raise Refusal(f"tasks: {name}", f"the study was begun with {', '.join(known) or 'no data in memory'}", REPEAT)
    with refusing(said, "can't be kept as Parquet files", GIVE_DATA):
        if not begun:
            shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True, exist_ok=True)
        there = sorted(path.stem for path in place.glob("*.parquet"))
        if begun and there != sorted(parts):
            raise Refusal(
                said, f"holds {', '.join(sorted(parts))}, the study was begun with {', '.join(there)}", REPEAT
            )
        for part, rows in parts.items():
            _keep(_asked_of(rows, spec, part, said), place / f"{part}.parquet", said, begun=begun)
    return place.resolve()


def _asked_of(rows: Any, spec: TaskSpec, part: str, place: str) -> Any:
    """Returns the columns of rows that a task reads: others may hold what Parquet has no type for."""
    if not hasattr(rows, "to_parquet"):
        raise Refusal(place, f"is of the type {type(rows).__name__}", GIVE_DATA)
    if getattr(rows, "format", {}).get("type") == "custom":
        raise Refusal(place, "has a transform, which no file keeps", "apply it with map, in place of with_transform")
    there, asked = list(rows.columns if hasattr(rows, "iloc") else rows.column_names), columns_of(spec)
    if part_of(part) == "train":
        refuse_lacking(list(map(str, there)), asked, place)
    names = [name for name in there if str(name) in asked]
    return rows[names] if hasattr(rows, "iloc") else rows.select_columns(names)


def _refuse_odd_parts(parts: Mapping[Any, Any], place: str) -> None:
    for part in parts:
        if not isinstance(part, str) or not re.fullmatch(r"[\w.-]+", part) or not part_of(part):
            raise unknown(place, "part", part, ["train", "validation", "test"])
    if not parts:
        raise Refusal(place, "holds no part", GIVE_DATA)
    if not any(part_of(part) == "train" for part in parts):
        raise Refusal(place, f"holds {', '.join(parts)}, no training examples", "add train")


def _keep(rows: Any, path: Path, place: str, *, begun: bool) -> None:
    """Writes rows to a file. Raises a Refusal if a study has begun with others."""
    options = {"index": False} if hasattr(rows, "iloc") else {}  # pandas; datasets writes no index
    with TemporaryDirectory(prefix="krona_tune-") as aside, atomic_path(Path(aside, "new") if begun else path) as new:
        with refusing(place, "can't be kept as Parquet files", PLAIN):
            rows.to_parquet(str(new), **options)
        for field in pq.read_schema(new):
            if isinstance(field.type, pa.BaseExtensionType):
                raise Refusal(f"{place}: {field.name}", f"holds values of the type {field.type.extension_name}", PLAIN)
        if begun and not _same_values(path, new):
            raise Refusal(place, "the study was begun with other rows", REPEAT)


def _same_values(path: Path, new: Path) -> bool:
    """Returns whether a file has the columns of a new one, with the same values, of whichever type."""
    names = pq.read_schema(new).names
    return {*names} <= {*pq.read_schema(path).names} and all(
        _values(path, each) == _values(new, each) for each in names
    )


def _values(path: Path, column: str) -> list[Any]:
    """Returns a column's values; what is no number is a gap, because it equals nothing, and True is not 1, because the
    labels' names differ."""
    values = pq.read_table(path, columns=[column])[column].to_pylist()
    plain = [None if isinstance(value, float) and isnan(value) else value for value in values]
    return [(bool, value) if isinstance(value, bool) else value for value in plain]


def kept_model(model: Any, tokenizer: Any, folder: StudyFolder) -> str:
    """Returns the name or the folder of a backbone; one in memory is saved with its tokenizer.

    Raises:
        Refusal: a model in memory has no tokenizer beside it, or is no model of transformers.
    """
    if isinstance(model, str | Path):
        return str(model)
    if not hasattr(model, "save_pretrained"):
        problem = f"{shown(model)} is of the type {type(model).__name__}"
        raise Refusal("model", problem, "give a hub name, a folder or a model of transformers")
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
            raise Refusal("model", "the study was begun with other weights", REPEAT)


def _weights(folder: Path) -> list[str]:
    return [sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.safetensors"))]
