"""Join or start Ray, and what one trial may use there."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from krona_tune.refusal import Refusal
from krona_tune.study.spec import ResourcesSpec

QUIET = {  # less chatter, our own handling of Ctrl-C, and failures as results without a score
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What Ray sees: its resources, its nodes, and where its dashboard listens (empty: nowhere)."""

    cpus: float
    gpus: float
    nodes: int
    dashboard: str


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
    return Cluster(cpus=len(os.sched_getaffinity(0)), gpus=gpus, nodes=1, dashboard="")


def connect(address: str | None) -> Cluster:
    """Joins the cluster at `address`, or starts Ray on this machine with a dashboard for this machine alone.

    Raises:
        Refusal: there is no cluster at that address.
    """
    import ray

    os.environ.update({key: os.environ.get(key, value) for key, value in QUIET.items()})
    local = {} if address else {"include_dashboard": True, "dashboard_host": "127.0.0.1"}
    try:
        context = ray.init(
            address=address, logging_level=logging.ERROR, log_to_driver=False, ignore_reinit_error=True, **local
        )
    except (ConnectionError, ValueError) as error:
        raise Refusal(
            "--address", f"no Ray cluster at {address!r}: {error}", "start one with ray start --head"
        ) from None
    resources = ray.cluster_resources()
    return Cluster(
        cpus=resources.get("CPU", 0),
        gpus=resources.get("GPU", 0),
        nodes=sum(node["Alive"] for node in ray.nodes()),
        dashboard=f"http://{context.dashboard_url}" if context.dashboard_url else "",
    )


def slots(cluster: Cluster, asked: ResourcesSpec) -> Slots:
    """How many trials fit. Where there are GPUs and nothing is asked, a trial gets one.

    Raises:
        Refusal: no node could ever hold one trial.
    """
    gpus = asked.gpus_per_trial if asked.gpus_per_trial is not None else min(1.0, cluster.gpus)
    for flag, wanted, there in (
        ("--cpus-per-trial", asked.cpus_per_trial, cluster.cpus),
        ("--gpus-per-trial", gpus, cluster.gpus),
    ):
        if wanted > there:
            raise Refusal(flag, f"{wanted:g} asked, the cluster has {there:g}", f"ask for at most {there:g}")
    fit = int(cluster.cpus / asked.cpus_per_trial)
    if gpus:
        fit = min(fit, int(cluster.gpus / gpus))
    return Slots(cpus=asked.cpus_per_trial, gpus=gpus, count=max(1, min(fit, asked.max_concurrent or fit)))
