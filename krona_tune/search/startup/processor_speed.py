"""Measures how fast a core of this processor multiplies matrices, once, and keeps it for later plans."""

import json
import time
from contextlib import suppress
from hashlib import sha256

import numpy as np

from krona_tune.atomic_write import write_atomically
from krona_tune.machine import busy, cache_folder
from krona_tune.processor import this_processor

SIDE, PRODUCTS, ROUNDS = 64, 500, 9
"""Square matrices so small that one thread multiplies them, how often in one timed round, and the rounds."""


def core_speed() -> float:
    """Returns the multiplications and additions that a core does in a second of its own time, in float32.

    What was measured on a processor of this name is kept in the cache folder, so that two plans of one study are equal;
    on a busy machine it is not kept.
    """
    processor = this_processor()
    key = json.dumps([processor.name, processor.instructions, np.__version__, SIDE])
    path = cache_folder() / "processors" / f"{sha256(key.encode()).hexdigest()[:32]}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        if (kept := float(json.loads(path.read_bytes())["core_speed"])) > 0:
            return kept
    measured = _measure()
    if not busy():
        with suppress(OSError):  # where nothing can be kept, each plan measures
            path.parent.mkdir(parents=True, exist_ok=True)
            what = {"processor": processor.name, "core_speed": measured}
            write_atomically(path, json.dumps(what), lasting=False)
    return measured


def _measure() -> float:
    left, right, out = (np.ones((SIDE, SIDE), np.float32) for _ in range(3))
    times: list[float] = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        for _ in range(PRODUCTS):
            np.matmul(left, right, out=out)
        times.append(time.thread_time() - began)
    return 2 * SIDE**3 * PRODUCTS / min(times)
