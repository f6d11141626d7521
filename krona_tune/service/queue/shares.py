"""Divides the slots of a cluster among studies, by their priorities."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

TOLERANCE = 1e-6
"""Of sums of fractions of a GPU."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a study asks for: at most `most` slots, each of `cpus` and `gpus`. Of two with equal rights the one with the
    smaller `place` comes first."""

    place: int
    person: str
    priority: int
    most: int
    cpus: float
    gpus: float


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What there is to divide."""

    cpus: float
    gpus: float

    @property
    def said(self) -> str:
        named = (("CPU", self.cpus), ("GPU", self.gpus))
        return ", ".join(f"{count:g} {name}{'s' if count != 1 else ''}" for name, count in named if count) or "no CPU"


def divide(claims: Iterable[Claim], capacity: Capacity, limits: Mapping[str, int] | None = None) -> dict[int, int]:
    """Returns how many slots each claim gets, by its place.

    One slot after the other goes to the claim with the highest quotient of its priority and what it would then hold, as
    seats go to parties in the method of D'Hondt. What a claim holds is measured by the resource of which it holds the
    greatest part (dominant resource fairness, Ghodsi et al. 2011), so studies on CPUs and on GPUs can share a cluster.
    Studies of equal priority hold equal parts; if there are fewer slots than studies, the older ones have one each.

    Args:
        limits: the most slots that all studies of a person may hold.
    """
    waiting = {claim.place: claim for claim in sorted(claims, key=lambda claim: claim.place)}
    held = dict.fromkeys(waiting, 0)
    of_person: Counter[str] = Counter()
    cpus, gpus = capacity.cpus + TOLERANCE, capacity.gpus + TOLERANCE

    def is_full(claim: Claim) -> bool:
        most = (limits or {}).get(claim.person)
        return (
            held[claim.place] >= claim.most
            or (most is not None and of_person[claim.person] >= most)
            or claim.cpus > cpus
            or claim.gpus > gpus
        )

    def right(claim: Claim) -> tuple[float, int, int]:
        part = max(claim.cpus / capacity.cpus if capacity.cpus else 0, claim.gpus / capacity.gpus if claim.gpus else 0)
        return claim.priority / ((held[claim.place] + 1) * max(part, TOLERANCE)), -held[claim.place], -claim.place

    while waiting := {place: claim for place, claim in waiting.items() if not is_full(claim)}:
        first = max(waiting.values(), key=right)
        held[first.place] += 1
        of_person[first.person] += 1
        cpus, gpus = cpus - first.cpus, gpus - first.gpus
    return held
