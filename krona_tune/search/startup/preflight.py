"""Checks a study before its first trial and reports all problems at once: nodes, disk, memory, first batches."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from uuid import uuid4

from krona_tune.machine import free_bytes, installed_versions
from krona_tune.processor import was_forked
from krona_tune.record.mlflow_mirror.tracking_uri import explain_unreachable
from krona_tune.record.parquet_reader import pass_over, read_trials
from krona_tune.record.remote_files import Store, is_uri, refusing_store_errors
from krona_tune.refusal import Refusal, joined, told
from krona_tune.search.layer_passes import timed_points
from krona_tune.search.planning.footprint import Footprint, checkpoints_of
from krona_tune.search.startup.begin_study import Resources
from krona_tune.search.startup.first_batch_cache import cached_first_batch
from krona_tune.search.startup.needs import footprint_on
from krona_tune.search.startup.slots import times_in
from krona_tune.search.worker.first_batch import (
    FirstBatch,
    longest_example,
    points_beside,
    train_first_batch,
)
from krona_tune.study.folder import StudyFolder, nearest_folder
from krona_tune.study.formatting import format_bytes
from krona_tune.study.redact import redact
from krona_tune.study.request.study_spec import Precision
from krona_tune.study.result import Status
from krona_tune.train.backbone_source import IN_FOLDER
from krona_tune.train.step_times import StepTimes


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The findings: `problems` that fail every trial, `warnings` that may fail some, a step's cost, if timed, and
    what the first batch computed in."""

    problems: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()
    probe: StepTimes | None = None
    computes_in: Precision | None = None

    def __add__(self, other: "Findings") -> "Findings":
        return Findings(
            problems=self.problems + other.problems,
            warnings=self.warnings + other.warnings,
            probe=self.probe or other.probe,
            computes_in=self.computes_in or other.computes_in,
        )

    def refuse(self) -> None:
        """Raises all problems as one Refusal, if there are any."""
        if self.problems:
            raise joined(self.problems)


def problem(place: str, what: str, fix: str) -> Findings:
    """Returns findings with one problem."""
    return Findings(problems=(Refusal(place, what, fix),))


PACKAGES = ("krona_tune", "torch", "transformers")
"""The packages that a worker needs in the driver's version, so that its trials give the same results."""
LOOK_SECONDS = 180
"""Limits how long a node may take to answer: a busy one imports everything for a minute and more."""


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """Holds what one node sees: why it can't read the storage, why it can't write there, each empty if it can.
    `versions` leaves out packages that are not installed there."""

    unreadable: str
    unwritable: str
    sees_model: bool
    versions: dict[str, str]


