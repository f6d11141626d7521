"""Computes the seconds of steps of any size from those of a few."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from krona_tune.study.request.domain import Domain, Range

if TYPE_CHECKING:
    from krona_tune.train.step_times import StepTime

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Load:
    """The load of batches: their number, their padded tokens, and the squared padded lengths, summed over rows."""

    steps: int
    tokens: int
    pairs: int

    @classmethod
    def of(cls, batches: Iterable[Ints], lengths: Ints) -> "Load":
        """Returns the load of batches, each an array of row numbers, given the length of every row."""
        sizes = np.array([(len(rows), max(1, lengths[rows].max())) for rows in batches], dtype=np.int64)
        rows, longest = sizes.reshape(-1, 2).T
        return cls(steps=len(sizes), tokens=int(rows @ longest), pairs=int(rows @ longest**2))


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds per training step whatever its size, per padded token, and per pair of tokens."""

    step: float
    token: float
    pair: float

    def seconds(self, load: Load) -> float:
        return self.step * load.steps + self.token * load.tokens + self.pair * load.pairs

    @classmethod
    def of(cls, timed: Iterable["StepTime"], longer: float = 1.0) -> "Pace":
        """Returns the pace that best fits the timed steps if each takes so many times longer, with no part negative."""
        from scipy.optimize import nnls

        steps = list(timed)
        seconds = longer * np.array([step.seconds for step in steps])
        loads = np.array([(1, step.rows * step.length, step.rows * step.length**2) for step in steps], dtype=float)
        step, token, pair = nnls(loads / seconds[:, None], np.ones(len(steps)))[0]  # minimises relative errors
        return cls(step=float(step), token=float(token), pair=float(pair))


def middle(domain: Domain) -> float:
    """Returns the middle of a range on its own scale (linear or log), or the median of the other domains' values."""
    match domain:
        case Range(low, high, log=True):
            return sqrt(low) * sqrt(high)
        case Range(low, high):
            return low + (high - low) / 2
        case _:
            return float(median(map(float, domain.ends())))
