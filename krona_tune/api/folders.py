"""Finds the folder that a study's or an adapter's name means, and refuses names that no new study can have."""

import re
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from os.path import lexists
from pathlib import Path
from typing import Any

from krona_tune.adapters.adapter_card import CARD, read_card
from krona_tune.hub import home
from krona_tune.record.contributed_curves import is_curve_file
from krona_tune.record.ownership import BEFORE_A_STUDY, is_locked
from krona_tune.record.remote_copy import INDEX
from krona_tune.record.remote_files import Store
from krona_tune.record.storage import Storage, storage_at
from krona_tune.refusal import NotNow, Refusal, unknown
from krona_tune.study.folder import FULL, STUDIES, WINNER, StudyFolder
from krona_tune.study.redact import redact
from krona_tune.study.request.search_spec import NOTHING_EARLIER, RECORDED_CURVES
from krona_tune.study.request.study_spec import StudySpec

NAMES = re.compile(r"[A-Za-z0-9][\w.-]*")
LONGEST_STUDY_NAME = 128
"""Bytes of a new study's name: what the study leaves in MLflow and on the disk is named after it."""
LETTERS = "use letters, digits, '.', '_' and '-'"
DATABASES = ("mlflow.db", "queue.db")
OF_THE_STORAGE = {
    *(f"{name}{ending}" for name in DATABASES for ending in ("", "-journal", "-shm", "-wal")),
    *("mlartifacts", "comparison.html", "queue", "queue.lock"),
}
"""Files and folders of a storage that are not studies."""
USUAL = storage_at(STUDIES)
"""The storage of who names none."""
_new_names = Counter[str]()
"""Counts the new studies that this process has given each name to."""


def existing(storage: Storage, name: str, words: Iterable[str] = ()) -> StudyFolder:
    """Returns a study by its name. Raises a Refusal, which knows these `words` too, if the storage does not have it."""
    if NAMES.fullmatch(name) and (folder := storage.brought(name)).spec.exists():
        return folder
    if NAMES.fullmatch(name) and storage.study(name).manifest.exists():
        raise Refusal(str(storage.study(name).spec), "is missing", "put back a copy of it")
    if NAMES.fullmatch(name) and is_locked(storage.study(name)):
        raise NotNow(str(storage), f"the study {name!r} is starting", "look again when it has begun")
    there = [*storage.names(), *words]
    if name in there:
        refuse_unnamed(storage, name)
        problem = f"{name!r} has no {INDEX} there that names its files"
        raise Refusal(str(storage), problem, "copy that too, or fetch the folder and name it")
    if there:
        raise unknown(str(storage), "study", name, there)
    raise Refusal(
        str(storage), f"no study {name!r}", "there are no studies: run one, or name its folder with --storage"
    )


def refuse_unnamed(storage: Storage, name: str) -> None:
    """Raises a Refusal if a folder of a storage has a name by which no study is found."""
    if not NAMES.fullmatch(name):
        raise Refusal(str(storage), f"the folder {name!r} has no name of a study", f"rename it: {LETTERS}")


def study_folder(storage: Storage, study: str, words: Iterable[str] = ()) -> StudyFolder:
    """Returns a study by its name or by its folder, or raises a Refusal like `existing`."""
    direct = StudyFolder(with_name(home(Path(study))))
    by_name = in_storage(storage, study) or not direct.spec.exists()
    return existing(storage, study, words) if by_name else direct


def in_storage(storage: Storage, named: str) -> bool:
    """Returns whether only a study of the storage can be meant: a path names a folder, and a bare name may do so in the
    usual storage, if no study there has it."""
    is_bare = home(Path(named)).name == named != ".."
    return is_bare and (storage != USUAL or storage.study(named).spec.exists())


def with_name(path: Path) -> Path:
    """Returns a path whose last part is a name: `.` and `..` have none."""
    return path if path.name not in {"", ".."} else path.resolve()


def earlier_studies(storage: Storage, named: Iterable[str], *, begun: bool = False) -> tuple[str, ...]:
    """Returns the whole paths of the studies and files that a new one learns from; the word for the recorded curves
    stays.

    Args:
        begun: a study that has begun learns from them; it goes on without those that are gone, which have the paths
            that they had.

    Raises:
        Refusal: there is no such study.
    """

    def whole(each: str) -> str:
        if each in (RECORDED_CURVES, NOTHING_EARLIER):
            return each
        if is_curve_file(each):
            return str(home(Path(each)).resolve())
        try:
            return str(study_folder(storage, each, [RECORDED_CURVES]).root.resolve())
        except Refusal as refusal:
            if not begun:
                if home(Path(each)).is_file():
                    fix = "name a study, or a file that krona-tune contribute wrote"
                    problem = f"{each} is no file of learning curves, whose name ends in .parquet"
                    raise Refusal("--warm-start", problem, fix) from None
                if refusal.place != str(storage):
                    raise
                raise refusal.at("--warm-start") from None
            named_so = NAMES.fullmatch(each)
            return str((storage.study(each).root if named_so else home(Path(each))).resolve())

    return tuple(map(whole, named))


