"""Measures the share of padding in the computation, by task: python -m tests.benchmarks.peer.padding DATA

Takes krona_tune's training batches of 32 and evaluation batches; for comparison, random batches of 32, each padded to
its longest row.
"""

import sys

import numpy as np

from krona_tune.data.batches import Ints, evaluation_order, lengths, training_order
from krona_tune.search.pace import Load
from krona_tune.train.evaluate import EVALUATION_TOKENS
from tests.benchmarks.peer.workers import work_of

TASKS = ("cola", "mrpc", "rte", "sst2", "stsb", "wnli")
BATCH = 32


def main(data: str) -> None:
    """Prints the table."""
    print("padding, %    train  evaluation  at random")
    for task in TASKS:
        work = work_of(task, data, train=None, validation=None)
        rng = np.random.default_rng(0)
        train, validation = lengths(work.train), lengths(work.validation)
        at_random = np.array_split(rng.permutation(len(train)), -(-len(train) // BATCH))
        shares = [
            share(training_order(train, BATCH, rng), train),
            share(list(evaluation_order(validation, EVALUATION_TOKENS["cpu"])), validation),
            share(at_random, train),
        ]
        print(f"{task:<12}" + "".join(f"{100 * each:8.1f}" for each in shares))


def share(batches: list[Ints], lengths: Ints) -> float:
    """Returns the share of padding in these batches of rows with these lengths."""
    return 1 - int(lengths.sum()) / Load.of(batches, lengths).tokens


if __name__ == "__main__":
    main(*sys.argv[1:])
