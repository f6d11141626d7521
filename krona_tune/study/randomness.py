"""Derives from one seed a separate random stream for each use, so that no use affects another."""

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

RESAMPLES = 500
"""How often a part's examples are drawn again, to see how much a score varies with them."""


def stream(seed: int, *address: str | int) -> int:
    """Returns a seed of 63 bits for one use, such as `stream(seed, "data order", epoch)`; equal on every machine."""
    text = "/".join(map(str, (seed, *address)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def drawn_rows(task: str, examples: int, draws: int = RESAMPLES) -> Iterator[npt.NDArray[np.int64]]:
    """Yields `draws` times as many rows as a part has examples, drawn with replacement: the same for all trials."""
    draw = np.random.default_rng(stream(0, "resampled examples", task))
    for _ in range(draws):
        yield draw.integers(0, examples, examples)
