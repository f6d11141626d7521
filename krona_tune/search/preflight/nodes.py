"""Checks what each node of a cluster sees: the study's storage, the backbone's folder and packages, without torch."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

from krona_tune.record.remote.store import Store, is_uri
from krona_tune.refusal import Refusal, told
from krona_tune.study.redact import redact

PACKAGES = ("krona_tune", "torch", "transformers")
"""The packages that a worker needs in the driver's version, so that its trials give the same results."""
LOOK_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """What one node sees. `versions` leaves out packages that are not installed there."""

    reads_storage: bool
    writes_storage: bool
    sees_model: bool
    versions: dict[str, str]


def inspect_node(place: str, written: str, model: str) -> NodeReport:
    """Reports on the node that this runs on; `place` is a file in the storage that holds `written`."""
    storage, _, name = place.rpartition("/")
    reads = _can_read(storage, name, written)
    return NodeReport(
        reads_storage=reads,
        writes_storage=reads and _can_write(storage),
        sees_model=Path(model).is_dir(),
        versions=versions(),
    )


def inspect_nodes(storage: str, model: str) -> dict[str, NodeReport | str]:
    """Returns the report of each node of the joined cluster, by its address; an error text if there is no report.

    `storage` is a folder or a URI.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    with token(storage) as (place, written):
        task = ray.remote(num_cpus=0, max_retries=0)(inspect_node)
        reports = {
            node: task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
                place, written, model
            )
            for node in alive
        }
        ray.wait(list(reports.values()), num_returns=len(reports), timeout=LOOK_SECONDS)
        return {f"{alive[node]} ({node[:6]})": _seen(report) for node, report in reports.items()}


def _seen(report: Any) -> NodeReport | str:
    import ray

    try:
        seen: NodeReport = ray.get(report, timeout=0)
    except ray.exceptions.GetTimeoutError:
        return f"it did not answer within {LOOK_SECONDS} s"
    except ray.exceptions.RayError as error:
        return told(error, -1)
    return seen


@contextmanager
def token(storage: str) -> Iterator[tuple[str, str]]:
    """Creates a file with a unique text in the storage for the context; yields its place and the text."""
    written, store = uuid4().hex, Store(storage)
    name = f".seen-{written[:12]}"
    store.write(name, written.encode())
    try:
        yield f"{storage}/{name}", written
    finally:
        store.remove(name)


def _can_read(storage: str, name: str, written: str) -> bool:
    with suppress(Exception):  # every store has its own errors
        return Store(storage).read(name) == written.encode()
    return False


def _can_write(storage: str) -> bool:
    with suppress(Exception), token(storage):
        return True
    return False


def versions() -> dict[str, str]:
    """Returns the versions of the packages on this node; leaves out those that are not installed."""
    found = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def node_problems(storage: str, reports: dict[str, NodeReport | str]) -> Iterator[Refusal]:
    """A refusal for each node on which trials could not be trained."""
    name, equal = redact(storage), "give it the packages and the credentials that the driver has"
    for node, report in reports.items():
        match report:
            case str():
                yield Refusal(f"node {node}", report, "install the same krona_tune on every node")
            case NodeReport(reads_storage=False):
                fix = equal if is_uri(storage) else "name a folder that every node mounts"
                yield Refusal("--storage", f"node {node} does not see {name}", fix)
            case NodeReport(writes_storage=False):
                fix = equal if is_uri(storage) else "mount it writable there"
                yield Refusal("--storage", f"node {node} can't write in {name}", fix)
