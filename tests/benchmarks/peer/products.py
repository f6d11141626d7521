"""Measures what a trial's matrix products alone take at this processor's speed: the least that any program needs.

python -m tests.benchmarks.peer.products DATA

Counts the products of one trial of the case rte with all layers adapted, forward and backward through frozen weights on
krona_tune's own padded batches, and times products of the same shapes in two processes at once, one thread each.
"""

import multiprocessing
import sys
import time

import numpy as np
import torch
from torch.nn import functional

from krona_tune.data.batches import evaluation_order, lengths, training_order
from krona_tune.search.pace import Load
from krona_tune.train.evaluate import EVALUATION_TOKENS
from tests.benchmarks.peer.case import CASES, LAYERS, TRIALS_AT_ONCE
from tests.benchmarks.peer.workers import work_of

WIDTH, INNER, SECONDS, TOKENS = 384, 1536, 6.0, 2048
PER_TOKEN = LAYERS * 2 * (4 * WIDTH * WIDTH + 2 * WIDTH * INNER)
"""Operations of the linear maps for one token, forward; the backward pass to their inputs takes as many."""


def rate(dtype: str) -> float:
    """Returns the operations a second of the feed-forward maps' products on one thread."""
    torch.set_num_threads(1)
    x = torch.randn(TOKENS, WIDTH, dtype=getattr(torch, dtype))
    widens, narrows = (torch.randn(*shape, dtype=x.dtype) for shape in ((INNER, WIDTH), (WIDTH, INNER)))
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        functional.linear(functional.linear(x, widens), narrows)
        count += 1
    return count * 4 * TOKENS * WIDTH * INNER / (time.perf_counter() - began)


def operations(data: str) -> float:
    """Returns the operations of one trial: training forward and backward, evaluation forward."""
    case = CASES["rte"]
    work = work_of(case.task, data, train=case.train_examples, validation=None)
    train, validation = lengths(work.train), lengths(work.validation)
    rng = np.random.default_rng(0)
    trained = sum(Load.of(training_order(train, case.batch_size, rng), train).tokens for _ in range(case.epochs))
    judged = case.epochs * Load.of(list(evaluation_order(validation, EVALUATION_TOKENS["cpu"])), validation).tokens
    return PER_TOKEN * (2 * trained + judged)


def main(data: str) -> None:
    """Prints the least seconds of a trial in each precision."""
    needed = operations(data)
    for dtype in ("float32", "bfloat16"):
        with multiprocessing.get_context("spawn").Pool(TRIALS_AT_ONCE) as pool:
            found = pool.map(rate, [dtype] * TRIALS_AT_ONCE)
        speed = sum(found) / len(found)
        print(
            f"{dtype}: {needed / 1e12:.2f} T operations at {speed / 1e9:.0f} G a second: {needed / speed:.1f} s a trial"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
