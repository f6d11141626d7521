"""The rule by which ASHA judges, as Ray's own has it: by tasks, by size and by averages over tasks alike."""

from collections import defaultdict

import numpy as np


class Rungs:
    """What was seen at each rung of trials that compete.

    Args:
        reduction: η: of those that came to a rung, the upper 1/η go on.
    """

    def __init__(self, reduction: int) -> None:
        self._share = 100 * (1 - 1 / reduction)
        self._seen: dict[int, list[tuple[float, int]]] = defaultdict(list)

    def survives(self, rung: int, score: float, size: int = 0) -> bool:
        """Puts a score at a rung and says whether its trial goes on from there.

        It goes on if the score is in the upper 1/η of those that came there before it with no more parameters; where
        nobody did, it goes on. So later trials are judged by earlier ones, and what no smaller trial beats goes on.
        """
        rivals = [other for other, other_size in self._seen[rung] if other_size <= size]
        self._seen[rung].append((score, size))
        return not rivals or bool(score >= np.percentile(rivals, self._share))
