"""What a study leaves behind, by name."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StudyFolder:
    """The paths inside one study's folder, and the tracking store that it shares with its siblings.

    `remote` is the URI at which a copy of the folder is kept, where there is one.
    """

    root: Path
    remote: str | None = None

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def storage(self) -> str:
        """What `--storage` finds the study with."""
        return self.remote.rpartition("/")[0] if self.remote else str(self.root.parent)

    @property
    def spec(self) -> Path:
        return self.root / "study.yaml"

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.json"

    @property
    def clock(self) -> Path:
        """For how long the study was driven."""
        return self.root / "clock.json"

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def journal(self) -> Path:
        return self.root / "optuna.journal"

    @property
    def checkpoints(self) -> Path:
        """A folder a trial that is under way."""
        return self.root / "checkpoints"

    @property
    def remote_checkpoints(self) -> str | None:
        """Where workers that don't see `checkpoints` find what is in it."""
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
