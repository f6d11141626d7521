"""Finds the slots of this machine or a cluster, and divides them among studies by their priorities."""

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from threading import Lock

from krona_tune.refusal import Refusal
from krona_tune.search.startup.dashboard import cluster_at
from krona_tune.search.startup.slots import Cluster, Node, Slots, slots, this_machine
from krona_tune.service.access_token import is_http_address
from krona_tune.study.request.study_spec import ResourcesSpec

TOLERANCE = 1e-6
"""Of sums of fractions of a GPU."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Holds what a study asks for: at most `most` slots, each of `cpus` and `gpus`. Of two with equal rights the one
    with the smaller `place` comes first."""

    place: int
    person: str
    priority: int
    most: int
    cpus: float
    gpus: float


def describe_capacity(there: Cluster) -> str:
    """Returns what there is to divide in words, such as `8 CPUs, 1 GPU`."""
    named = (("CPU", there.cpus), ("GPU", there.gpus))
    return ", ".join(f"{count:g} {name}{'s' if count != 1 else ''}" for name, count in named if count) or "no CPU"


def divide(claims: Iterable[Claim], there: Cluster, limits: Mapping[str, int] | None = None) -> dict[int, int]:
    """Returns how many slots each claim gets, by its place.

    One slot after the other goes to the claim with the highest quotient of its priority and of what it holds with the
    smallest of all slots, as seats go to parties in the method of D'Hondt. What a claim holds is measured by the
    resource of which it holds the greatest part (dominant resource fairness, Ghodsi et al. 2011), so studies on CPUs
    and on GPUs can share a cluster. How large a claim's next slot is does not matter: one with large trials would never
    get any.
    Studies of equal priority hold equal parts; if there are fewer slots than studies, the older ones have one each.

    Args:
        limits: the most slots that all studies of a person may hold.
    """
    waiting = {claim.place: claim for claim in sorted(claims, key=lambda claim: claim.place)}
    held = dict.fromkeys(waiting, 0)
    of_person: Counter[str] = Counter()
    cpus, gpus = there.cpus + TOLERANCE, there.gpus + TOLERANCE

    def is_full(claim: Claim) -> bool:
        most = (limits or {}).get(claim.person)
        return (
            held[claim.place] >= claim.most
            or (most is not None and of_person[claim.person] >= most)
            or claim.cpus > cpus
            or claim.gpus > gpus
        )

    def part(claim: Claim) -> float:
        asked = ((claim.cpus, there.cpus), (claim.gpus, there.gpus))
        return max((each / whole for each, whole in asked if each and whole), default=0.0) or TOLERANCE

    def right(claim: Claim) -> tuple[float, int, int]:
        return claim.priority / (held[claim.place] * part(claim) + least), -held[claim.place], -claim.place

    waiting = {place: claim for place, claim in waiting.items() if not is_full(claim)}
    least = min(map(part, waiting.values()), default=1.0)
    while waiting := {place: claim for place, claim in waiting.items() if not is_full(claim)}:
        first = max(waiting.values(), key=right)
        held[first.place] += 1
        of_person[first.person] += 1
        cpus, gpus = cpus - first.cpus, gpus - first.gpus
    return held


def first_free(count: int, wanted: float, held: Iterable[tuple[int, float]]) -> int:
    """Returns with which GPU a study begins that takes them one after the other, so that others use the fewest of them.

    Args:
        count: how many GPUs there are; after the last one comes the first.
        wanted: how many the study takes.
        held: of each other study the GPU that it began with, and how many it takes.
    """
    used = Counter((first + step) % count for first, taken in held for step in range(ceil(taken)))

    def met(first: int) -> tuple[int, list[int]]:
        others = [used[(first + step) % count] for step in range(ceil(wanted))]
        return sum(others), others  # of equal ones, that whose first GPUs are free

    return min(range(count), key=met)


MOST_DEVICES = 100_000
"""More CPUs or GPUs than any cluster has."""
RENEWAL_SECONDS = 10.0
"""How long an answer of the cluster counts as new."""


class CapacitySource:
    """Finds what the queue shares out: this machine, or with an address the cluster whose dashboard answers there.

    Args:
        cpus: how many CPUs there are, such as those that a cluster may grow to; None: as many as are there now.
        gpus: how many GPUs there are; None: as many as are there now.

    Raises:
        Refusal: one of them is no number, or more than a cluster has.
    """

    def __init__(self, address: str = "", cpus: float | None = None, gpus: float | None = None) -> None:
        for flag, count in (("--cpus", cpus), ("--gpus", gpus)):
            if count is not None and not 0 <= count <= MOST_DEVICES:
                raise Refusal(flag, f"{count:g} is refused", f"write a number from 0 to {MOST_DEVICES:,}")
        self._address, self._cpus, self._gpus = address, cpus, gpus
        self._found, self._at = this_machine() if not address else Cluster(nodes=(), dashboard=""), -RENEWAL_SECONDS
        self._failed: Refusal | None = None
        self._asking = Lock()

    def cluster(self) -> Cluster:
        """Returns the nodes; those that were named count as one. Raises a Refusal if the cluster does not answer."""
        with self._asking:  # another thread waits for the same answer
            if self._address and time.monotonic() - self._at >= RENEWAL_SECONDS:
                self._renew()
        if self._failed:
            raise self._failed
        if self._cpus is None and self._gpus is None:
            return self._found
        cpus = self._found.cpus if self._cpus is None else self._cpus
        gpus = self._found.gpus if self._gpus is None else self._gpus
        there = sum(node.memory_bytes for node in self._found.nodes) or math.inf
        return Cluster(nodes=(Node(cpus, gpus, there),), dashboard=self._found.dashboard)

    def _renew(self) -> None:
        try:
            self._found, self._failed = cluster_at(self._address), None
        except Refusal as refusal:
            self._failed = refusal
        self._at = time.monotonic()

    def most(self, asked: ResourcesSpec) -> Slots:
        """Returns the most slots that a study could use at once.

        Raises:
            Refusal: not one fits, or what `cluster` raises.
        """
        return slots(self.cluster(), asked)


def refuse_odd_dashboard(address: str) -> None:
    """Raises a Refusal if this is no address of a cluster's dashboard."""
    if not is_http_address(address):
        fix = "name the cluster's dashboard, such as http://127.0.0.1:8265"
        raise Refusal("--address", f"{address!r} is no address of a dashboard", fix)
