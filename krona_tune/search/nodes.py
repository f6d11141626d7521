"""What each node of a cluster sees: the study's storage, the backbone's folder, the same packages. No torch."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from uuid import uuid4

from krona_tune.refusal import Refusal

PACKAGES = ("krona_tune", "torch", "transformers")
"""What a worker must have in the driver's version for its trials to mean the same."""
LOOK_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class View:
    """What one node sees. `versions` lacks what is not installed there."""

    reads_storage: bool
    writes_storage: bool
    sees_model: bool
    versions: dict[str, str]


def look(token: str, written: str, model: str) -> View:
    """Looks from the node that this runs on: `token` is a file in the storage that holds `written`."""
    path = Path(token)
    reads = path.is_file() and path.read_text(encoding="utf-8") == written
    return View(
        reads_storage=reads,
        writes_storage=reads and _can_write(path.parent),
        sees_model=Path(model).is_dir(),
        versions=versions(),
    )


def look_around(storage: Path, model: str) -> dict[str, View | str]:
    """What each node of the cluster that this process has joined sees, by its address; a text where it can't look."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    with _token(storage) as (path, written):
        task = ray.remote(num_cpus=0, max_retries=0)(look)
        views = {
            node: task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
                str(path), written, model
            )
            for node in alive
        }
        ray.wait(list(views.values()), num_returns=len(views), timeout=LOOK_SECONDS)
        return {f"{alive[node]} ({node[:6]})": _seen(view) for node, view in views.items()}


def _seen(view: Any) -> View | str:
    import ray

    try:
        return ray.get(view, timeout=0)
    except ray.exceptions.GetTimeoutError:
        return f"it did not answer within {LOOK_SECONDS} s"
    except ray.exceptions.RayError as error:
        return str(error).strip().splitlines()[-1]


@contextmanager
def _token(storage: Path) -> Iterator[tuple[Path, str]]:
    """A file in the storage with a text of its own, while the context lasts."""
    written = uuid4().hex
    path = storage / f".seen-{written[:12]}"
    path.write_text(written, encoding="utf-8")
    try:
        yield path, written
    finally:
        path.unlink(missing_ok=True)


def _can_write(folder: Path) -> bool:
    with suppress(OSError), NamedTemporaryFile(dir=folder, prefix=".seen-"):
        return True
    return False


def versions() -> dict[str, str]:
    """The packages' versions where this runs; one that is not installed is left out."""
    found = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def refuse_blind(storage: Path, views: dict[str, View | str]) -> Iterator[Refusal]:
    """A refusal for each node on which trials could not be trained."""
    for node, view in views.items():
        match view:
            case str():
                yield Refusal(f"node {node}", view, "install the same krona_tune on every node")
            case View(reads_storage=False):
                yield Refusal(
                    "--storage", f"node {node} does not see {storage}", "name a folder that every node mounts"
                )
            case View(writes_storage=False):
                yield Refusal("--storage", f"node {node} can't write in {storage}", "mount it writable there")
