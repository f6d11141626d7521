"""Makes a new sqlite tracking store completely or not at all: a study that is stopped in its first seconds leaves none.

MLflow makes its tables one by one, which takes seconds; a file with only some of them can't be repaired.
"""

from pathlib import Path

from filelock import FileLock

SQLITE = "sqlite:///"


def ensure_schema(tracking_uri: str) -> None:
    """Makes the file of a sqlite store if it is missing; studies that begin at the same time wait for each other."""
    if not tracking_uri.startswith(SQLITE):
        return
    path = Path(tracking_uri.removeprefix(SQLITE))
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if not path.exists():
            _make(path)


def _make(path: Path) -> None:
    from mlflow import MlflowClient

    unfinished = path.with_name(f".{path.name}.new")
    for leftover in path.parent.glob(f"{unfinished.name}*"):  # sqlite would roll an old journal into the new file
        leftover.unlink()
    MlflowClient(tracking_uri=f"{SQLITE}{unfinished}").search_experiments(max_results=1)
    unfinished.rename(path)