def whole_teacher(text: str) -> str:
    """Returns the absolute path of a file of curves or a study's folder, which may be gone; another text, such as a
    study's name, as it is."""
    path = home(Path(text))
    is_path = is_curve_file(text) or path.is_absolute() or len(path.parts) > 1 or StudyFolder(path).spec.exists()
    return str(path.resolve()) if is_path else text


def refuse_odd(name: str | None) -> None:
    """Raises a Refusal if no study can have this name."""
    if name is None:
        return
    if not NAMES.fullmatch(name):
        raise Refusal("--name", f"{name!r} is no name of a study", LETTERS)
    if len(name.encode()) > LONGEST_STUDY_NAME:
        raise Refusal("--name", f"'{name[:40]}…' has {len(name.encode())} bytes", f"use at most {LONGEST_STUDY_NAME}")
    if name.lower() in OF_THE_STORAGE:
        raise Refusal("--name", f"{name} is the name of a file that a storage keeps", "choose another name")


def refuse_taken(folder: StudyFolder, name: str | None) -> None:
    """Raises a Refusal if a new study can't have this folder."""
    refuse_odd(name)
    if folder.spec.exists():
        place = redact(folder.remote) if folder.remote else folder.root
        if folder.remote and _is_gone(folder.remote):
            problem = f"{place} does not hold the study, but {folder.root} does"
            raise Refusal("--name", problem, f"use --resume {name}, which sends it there, or choose another name")
        raise Refusal("--name", f"{place} holds a study", f"use --resume {name}, or choose another name")
    if lexists(folder.root) and not folder.root.is_dir():
        raise Refusal("--name", f"{folder.root} is no folder", "choose another name")
    before = {*BEFORE_A_STUDY, folder.inputs.name}
    there = {path.name for path in folder.root.iterdir()} if folder.root.exists() else set()
    if {name for name in there if not name.startswith(".")} - before:  # a killed start leaves hidden files
        raise Refusal("--name", f"{folder.root} is not empty", "choose another name")


def _is_gone(remote: str) -> bool:
    """Returns whether a study's copy is not there; False if that can't be told."""
    try:
        return INDEX not in Store(remote).names()
    except Exception:
        return False


def new_name(space: object) -> str:
    """Returns a name for a study that was given none: its space's file, if it has one, and the time; and a number, if
    this process has given that name before."""
    stem = space.stem if isinstance(space, Path) else ""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem)[:40].strip("-.") or "study"
    name = f"{readable}-{datetime.now():%Y%m%d-%H%M%S}"
    _new_names[name] += 1
    return name if _new_names[name] == 1 else f"{name}-{_new_names[name]}"


def with_whole_paths(spec: StudySpec) -> StudySpec:
    """Returns the spec with absolute paths of local folders and of the studies and curves that teach, so that the study
    can be resumed from anywhere."""
    whole: dict[str, Any] = {name: whole_path(getattr(spec, name)) for name in FOLDERS}
    if spec.search.warm_start:
        teachers = tuple(map(whole_teacher, spec.search.warm_start))
        whole["search"] = spec.search.model_copy(update={"warm_start": teachers})
    return spec.model_copy(update=whole)


FOLDERS = ("model", "data")
"""The keys of a request that may name a local folder."""


def whole_path(text: str) -> str:
    """Returns the absolute path of a local folder; another text, such as a name of the hub, as it is."""
    path = home(Path(text))
    return str(path.resolve()) if path.is_dir() else text


def adapter_folder(storage: Storage, study: str, task: str | None) -> Path:
    """Returns an adapter's folder: `study` itself if it is one, else that of a task of this study."""
    direct = home(Path(study))
    is_adapter = (direct / CARD).exists() or ("/" in study and not StudyFolder(direct).spec.exists())
    if is_adapter and not in_storage(storage, study):
        if task is not None and task not in {direct.name, held := read_card(direct).task}:
            raise Refusal("--task", f"{study} is an adapter of {held}, not of {task}", "leave it out")
        return direct
    folder = study_folder(storage, study)
    left = sorted(path.parent.name for path in folder.root.glob(f"adapters/*/{CARD}"))
    chosen = [name for name in left if FULL not in name and not name.endswith(WINNER)]
    if not left:
        watch = f"wait for the study's end; krona-tune watch {folder.name}{folder.storage_flag} shows how far it is"
        fix = watch if is_locked(folder) else "resume the study to its end"
        raise Refusal(str(folder.root), "holds no adapter", fix)
    if task is None and len(chosen) != 1:
        raise Refusal("--task", f"{study} has adapters of {', '.join(left)}", "choose one with --task")
    if task is not None and task not in left:
        raise unknown("--task", "adapter", task, left)
    return folder.adapter(task or chosen[0])
