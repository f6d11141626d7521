"""Proposes the points of a scrambled Sobol sequence, which cover a space evenly and are the same on every task."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from scipy.stats.qmc import Sobol

from krona_tune.search.planning.space import EVEN_DRAWS, Space
from krona_tune.search.searchers.proposal import SOBOL, Origin, Proposal, Suggest
from krona_tune.study.randomness import stream


def sobol_points(space: Space, seed: int, first: int = 0) -> Suggest:
    """Returns a function that gives a trial its point: feasible points of the sequence, each once, from `first` on."""
    remaining, found = islice(_points(space, seed), first, None), list[dict[str, Any]]()

    def suggest(number: int) -> Iterator[Proposal]:
        found.extend(islice(remaining, max(0, number + 1 - len(found))))
        return (Proposal(point, Origin(proposed_by=SOBOL)) for point in found[number : number + 1])

    return suggest


def _points(space: Space, seed: int) -> Iterator[dict[str, Any]]:
    """Yields feasible points until none was found among EVEN_DRAWS in a row."""
    labels = list(space.searched())
    if not labels:
        yield space.at({})
        return
    sequence = Sobol(d=len(labels), scramble=True, seed=stream(seed, "sobol") % 2**32)
    tried: set[str] = set()
    in_vain = 0
    while in_vain < EVEN_DRAWS:
        point = space.at(dict(zip(labels, map(float, sequence.random()[0]), strict=True)))
        in_vain += 1
        if space.feasible(point) and (meaning := space.meaning(point)) not in tried:
            tried.add(meaning)
            in_vain = 0
            yield point
