"""The commands that only read studies: list, show, watch."""

from typing import Annotated

import typer

from krona_tune.api.folders import study_folder
from krona_tune.api.printing import console
from krona_tune.cli import options
from krona_tune.record.remote.storage import storage_at

Study = Annotated[str, typer.Argument(help="A study's name or folder.")]


def list_studies(storage: options.Storage = options.STUDIES) -> None:
    """List the studies of a storage, the newest last."""
    from krona_tune.search.terminal.inspect_studies import studies_in

    console.print(studies_in(storage_at(storage)))


def show(study: Study, storage: options.Storage = options.STUDIES) -> None:
    """Show what a study has found so far."""
    from krona_tune.search.terminal import inspect_studies

    inspect_studies.show(study_folder(storage_at(storage), study), console)


def watch(study: Study, storage: options.Storage = options.STUDIES) -> None:
    """Watch a running study from another terminal, until it ends or Ctrl-C."""
    from krona_tune.search.terminal import inspect_studies

    inspect_studies.watch(study_folder(storage_at(storage), study), console)
