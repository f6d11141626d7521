"""Join or start Ray, and what one trial may use there."""

import logging
import math
import os
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from krona_tune.refusal import Refusal
from krona_tune.study.spec import ResourcesSpec

logger = logging.getLogger(__name__)

QUIET = {  # less chatter, our own handling of Ctrl-C, and failures as results without a score
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}
LOOPBACK = "127.0.0.1"
FEW_CPUS = 8
EARLY = ("krona_tune.search.trainable", "transformers.modeling_utils")
"""What a worker imports before its first trial; transformers' models bring half of torch's compiler along."""
WORKER_WAIT_SECONDS = 900
"""How long a cluster that has only its head may take to bring the first worker."""


@dataclass(frozen=True)
class Node:
    """One machine's CPUs, GPUs and the memory that Ray counts for work."""

    cpus: float
    gpus: float
    memory_bytes: float = math.inf

    def fits(self, cpus: float, gpus: float) -> int:
        """How many trials of that size it holds. Shares of a GPU don't reach over to the next one."""
        on_gpus = int(self.gpus) * int(1 / gpus) if 0 < gpus < 1 else int(self.gpus / gpus) if gpus else math.inf
        return int(min(self.cpus // cpus, on_gpus))


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What Ray sees: its resources, its nodes, and where its dashboard listens (empty: nowhere)."""

    nodes: tuple[Node, ...]
    dashboard: str

    @property
    def cpus(self) -> float:
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        return sum(node.gpus for node in self.nodes)


@dataclass(frozen=True, kw_only=True)
class Slots:
    """What one trial uses and how many run at once."""

    cpus: float
    gpus: float
    count: int


def this_machine() -> Cluster:
    """What a Ray started here would see; no torch, no Ray."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"}
    gpus = 0 if hidden else len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Cluster(nodes=(Node(cpus, gpus),), dashboard="")


def connecting(address: str | None) -> "Future[Cluster]":
    """`connect`, begun: Ray starts while the caller reads what it needs.

    The thread stays as long as the process, since what Ray starts dies with the thread that started it.
    """
    found: Future[Cluster] = Future()

    def connected() -> None:
        try:
            found.set_result(connect(address))
        except BaseException as error:
            found.set_exception(error)
        Event().wait()

    Thread(target=connected, name="ray", daemon=True).start()
    return found


def connect(address: str | None) -> Cluster:
    """Joins the cluster at `address`, or starts Ray on this machine, for this machine alone.

    A cluster whose head takes no trials and that has no worker yet is asked for one, and waited for.

    Raises:
        Refusal: there is no cluster at that address, or no worker comes.
    """
    if address and address.startswith("ray://"):
        mend = "run this on the cluster's head with --address auto, or through ray job submit"
        raise Refusal("--address", f"{address!r}: a study can't be driven through Ray Client", mend)
    import ray

    os.environ.update({key: os.environ.get(key, value) for key, value in QUIET.items()})
    if not address:
        _stay_on_this_machine()
        _import_early()
    local = {} if address else {"include_dashboard": True, "dashboard_host": LOOPBACK}
    try:
        context = ray.init(
            address=address or "local",
            logging_level=logging.ERROR,
            log_to_driver=False,
            ignore_reinit_error=True,
            **local,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise Refusal(
            "--address", f"no Ray cluster at {address!r}: {error}", "start one with ray start --head"
        ) from None
    nodes = _nodes()
    return Cluster(
        nodes=nodes if any(node.cpus for node in nodes) else _first_worker(),
        dashboard=f"http://{context.dashboard_url}" if context.dashboard_url else "",
    )


def _stay_on_this_machine() -> None:
    """Keeps every server of a Ray that is started here on the loopback address, as Ray does by itself on a laptop.

    Otherwise only the dashboard would be there, and whoever reaches the others can run code in their workers.
    """
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = False


def _import_early() -> None:
    """Has the workers that Ray starts at once, one a CPU, import what trials need, while the driver reads its own.

    Not where there are many: on a machine with GPUs most of them would wait for nothing, each with a torch in memory.
    """
    if this_machine().cpus <= FEW_CPUS:
        os.environ.setdefault("RAY_preload_python_modules", ",".join(EARLY))


def _nodes() -> tuple[Node, ...]:
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return tuple(Node(each.get("CPU", 0), each.get("GPU", 0), each.get("memory", math.inf)) for each in alive)


def _first_worker() -> tuple[Node, ...]:
    """The nodes, once there is one that offers CPUs."""
    from ray.autoscaler.sdk import request_resources

    logger.warning("the cluster has no worker yet: asked for one, at most %d s are waited", WORKER_WAIT_SECONDS)
    request_resources(num_cpus=1)
    deadline = time.monotonic() + WORKER_WAIT_SECONDS
    try:
        while time.monotonic() < deadline:
            nodes = _nodes()
            if any(node.cpus for node in nodes):
                return nodes
            time.sleep(1)
    finally:
        request_resources(num_cpus=0)
    raise Refusal("--address", "no node of the cluster offers a CPU", "look at what ray status says, or add a worker")


def slots(cluster: Cluster, asked: ResourcesSpec) -> Slots:
    """How many trials fit now, or how many are asked for: on a cluster that grows, that may be more.

    Where there are GPUs and nothing is asked, a trial gets one.

    Raises:
        Refusal: no node could ever hold one trial.
    """
    gpus = asked.gpus_per_trial if asked.gpus_per_trial is not None else min(1.0, cluster.gpus)
    if gpus > 1 and gpus != int(gpus):
        raise Refusal("--gpus-per-trial", f"{gpus:g} is no share of a GPU and no whole number", "ask for 0.5, 1, 2, …")
    for flag, wanted, there in (
        ("--cpus-per-trial", asked.cpus_per_trial, max((node.cpus for node in cluster.nodes), default=0)),
        ("--gpus-per-trial", gpus, max((node.gpus for node in cluster.nodes), default=0)),
    ):
        if wanted > there:
            raise Refusal(flag, f"{wanted:g} asked, the largest node has {there:g}", f"ask for at most {there:g}")
    fit = sum(node.fits(asked.cpus_per_trial, gpus) for node in cluster.nodes)
    if not fit:
        raise Refusal("--gpus-per-trial", "no node has CPUs and GPUs enough for one trial", "ask for less of one")
    return Slots(cpus=asked.cpus_per_trial, gpus=gpus, count=asked.max_concurrent or fit)
