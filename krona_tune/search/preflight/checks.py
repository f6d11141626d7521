"""Checks a study before its first trial and reports all problems at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from krona_tune.record.mlflow_mirror.tracking_uri import explain_unreachable
from krona_tune.record.remote.store import refusing
from krona_tune.refusal import Refusal, told
from krona_tune.search.preflight.capacity import Footprint, check_disk, check_memory, nearest_folder, needed_bytes
from krona_tune.search.preflight.findings import Findings, problem
from krona_tune.search.preflight.first_batch import FirstBatch, train_first_batch, usual_point
from krona_tune.search.preflight.nodes import NodeReport, inspect_nodes, node_problems, token, versions
from krona_tune.search.startup.cluster import times_in
from krona_tune.search.startup.gather import Gathered
from krona_tune.study.folder import StudyFolder
from krona_tune.study.formatting import format_bytes
from krona_tune.study.result import Status

FIRST_BATCH_SECONDS = 300
FASTER = "--set precision=fp32 avoids that"


def run_preflight(gathered: Gathered, folder: StudyFolder, tracking_uri: str | None) -> Findings:
    """Checks everything that could make a trial fail later. Leaves no files behind."""
    need = needed_bytes(gathered)
    storage = nearest_folder(folder.root)
    with ThreadPoolExecutor(max_workers=1) as aside:
        tracking = aside.submit(explain_unreachable, tracking_uri or folder.tracking_uri)
        disk, work = check_disk(gathered, folder, storage) + at_the_uri(folder), check_memory(gathered, need)
        if len(gathered.cluster.nodes) > 1 and not disk.problems:
            work += on_every_node(gathered, folder.remote or str(storage))
        if not work.problems:
            work += in_the_first_batch(gathered, need)
        silent = tracking.result()
    return disk + work + Findings(warnings=(*gathered.prepared.data_warnings, *([silent] if silent else ())))


def at_the_uri(folder: StudyFolder) -> Findings:
    """Checks that the driver can write the study's copy, if the storage is a URI."""
    if folder.remote:
        try:
            with refusing(folder.remote), token(folder.remote):
                pass
        except Refusal as refusal:
            return Findings(problems=(refusal,))
    return Findings()


def on_every_node(gathered: Gathered, storage: str) -> Findings:
    """Checks that each node can read and write the storage, and has the backbone and the same packages."""
    source = gathered.source
    reports = inspect_nodes(storage, source.location)
    found = Findings(problems=tuple(node_problems(storage, reports)))
    here = versions()
    for node, report in reports.items():
        if not isinstance(report, NodeReport):
            continue
        if not report.sees_model and source.how == "local folder":
            found += problem("--model", f"node {node} does not see {source.location}", "put it where every node does")
        elif not report.sees_model:
            found += Findings(warnings=(f"node {node} does not see {source.location}: it will ask the hub",))
        if report.versions != here:
            found += Findings(warnings=(f"node {node} has {_listed(report.versions)}, the driver {_listed(here)}",))
    return found


def in_the_first_batch(gathered: Gathered, need: Footprint) -> Findings:
    """Checks that the largest adapter trains and evaluates on one batch of every task."""
    try:
        done = _trained(gathered, need)
    except Refusal as refusal:
        return Findings(problems=(refusal,))
    except TimeoutError:
        return Findings(warnings=(f"no worker trained a first batch within {FIRST_BATCH_SECONDS} s",))
    return Findings(
        problems=tuple(_refused(done)),
        warnings=tuple(_warned(gathered, done)),
        probe=done.probe,
        computes_in=done.computes_in,
    )


def _trained(gathered: Gathered, need: Footprint) -> FirstBatch:
    """Trains the first batch: in this process on one machine without GPUs, else in a worker like a trial's."""
    fit, works = gathered.slots, gathered.prepared.works
    usual, threads = usual_point(gathered.plan.space), max(1, int(fit.cpus))
    place, plan = gathered.source.location, gathered.plan
    quantize = plan.spec.backbone.quantize
    asked = (place, plan.precision, fit.gpus > 0, works, need.params, usual, threads, plan.geometry, quantize)
    if not fit.gpus and len(gathered.cluster.nodes) == 1:
        return train_first_batch(*asked)
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


def _refused(done: FirstBatch) -> Iterator[Refusal]:
    for task, (status, error) in done.failures.items():
        if status is Status.FAILED:
            yield Refusal(f"the first batch of {task}", error)


def _warned(gathered: Gathered, done: FirstBatch) -> Iterator[str]:
    for task, (status, error) in done.failures.items():
        if status is not Status.FAILED:  # a smaller adapter may train
            yield f"the first batch of {task} with the largest adapter: {status}: {error}"
    if done.lacks_bfloat16 and gathered.plan.precision == "bf16":
        advice = "the study was begun in it and keeps it" if gathered.plan.computes_in else FASTER
        yield f"{done.device or 'this processor'} is slower in bf16 than in fp32; {advice}"
    side_by_side = times_in(1, gathered.slots.gpus) if 0 < gathered.slots.gpus < 1 else 1
    if side_by_side * done.peak_bytes > done.memory_bytes:
        sizes = f"{side_by_side} × {format_bytes(done.peak_bytes)}, {done.device} has {format_bytes(done.memory_bytes)}"
        yield f"the largest adapter takes more than a GPU has: {sizes}; ask for a larger --gpus-per-trial"


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{package} {number}" for package, number in versions.items()) or "none of the packages"
