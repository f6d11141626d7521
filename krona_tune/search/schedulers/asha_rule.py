"""Holds ASHA's rule, the same as Ray's, for trials of a task, of limited size, and for averages over tasks."""

from collections import defaultdict
from math import isfinite

import numpy as np


class Rungs:
    """The scores and sizes of competing trials at each rung.

    Args:
        reduction: η: the upper 1/η of those that reached a rung continue.
    """

    def __init__(self, reduction: int) -> None:
        self._share = 100 * (1 - 1 / reduction)
        self._seen: dict[int, list[tuple[float, int]]] = defaultdict(list)

    def survives(self, rung: int, score: float, size: int = 0) -> bool:
        """Adds a score to a rung and returns whether its trial continues from there.

        It continues if its score is in the upper 1/η of the earlier scores there with no more parameters, or if there
        are none. So later trials are judged by earlier ones, and a trial that no smaller one beats continues. A score
        that is not finite is not added, and its trial does not continue.
        """
        if not isfinite(score):
            return False
        rivals = [other for other, other_size in self._seen[rung] if other_size <= size]
        self._seen[rung].append((score, size))
        return not rivals or bool(score >= np.percentile(rivals, self._share))
