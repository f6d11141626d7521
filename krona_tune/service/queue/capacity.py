"""Finds out what there is to share: the CPUs and GPUs of this machine, or of a cluster's nodes."""

import time
from urllib.parse import urlsplit

from krona_tune.refusal import Refusal, told
from krona_tune.search.startup.cluster import Cluster, Node, slots, this_machine
from krona_tune.service.queue.shares import Capacity
from krona_tune.study.request.study_spec import ResourcesSpec

SECONDS = 10.0
"""How long an answer of the cluster counts as new."""
ANSWER_SECONDS = 5
MOST_NODES = 10_000
"""The most nodes that Ray may answer about; it refuses to tell of more."""


class Shared:
    """What the queue shares out: this machine, or with an address the cluster whose dashboard answers there.

    Args:
        cpus: how many CPUs there are, such as those that a cluster may grow to; None: as many as are there now.
        gpus: how many GPUs there are; None: as many as are there now.
    """

    def __init__(self, address: str = "", cpus: float | None = None, gpus: float | None = None) -> None:
        self._address, self._cpus, self._gpus = address, cpus, gpus
        self._found, self._at = this_machine() if not address else Cluster(nodes=(), dashboard=""), -SECONDS
        self._failed: Refusal | None = None

    def cluster(self) -> Cluster:
        """Returns the nodes; those that were named count as one. Raises a Refusal if the cluster does not answer."""
        if self._address and time.monotonic() - self._at >= SECONDS:
            self._at = time.monotonic()
            self._failed = None
            try:
                self._found = Cluster(nodes=_nodes(self._address), dashboard=self._address)
            except Refusal as refusal:
                self._failed = refusal
        if self._failed:
            raise self._failed
        if self._cpus is None and self._gpus is None:
            return self._found
        cpus = self._found.cpus if self._cpus is None else self._cpus
        gpus = self._found.gpus if self._gpus is None else self._gpus
        return Cluster(nodes=(Node(cpus, gpus),), dashboard=self._found.dashboard)

    def capacity(self) -> Capacity:
        """Returns what there is in all. Raises what `cluster` raises."""
        found = self.cluster()
        return Capacity(cpus=found.cpus, gpus=found.gpus)

    def most(self, asked: ResourcesSpec) -> tuple[int, float, float]:
        """Returns how many slots a study could use at once, and the CPUs and GPUs of one.

        Raises:
            Refusal: not one fits, or what `cluster` raises.
        """
        one = slots(self.cluster(), asked.model_copy(update={"max_concurrent": None}))
        return min(one.count, asked.max_concurrent or one.count), one.cpus, one.gpus


def refuse_odd_dashboard(address: str) -> None:
    """Raises a Refusal if this is no address of a cluster's dashboard."""
    try:
        parts = urlsplit(address)
        right = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        right = False
    if not right:
        fix = "name the cluster's dashboard, such as http://127.0.0.1:8265"
        raise Refusal("--address", f"{address!r} is no address of a dashboard", fix)


def _nodes(address: str) -> tuple[Node, ...]:
    from ray.util.state import list_nodes

    try:
        found = list_nodes(address=address, limit=MOST_NODES, timeout=ANSWER_SECONDS, raise_on_missing_output=False)
    except Exception as error:
        fix = "start it, or name its dashboard; one with a token needs RAY_AUTH_MODE and RAY_AUTH_TOKEN"
        raise Refusal("--address", f"the cluster at {address} gives no answer ({told(error)})", fix) from None
    totals = [node.resources_total or {} for node in found if node.state == "ALIVE"]
    return tuple(Node(float(each.get("CPU", 0)), float(each.get("GPU", 0))) for each in totals)
