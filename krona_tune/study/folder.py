"""Names the files and folders of a study."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from krona_tune.study.redact import redact

FULL = "-full-"
"""A part of the names of full trainings, and so of their adapters; no task's name has it."""


STUDIES = "studies"
"""The storage that is used if none is named: a folder in the current one."""


@dataclass(frozen=True)
class StudyFolder:
    """The paths inside one study's folder, and the tracking store that it shares with the studies beside it.

    `remote` is the URI of a copy of the folder, if there is one.
    """

    root: Path
    remote: str | None = None

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
        return "" if self.storage == STUDIES else f" --storage {shlex.quote(redact(self.storage))}"

    @property
    def spec(self) -> Path:
        return self.root / "study.yaml"

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.json"

    @property
    def inputs(self) -> Path:
        """Returns the folder of data and models that a Python session gave."""
        return self.root / "inputs"

    @property
    def driver(self) -> Path:
        """Returns the file that names the process that runs the study: its number and its machine."""
        return self.root / ".driver"

    @property
    def orders(self) -> Path:
        """Returns the folder of orders that no driver has answered yet."""
        return self.root / "orders"

    @property
    def clock(self) -> Path:
        """Returns the file that records how long drivers have run the study."""
        return self.root / "clock.json"

    @property
    def state(self) -> Path:
        """Returns the file in which the driver says how far the study is."""
        return self.root / "state.json"

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def journal(self) -> Path:
        return self.root / "optuna.journal"

    @property
    def checkpoints(self) -> Path:
        """Returns the folder that has one folder for each unfinished trial."""
        return self.root / "checkpoints"

    @property
    def remote_checkpoints(self) -> str | None:
        """Returns the URI where workers that can't see `checkpoints` find its content."""
        return f"{self.remote}/checkpoints" if self.remote else None

    @property
    def ray(self) -> Path:
        return self.root / "ray"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def log(self) -> Path:
        return self.root / "study.log"

    @property
    def tracking_uri(self) -> str:
        return f"sqlite:///{self.root.resolve().parent / 'mlflow.db'}"

    @property
    def artifact_location(self) -> str:
        return (self.root.resolve().parent / "mlartifacts").as_uri()

    def adapter(self, task: str) -> Path:
        return self.root / "adapters" / task
