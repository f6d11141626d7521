"""A new tracking store in sqlite appears whole or not at all: a study that is stopped in its first seconds leaves none.

MLflow makes its tables one by one, which takes seconds; a file in which only some were made can't be fixed.
"""

from pathlib import Path

from filelock import FileLock

SQLITE = "sqlite:///"


def ensure_schema(tracking_uri: str) -> None:
    """Makes the file of a sqlite store that is not there yet; studies that begin at once wait for each other."""
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
