"""Lists the data files, the model folders and GLUE's files below the folders that a service offers."""

import os
import re
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from krona_tune.data.file_kinds import file_kind
from krona_tune.data.glue_files import locate
from krona_tune.data.tasks import TASKS
from krona_tune.hub import home
from krona_tune.refusal import Refusal
from krona_tune.train.backbone_source import SAFE, weight_files

MOST_DEPTH, MOST_SEEN, MOST_LISTED = 6, 20_000, 1_000
"""How many folders below a root are looked into, how many entries are looked at, and how many files are listed."""
GLUE_DEPTH = 1
"""How deep below a root a folder with GLUE's files may lie."""
CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"


@dataclass(frozen=True, kw_only=True)
class FoundData:
    """Holds what lies below the roots: data files, model folders, and by folder the tasks whose GLUE files it has.

    `left_out`: there is more than is looked at or listed.
    """

    files: tuple[Path, ...]
    models: tuple[Path, ...]
    glue: dict[Path, tuple[str, ...]]
    left_out: bool = False


@dataclass(frozen=True)
class DataRoots:
    """The folders that a service offers data and models from, as they are once links are followed.

    Whatever is listed is a regular file or a folder, and so is what a link of it leads to; neither lies outside the
    roots. Names that begin with a dot or can't be printed are left out.
    """

    folders: tuple[Path, ...]

    @staticmethod
    def at(folders: Sequence[Path]) -> "DataRoots":
        """Returns the roots that a person names. Raises a Refusal if one is no folder that can be read."""
        found = []
        for each in folders:
            folder = home(each, "--data-root")
            if not folder.is_dir() or not os.access(folder, os.R_OK | os.X_OK):
                raise Refusal("--data-root", f"{folder} is no folder that can be read", "name a folder of data")
            found.append(folder.resolve())
        return DataRoots(tuple(dict.fromkeys(found)))

    def title(self, path: Path) -> str:
        """Returns how a path below a root is shown: with its root's own name alone."""
        root = max((each for each in self.folders if path.is_relative_to(each)), key=lambda each: len(each.parts))
        return str(Path(root.name, path.relative_to(root)))

    def find(self) -> FoundData:
        """Looks through the roots."""
        files, models, glue, seen = dict[Path, None](), dict[Path, None](), dict[Path, tuple[str, ...]](), 0
        for folder, depth, inside in self._folders():
            seen += len(inside)
            if seen > MOST_SEEN or len(files) > MOST_LISTED:
                break
            if depth <= GLUE_DEPTH and (tasks := self._glue_tasks(folder, inside)):
                glue[folder] = tasks
            if self._is_model(folder, inside):
                models[folder] = None
            files |= dict.fromkeys(path for path in inside if self.is_data(path))
        of_glue = {folder / each for folder, tasks in glue.items() for each in _folders_of(folder, tasks)}
        kept = [path for path in files if path.parent not in of_glue]
        left_out = seen > MOST_SEEN or len(kept) > MOST_LISTED
        return FoundData(files=tuple(sorted(kept)[:MOST_LISTED]), models=tuple(models), glue=glue, left_out=left_out)

    def is_data(self, path: Path) -> bool:
        """Returns whether a path is a data file that may be offered."""
        return bool(file_kind(path).columns) and self._is_file(path)

    def _folders(self) -> Iterator[tuple[Path, int, list[Path]]]:
        """Yields each folder with its depth and what it holds, the upper ones first.

        Links to folders are not followed: what they lead to below a root is found in its own place.
        """
        waiting = deque((root, 0) for root in self.folders)
        known = set(self.folders)
        while waiting:
            folder, depth = waiting.popleft()
            inside = _listed(folder)
            yield folder, depth, inside
            if depth < MOST_DEPTH:
                below = [path for path in inside if path.is_dir() and not path.is_symlink() and path not in known]
                waiting.extend((path, depth + 1) for path in below)

    def _is_file(self, path: Path) -> bool:
        """Returns whether a path is a regular file that can be read, and lies below a root, also where a link leads."""
        try:
            real = path.resolve(strict=True)
            regular = stat.S_ISREG(real.stat().st_mode) and os.access(real, os.R_OK)
        except (OSError, RuntimeError):
            return False
        return regular and any(real.is_relative_to(root) for root in self.folders)

    def _is_model(self, folder: Path, inside: Sequence[Path]) -> bool:
        """Returns whether a folder holds a model in safetensors, and nothing that leads elsewhere."""
        names = {path.name for path in inside}
        if CONFIG not in names or ADAPTER_CONFIG in names:
            return False
        if not all(path.is_dir() or self._is_file(path) for path in folder.iterdir()):
            return False
        try:
            weights = weight_files(folder)
        except Refusal:
            return False
        return bool(weights) and all(path.suffix == SAFE and self._is_file(path) for path in weights)

    def _glue_tasks(self, folder: Path, inside: Sequence[Path]) -> tuple[str, ...]:
        """Returns the tasks of which a folder has all official files in a folder of the task's name."""
        names = {re.sub("[-_]", "", path.name.lower()) for path in inside}
        return tuple(name for name in TASKS if name in names and self._has_task(name, folder))

    def _has_task(self, name: str, folder: Path) -> bool:
        try:
            found = locate(TASKS[name], folder, alone=False)
        except Refusal:
            return False
        return all(map(self._is_file, (*found.train, *(path for part in found.dev for path in part))))


def _folders_of(folder: Path, tasks: Sequence[str]) -> Iterator[str]:
    """Yields the names of the folders that hold GLUE's files of these tasks."""
    for name in tasks:
        yield locate(TASKS[name], folder, alone=False).folder.name


def _listed(folder: Path) -> list[Path]:
    """Returns what a folder holds and may be shown, sorted, up to what is looked at; nothing if it can't be read, or if
    nothing in it can."""
    if not os.access(folder, os.R_OK | os.X_OK):
        return []
    try:
        found = list(islice(folder.iterdir(), MOST_SEEN + 1))
    except OSError:
        return []
    return sorted(path for path in found if path.name.isprintable() and not path.name.startswith("."))
