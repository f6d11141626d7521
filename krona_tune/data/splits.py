"""Names the three parts of a task's data, and takes some of their rows."""

import numpy as np
import pyarrow as pa

PARTS = ("train", "validation", "test")


def subsample(parts: dict[str, pa.Table], wanted: dict[str, int | None], seed: int) -> dict[str, pa.Table]:
    """Returns at most `wanted` rows of each part, by its own permutation; fewer rows are a prefix of more rows."""
    return {part: _some(table, wanted[part], [seed, PARTS.index(part)]) for part, table in parts.items()}


def _some(table: pa.Table, examples: int | None, seed: list[int]) -> pa.Table:
    if examples is None or examples >= table.num_rows:
        return table
    return table.take(np.random.default_rng(seed).permutation(table.num_rows)[:examples])
