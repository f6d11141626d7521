"""Finds what a machine or a cluster offers, and what one trial may use there."""

import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path

from krona_tune.machine import cores, memory
from krona_tune.refusal import Refusal, told
from krona_tune.search.ray_internals import count_gpus
from krona_tune.study.devices import Devices
from krona_tune.study.request.study_spec import ResourcesSpec

logger = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"
NVIDIA = Path("/proc/driver/nvidia/gpus")
DRIVERS = {"/proc/driver/nvidia": "NVIDIA", "/dev/nvidiactl": "NVIDIA", "/dev/dxg": "WSL2", "/dev/kfd": "AMD"}
"""The paths that a GPU's driver makes, and its maker. If none exists, Ray need not be imported."""
UNIT = 1e-4
"""The smallest share of a resource that Ray knows: it counts all of them in whole numbers of these."""


@dataclass(frozen=True)
class Node:
    """One machine's CPUs and GPUs, and the memory that Ray offers to tasks."""

    cpus: float
    gpus: float
    memory_bytes: float = math.inf

    def fits(self, cpus: float, gpus: float) -> int:
        """Returns how many trials of that size fit on the node. A share of a GPU never spans two GPUs."""
        if not gpus:
            return times_in(self.cpus, cpus)
        on_gpus = int(self.gpus) * times_in(1, gpus) if gpus < 1 else times_in(self.gpus, gpus)
        return min(times_in(self.cpus, cpus), on_gpus)


def times_in(whole: float, part: float) -> int:
    """Returns how often a part of a resource fits into the whole, in the units in which Ray counts both."""
    return round(whole / UNIT) // max(1, round(part / UNIT))


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The nodes and resources that Ray sees, and its dashboard's address (empty if there is none).

    `grows`: more nodes may join, since the study joined it and did not start it.
    """

    nodes: tuple[Node, ...]
    dashboard: str
    grows: bool = False

    @property
    def cpus(self) -> float:
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        return sum(node.gpus for node in self.nodes)

    def room(self, cpus: float, gpus: float) -> int:
        """Returns how many trials of that size fit on all nodes together."""
        return sum(node.fits(cpus, gpus) for node in self.nodes)


@dataclass(frozen=True, kw_only=True)
class Slots:
    """Holds what one trial uses, and how many trials run at once; and of these, how many on the node that has the least
    memory for each (None: all), and its memory, infinite if it is not known."""

    cpus: float
    gpus: float
    count: int
    on_a_node: int | None = None
    node_bytes: float = math.inf

    @property
    def fullest(self) -> tuple[int, float]:
        """Returns how many trials run at once where they have the least memory, and how much that is; infinite if it is
        not known."""
        return self.on_a_node or self.count, self.node_bytes

    @property
    def devices(self) -> Devices:
        """Returns the GPUs of one trial, or its CPU cores if it has none."""
        return Devices(kind="cuda", count=self.gpus) if self.gpus else Devices(kind="cpu", count=self.cpus)


def this_machine() -> Cluster:
    """Returns what a Ray started here offers, without torch; asks Ray for GPUs only if a GPU driver is present."""
    gpus = _gpus() if any(Path(path).exists() for path in DRIVERS) and not _hides_gpus() else 0
    return Cluster(nodes=(Node(cores(), gpus, memory()[0]),), dashboard="")


def _gpus() -> int:
    """Returns the number of GPUs as Ray counts them; as NVIDIA's driver lists them if Ray's count fails."""
    try:
        return count_gpus()
    except Exception as error:
        logger.warning("Ray could not count the GPUs: %s", told(error))
        listed, visible = len(list(NVIDIA.glob("*"))), os.environ.get(VISIBLE)
        return listed if visible is None else min(listed, len(visible.split(",")))


def visible_gpus() -> list[str]:
    """Returns NVIDIA's GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them; none of other makers."""
    if _hides_gpus() or not NVIDIA.exists():
        return []
    named, count = os.environ.get(VISIBLE), _gpus()
    return (named.split(",") if named else list(map(str, range(count))))[:count]


def _hides_gpus() -> bool:
    """Returns whether CUDA_VISIBLE_DEVICES hides every GPU: it hides all from the first invalid entry on."""
    return os.environ.get(VISIBLE, "0").split(",")[0].strip() in {"", "-1", "NoDevFiles"}


def refuse_odd_share(asked: ResourcesSpec) -> None:
    """Raises a Refusal if a trial asks for GPUs that are above 1 and not whole."""
    gpus = asked.gpus_per_trial or 0
    if gpus > 1 and gpus != int(gpus):
        raise Refusal("--gpus-per-trial", f"{gpus:g} is not a share of a GPU or a whole number", "ask for 0.5, 1, 2, …")


def slots(cluster: Cluster, asked: ResourcesSpec) -> Slots:
    """Returns what a trial uses and how many run at once: as many as fit, and no more than asked for; on a cluster that
    grows the number asked for, which may exceed what fits now. By default a trial gets one GPU if there are any.

    Raises:
        Refusal: the GPUs asked for are above 1 and not whole, or no node can hold one trial.
    """
    refuse_odd_share(asked)
    gpus = asked.gpus_per_trial if asked.gpus_per_trial is not None else min(1.0, cluster.gpus)
    for flag, wanted, there in (
        ("--cpus-per-trial", asked.cpus_per_trial, max((node.cpus for node in cluster.nodes), default=0)),
        ("--gpus-per-trial", gpus, max((node.gpus for node in cluster.nodes), default=0)),
    ):
        if wanted > there:
            raise Refusal(flag, f"{wanted:g} asked, the largest node has {there:g}", f"ask for at most {there:g}")
    fit = cluster.room(asked.cpus_per_trial, gpus)
    if not fit:
        raise Refusal("--gpus-per-trial", "no node has CPUs and GPUs enough for one trial", "ask for less of one")
    most = asked.max_concurrent or fit
    count = most if cluster.grows else min(most, fit)
    shares = [(min(node.fits(asked.cpus_per_trial, gpus), count), node.memory_bytes) for node in cluster.nodes]
    on_a_node, there = min(((many, there) for many, there in shares if many), key=lambda each: each[1] / each[0])
    return Slots(cpus=asked.cpus_per_trial, gpus=gpus, count=count, on_a_node=on_a_node, node_bytes=there)