def inspect_node(place: str, written: str, model: str) -> NodeReport:
    """Reports on the node that this runs on; `place` is a file in the storage that holds `written`."""
    storage, _, name = place.rpartition("/")
    unreadable = _why_unreadable(storage, name, written)
    return NodeReport(
        unreadable=unreadable,
        unwritable=unreadable or _why_unwritable(storage),
        sees_model=Path(model).is_dir(),
        versions=package_versions(),
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


def _why_unreadable(storage: str, name: str, written: str) -> str:
    try:
        return "" if Store(storage).read(name) == written.encode() else f"{name} is another file there"
    except Exception as error:  # every store has its own errors
        return told(error)


def _why_unwritable(storage: str) -> str:
    try:
        with token(storage):
            return ""
    except Exception as error:
        return told(error)


def package_versions() -> dict[str, str]:
    """Returns the versions of the packages on this node; leaves out those that are not installed."""
    return installed_versions(PACKAGES)


def node_problems(storage: str, reports: dict[str, NodeReport | str]) -> Iterator[Refusal]:
    """Yields a refusal for each node on which trials could not be trained."""
    name, equal = redact(storage), "give it the packages and the credentials that the driver has"
    for node, report in reports.items():
        match report:
            case str():
                yield Refusal(f"node {node}", report, "install the same krona_tune on every node")
            case NodeReport(unreadable=why) if why:
                fix = equal if is_uri(storage) else "name a folder that every node mounts"
                yield Refusal("--storage", f"node {node} does not see {name} ({redact(why)})", fix)
            case NodeReport(unwritable=why) if why:
                fix = equal if is_uri(storage) else "mount it writable there"
                yield Refusal("--storage", f"node {node} can't write in {name} ({redact(why)})", fix)


def needed_bytes(resources: Resources) -> Footprint:
    """Returns what the largest adapter of the space needs, computed from sizes alone."""
    longest = max(map(longest_example, resources.prepared.works.values()))
    return footprint_on(resources.slots, resources.plan, longest)


PROBE_BLOCKS = 16
"""How many blocks of 4 KiB the storage has to take."""


def check_disk(resources: Resources, folder: StudyFolder, storage: Path) -> Findings:
    """Checks that the storage can be written and has space for the checkpoints of the remaining trials: a problem if
    the usual size does not fit, a warning if only the largest does not.

    If the storage is a URI, each node holds only its own trials' checkpoints, and how many it gets nobody knows: where
    other nodes may run trials, this one's space is a warning too.
    """
    try:
        with NamedTemporaryFile(dir=storage, prefix=".preflight-", buffering=0) as probe:
            for _ in range(PROBE_BLOCKS):  # an empty file fits on a full disk
                probe.write(bytes(4096))
            os.fsync(probe.fileno())
    except OSError as error:
        fix = "name a folder that can be written and has space"
        return problem("--storage", f"{storage} can't be written: {error.strerror}", fix)
    checkpoints, free = checkpoints_of(resources.plan), free_bytes(storage)
    there, ended = len(list(folder.checkpoints.glob("*"))), 0
    if folder.results.is_dir():
        ended = sum(row.ended for row in read_trials(folder.results, pass_over))
    left = max(0.0, 1 - max(there, ended) / checkpoints.trials)
    of = f"{storage} has {format_bytes(free)} free, the checkpoints of {checkpoints.trials} trials take"
    shared = folder.remote is not None and resources.cluster.grows
    if left * checkpoints.usually > free and not shared:
        fix = "free space, ask for fewer trials, or limit them with --max-params"
        return problem("--storage", f"{of} about {format_bytes(left * checkpoints.usually)}", fix)
    if left * checkpoints.most > free:
        return Findings(warnings=(f"--storage: {of} up to {format_bytes(left * checkpoints.most)}",))
    return Findings()


def check_memory(resources: Resources, need: Footprint) -> Findings:
    """Checks that a node's CPU workers fit in its memory: a problem if the backbones alone don't, else a warning."""
    fit, found = resources.slots, Findings()
    for node in set(resources.cluster.nodes):
        workers = min(node.fits(fit.cpus, fit.gpus), fit.count)
        memory = f"{workers} workers on a node of {node.cpus:g} CPUs"
        if not fit.gpus and workers * need.weights > node.memory_bytes:
            what = f"{memory}: the backbone alone takes {format_bytes(workers * need.weights)}"
            fix = "ask for fewer with --max-concurrent, or for more CPUs a trial"
            found += problem("memory", f"{what}, Ray has {format_bytes(node.memory_bytes)}", fix)
        elif not fit.gpus and workers * need.worker > node.memory_bytes:
            taken, there = format_bytes(workers * need.worker), format_bytes(node.memory_bytes)
            rough = f"{memory} may take {taken}, Ray has {there}"
            found += Findings(warnings=(f"memory: {rough}; --max-concurrent asks for fewer",))
    return found


FIRST_BATCH_SECONDS = 300
FASTER = "--set precision=fp32 avoids that"


def run_preflight(
    resources: Resources, folder: StudyFolder, tracking_uri: str | None, task: str | None = None
) -> Findings:
    """Checks everything that could make a trial fail later. Leaves no files behind.

    Args:
        task: the only one whose data are warned of; None: all are.
    """
    need = needed_bytes(resources)
    storage = nearest_folder(folder.root)
    with ThreadPoolExecutor(max_workers=1) as aside:
        tracking = aside.submit(explain_unreachable, tracking_uri or folder.tracking_uri)
        disk, work = check_disk(resources, folder, storage) + at_the_uri(folder), check_memory(resources, need)
        if resources.cluster.grows and not disk.problems:
            work += on_every_node(resources, folder.remote or str(storage))
        if not work.problems:
            work += in_the_first_batch(resources, folder, need)
        silent = tracking.result()
    return disk + work + Findings(warnings=(*resources.prepared.warnings_of(task), *([silent] if silent else ())))


def at_the_uri(folder: StudyFolder) -> Findings:
    """Checks that the driver can write the study's copy, if the storage is a URI."""
    if folder.remote:
        try:
            with refusing_store_errors(folder.remote), token(folder.remote):
                pass
        except Refusal as refusal:
            return Findings(problems=(refusal,))
    return Findings()


def on_every_node(resources: Resources, storage: str) -> Findings:
    """Checks that each node can read and write the storage, and has the backbone and the same packages."""
    source = resources.source
    reports = inspect_nodes(storage, source.location)
    found = Findings(problems=tuple(node_problems(storage, reports)))
    here = package_versions()
    for node, report in reports.items():
        if not isinstance(report, NodeReport):
            continue
        if not report.sees_model and source.how == IN_FOLDER:
            found += problem("--model", f"node {node} does not see {source.location}", "put it where every node does")
        elif not report.sees_model:
            found += Findings(warnings=(f"node {node} does not see {source.location}: it will ask the hub",))
        if report.versions != here:
            found += Findings(warnings=(f"node {node} has {_listed(report.versions)}, the driver {_listed(here)}",))
    return found


def in_the_first_batch(resources: Resources, folder: StudyFolder, need: Footprint) -> Findings:
    """Checks that the largest adapter trains and evaluates on one batch of every task."""
    try:
        done = _trained(resources, folder, need)
    except Refusal as refusal:
        return Findings(problems=(refusal,))
    except TimeoutError:
        return Findings(warnings=(f"no worker trained a first batch within {FIRST_BATCH_SECONDS} s",))
    return Findings(
        problems=tuple(_refused(resources, done)),
        warnings=tuple(_warned(resources, done)),
        probe=done.probe,
        computes_in=done.computes_in,
    )


def _trained(resources: Resources, folder: StudyFolder, need: Footprint) -> FirstBatch:
    """Trains the first batch: in this process on one machine without GPUs, if it is not known, unless it was forked;
    else in a worker like a trial's."""
    fit, space, workplace = resources.slots, resources.plan.space, resources.workplace(folder)
    timed, beside = timed_points(space, resources.plan.taught_points), points_beside(space, need.params)
    asked = (workplace, resources.prepared.works, need.params, timed, beside)
    if not (fit.gpus or was_forked()) and len(resources.cluster.nodes) == 1:
        known = cached_first_batch(resources, workplace, [need.params, *timed, *beside.values()])
        if known is None:
            return train_first_batch(*asked)
        if (done := known.read()) is None:
            known.keep(done := train_first_batch(*asked))
        return done
    import ray

    task = ray.remote(num_cpus=fit.cpus, num_gpus=fit.gpus, max_retries=0, max_calls=1)(train_first_batch)
    result = task.remote(*asked)
    try:
        trained: FirstBatch = ray.get(result, timeout=FIRST_BATCH_SECONDS)
    except ray.exceptions.GetTimeoutError:
        ray.cancel(result, force=True)  # it would keep its CPU or GPU from the trials
        raise TimeoutError from None
    except ray.exceptions.RayTaskError as error:
        cause = error.cause if isinstance(error.cause, Refusal) else Refusal("the first batch", str(error.cause))
        raise cause from None
    except ray.exceptions.RayError as error:
        raise Refusal("the first batch", f"its worker was lost: {told(error)}") from None
    return trained


def _refused(resources: Resources, done: FirstBatch) -> Iterator[Refusal]:
    for task, (status, error) in done.failures.items():
        if status is Status.FAILED:
            yield Refusal(f"the first batch of {task}", error)
    if not resources.plan.computes_in:  # the study begins now
        faster = f", or in bf16 see whether {FASTER}" if done.computes_in == "bf16" else ""
        for kind, error in done.unfit.items():
            yield Refusal(f"the first batch with {kind}", error, f"leave it out of the space{faster}")


def _warned(resources: Resources, done: FirstBatch) -> Iterator[str]:
    for task, (status, error) in done.failures.items():
        if status is not Status.FAILED:  # a smaller adapter may train
            yield f"the first batch of {task} with the largest adapter: {status}: {error}"
    if resources.plan.computes_in:
        for kind, error in done.unfit.items():
            yield f"the first batch with {kind} failed, as such trials will: {error}"
    if done.lacks_bfloat16 and resources.plan.precision == "bf16":
        advice = "the study was begun in it and keeps it" if resources.plan.computes_in else FASTER
        yield f"{done.device or 'this processor'} is slower in bf16 than in fp32; {advice}"
    side_by_side = times_in(1, resources.slots.gpus) if 0 < resources.slots.gpus < 1 else 1
    if side_by_side * done.peak_bytes > done.memory_bytes:
        sizes = f"{side_by_side} × {format_bytes(done.peak_bytes)}, {done.device} has {format_bytes(done.memory_bytes)}"
        yield f"the largest adapter takes more than a GPU has: {sizes}; ask for a larger --gpus-per-trial"


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{package} {number}" for package, number in versions.items()) or "none of the packages"
