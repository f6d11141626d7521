"""Holds the rules that stop trials of a tabular replay: none, Ray's ASHA, and what is compared with them."""

from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

from tests.benchmarks.search.tabular_study import Continues, Setting, Trial

MakeStop = Callable[[Setting], Continues]


def never(trial: Trial, trials: Sequence[Trial]) -> bool:
    """Trains each trial in full."""
    return True


def in_full(setting: Setting) -> Continues:
    """Returns the rule that stops nothing."""
    return never


def asha(rungs: Collection[int], reduction: int = 3) -> MakeStop:
    """Returns ASHA's rule, the same as Ray's, with rungs after these epochs: a trial continues if its score is in the
    upper 1/reduction of those that reached the rung before."""
    share = 1 - 1 / reduction

    def make(setting: Setting) -> Continues:
        reached: dict[int, list[float]] = defaultdict(list)

        def continues(trial: Trial, trials: Sequence[Trial]) -> bool:
            epochs, score = len(trial.seen), trial.seen[-1]
            if epochs not in rungs:
                return True
            rivals = reached[epochs]
            survives = not rivals or score >= quantile(rivals, share)
            insort(rivals, score)
            return survives

        return continues

    return make


def quantile(ordered: Sequence[float], share: float) -> float:
    """Returns the quantile of ascending numbers, between its two neighbours."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
