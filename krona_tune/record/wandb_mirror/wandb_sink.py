"""Mirrors a study in W&B: a run per trial, all in the group of the study."""

from pathlib import Path

from krona_tune.record.background_sink import BackgroundSink
from krona_tune.record.records import Records
from krona_tune.record.wandb_mirror.wandb_store import WandbStore
from krona_tune.study.manifest import Manifest


class WandbSink(BackgroundSink):
    """A sink that mirrors a study's trials to W&B from a background thread; it continues runs that exist."""

    def __init__(
        self,
        *,
        project: str,
        study: str,
        manifest: Manifest,
        folder: Path,
        earlier: Records | None = None,
        drain_seconds: float = 60.0,
    ) -> None:
        """`project` may begin with a team: TEAM/PROJECT. `folder` is the study's: wandb writes into `wandb/` there.

        `earlier` are the records of a resumed study: what W&B lacks of them is sent first.
        """
        store = WandbStore(project, study, manifest, folder, earlier or Records())
        fix = "the Parquet records have them, and resuming the study with --wandb sends them"
        super().__init__(store, name=f"W&B at {project}", fix=fix, drain_seconds=drain_seconds)
