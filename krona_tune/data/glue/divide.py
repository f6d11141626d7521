"""Divides GLUE's official splits into train, validation and test, the same for every seed of a study."""

import numpy as np
import pyarrow as pa

from krona_tune.data.glue.files import FILES, Split
from krona_tune.data.tasks import Task
from krona_tune.refusal import Refusal

PERMUTATION_SEED = 42
HELD_OUT_EXAMPLES = 1_000


def divide(task: Task, train: pa.Table, dev: tuple[pa.Table, ...]) -> dict[str, pa.Table]:
    """Returns train, validation and test, as its row of `files` says; no row is in two of them.

    The permutation is numpy's `default_rng(42)`; Compacter's code takes torch's generator with seed 42, so the protocol
    is the same but the rows are not. Of an odd set, validation has the smaller half. A training set below 2,000 rows
    holds out half of itself instead of 1,000 rows. Raises a Refusal if a set is too small to be divided.
    """
    match FILES[task.name].split:
        case Split.HALVED:
            validation, test = _cut(task, dev[0], dev[0].num_rows // 2)
            return {"train": train, "validation": validation, "test": test}
        case Split.HELD_OUT:
            validation, rest = _cut(task, train, min(HELD_OUT_EXAMPLES, train.num_rows // 2))
            return {"train": rest, "validation": validation, "test": dev[0]}
        case Split.TWO_DEV:
            validation, test = dev
            return {"train": train, "validation": validation, "test": test}


def _cut(task: Task, table: pa.Table, first: int) -> tuple[pa.Table, pa.Table]:
    """Returns two tables of a permuted `table`: the first has `first` rows."""
    if not first:
        raise Refusal(task.title, f"{table.num_rows} row is too few to be divided", "give at least 2 in each file")
    order = np.random.default_rng(PERMUTATION_SEED).permutation(table.num_rows)
    return table.take(order[:first]), table.take(order[first:])
