"""Names the files and folders of a study."""

import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from krona_tune.study.redact import redact

FULL = "-full-"
"""A part of the names of full trainings, and so of their adapters; no task's name has it."""
WINNER = "-winner"
"""The end of the name of a winner's adapter, where another one is chosen; no task's name has it."""


STUDIES = "studies"
"""The storage that is used if none is named: a folder in the current one."""


def _here() -> str:
    """Returns the current folder; nothing if it is gone."""
    try:
        return os.getcwd()
    except OSError:
        return ""


class _Inside:
    """The path of a file or folder inside a study's folder."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, folder: "StudyFolder", owner: object) -> Path:
        return folder.root / self._name


@dataclass(frozen=True)
class StudyFolder:
    """The paths inside one study's folder, and the tracking store that it shares with the studies beside it.

    `remote` is the URI of a copy of the folder, if there is one.
    """

    root: Path
    remote: str | None = None

    spec = _Inside("study.yaml")
    manifest = _Inside("manifest.json")
    inputs = _Inside("inputs")
    """The folder of data and models that a Python session gave."""
    driver = _Inside(".driver")
    """The file that names the process that runs the study: its number, its machine and the id of its start."""
    orders = _Inside("orders")
    """The folder of orders that no driver has answered yet."""
    clock = _Inside("clock.json")
    """The file that records how long drivers have run the study."""
    state = _Inside("state.json")
    """The file in which the driver says how far the study is."""
    results = _Inside("results")
    journal = _Inside("optuna.journal")
    checkpoints = _Inside("checkpoints")
    """The folder that has one folder for each unfinished trial."""
    ray = _Inside("ray")
    page = _Inside("report.html")
    log = _Inside("study.log")

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def storage(self) -> str:
        """Returns the value of `--storage` with which the study is found."""
        return self.remote.rpartition("/")[0] if self.remote else str(self.root.parent)

    @property
    def storage_flag(self) -> str:
        """Returns what a command needs after the study's name to find it: nothing if its storage is the usual one."""
        usual = STUDIES, os.path.join(_here(), STUDIES)
        return "" if self.storage in usual else f" --storage {shlex.quote(redact(self.storage))}"

    def anchored(self) -> "StudyFolder":
        """Returns the same folder by its whole path, which stays when this process goes to another folder."""
        return replace(self, root=self.root.absolute())

    @property
    def shown(self) -> Path:
        """Returns its path from the current folder, if it lies in that, else the whole one."""
        here = _here()
        return self.root.relative_to(here) if here and self.root.is_relative_to(here) else self.root

    @property
    def where(self) -> str:
        """Returns where it is to somebody in the current folder: its path from there, and its copy."""
        return str(self.shown) + (f", copied to {redact(self.remote)}" if self.remote else "")

    @property
    def where_from_afar(self) -> str:
        """Returns where it is to somebody elsewhere: at its copy, if it has one, else at its whole path."""
        return redact(self.remote or str(self.root.absolute()))

    @property
    def remote_checkpoints(self) -> str | None:
        """Returns the URI where workers that can't see `checkpoints` find its content."""
        return f"{self.remote}/checkpoints" if self.remote else None

    @property
    def tracking_uri(self) -> str:
        return f"sqlite:///{self.root.resolve().parent / 'mlflow.db'}"

    @property
    def exports(self) -> Path:
        """Returns the folder that a service writes exports to; the command line is told another."""
        return self.root / "exports"

    def adapter(self, task: str) -> Path:
        return self.root / "adapters" / task


DATA, MODEL = "data", "model"
"""What a study keeps below `inputs`: the data and the model that a Python session gave."""


def own_input(text: str, study: Path) -> str:
    """Returns the path of data or of a model that a study keeps, also if its folder was elsewhere, or had another name,
    when the path was written; another text as it is."""
    _, found, kept = text.rpartition(f"/{StudyFolder(study).inputs.name}/")
    here = StudyFolder(study).inputs / kept
    return str(here.resolve()) if found and kept.split("/")[0] in {DATA, MODEL} and here.exists() else text


def nearest_folder(path: Path) -> Path:
    """Returns the folder itself, or its nearest parent that exists."""
    return next(above for above in (path.resolve(), *path.resolve().parents) if above.is_dir())
