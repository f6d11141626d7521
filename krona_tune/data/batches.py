"""Makes batches with little padding: rows of similar length together, every row once. numpy only."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

POOL_BATCHES = 50
"""Batches in a random pool, which is sorted by length: more of them mean less padding, fewer mean more mixing."""

PADDING, FREE = 0.1, 1 / 64
"""The share of an evaluation batch that may be padding; and the share of a full batch that may be padding in any case,
because it costs no more than another batch does."""

TARGET = "target_ids"
"""The column of the targets' tokens, of a task whose answers are texts."""
NO_TOKEN = -100
"""Stands in targets where there is no token; torch's losses leave it out."""
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """`inputs`: `input_ids`, `attention_mask` and, if the table has it, `token_type_ids`, int64 (n, length).

    `labels` (n,) int64 or float64; if the table has `target_ids`, these, int64 (n, tokens), `NO_TOKEN` where they are
    padded. `rows` (n,): which rows of the table these are.
    """

    inputs: dict[str, npt.NDArray[np.int64]]
    labels: npt.NDArray[Any]
    rows: Ints

    def parts(self, count: int) -> Iterator["Batch"]:
        """Yields the batch in that many parts of nearly equal size, or one row each; they are padded as the whole."""
        for rows in np.array_split(np.arange(len(self.rows)), min(count, len(self.rows))):
            inputs = {name: values[rows] for name, values in self.inputs.items()}
            yield Batch(inputs=inputs, labels=self.labels[rows], rows=self.rows[rows])


def training_batches(
    table: pa.Table, batch_size: int, rng: np.random.Generator, pad_token_id: int, *, at: int = 0
) -> Iterator[Batch]:
    """Returns the batches of one epoch, every row once, from batch number `at` on.

    This call draws the order from `rng`, before the first batch is asked for: an epoch that is resumed at `at` with the
    same generator continues with the same batches. Only the last batch may be smaller.
    """
    sequences = _Sequences(table, pad_token_id)
    order = training_order(lengths(table), batch_size, rng)
    return map(sequences.batch, order[at:])


def evaluation_batches(
    table: pa.Table, tokens_per_batch: int, pad_token_id: int, new_tokens: int | None = None
) -> Iterator[Batch]:
    """Returns every row once, the longest first, as many per batch as fit in `tokens_per_batch` padded tokens, or one.

    A batch ends earlier if it would have more padding than `PADDING` and `FREE` allow. With `new_tokens` each input
    counts with as many tokens to generate, not with its target.
    """
    sequences = _Sequences(table, pad_token_id)
    counted = lengths(table) if new_tokens is None else input_lengths(table) + new_tokens
    return map(sequences.batch, evaluation_order(counted, tokens_per_batch))


def training_order(lengths: Ints, batch_size: int, rng: np.random.Generator) -> list[Ints]:
    """Returns the rows of each batch of an epoch, for rows of `lengths` (n,).

    A permutation is cut into pools, a pool is sorted by length and cut into batches, and the batches are shuffled. The
    rows that do not fill a batch come last; they are taken out of the last pool at a random place, so that no length is
    favoured there.
    """
    permutation = rng.permutation(len(lengths))
    pool_size = POOL_BATCHES * batch_size
    pools = [permutation[start : start + pool_size] for start in range(0, len(permutation), pool_size)]
    by_length = [pool[np.argsort(lengths[pool], kind="stable")] for pool in pools]
    rest: list[Ints] = []
    if surplus := len(permutation) % batch_size:
        last = by_length.pop()
        start = batch_size * int(rng.integers(len(last) // batch_size + 1))
        rest.append(last[start : start + surplus])
        by_length.append(np.delete(last, np.s_[start : start + surplus]))
    batches = [pool[start : start + batch_size] for pool in by_length for start in range(0, len(pool), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))] + rest


def evaluation_order(lengths: Ints, tokens_per_batch: int) -> Iterator[Ints]:
    """Yields the rows of each batch, for rows of `lengths` (n,)."""
    order = np.argsort(-lengths, kind="stable")
    descending = lengths[order]
    before = np.concatenate([[0], np.cumsum(descending)])
    start = 0
    while start < len(order):
        longest = max(1, int(descending[start]))
        rows = np.arange(1, 1 + max(1, min(tokens_per_batch // longest, len(order) - start)))
        padding = rows * longest - (before[start + rows] - before[start])
        allowed = np.maximum(PADDING * rows * longest, FREE * tokens_per_batch)
        size = int(rows[padding <= allowed].max(initial=1))
        yield order[start : start + size]
        start += size


def lengths(table: pa.Table) -> Ints:
    """Returns the number of tokens of each row, (n,): of its input and, if it has one, of its target."""
    return input_lengths(table) + (target_lengths(table) if TARGET in table.column_names else 0)


def input_lengths(table: pa.Table) -> Ints:
    """Returns the number of tokens of each row's input, (n,)."""
    return np.asarray(pc.list_value_length(table["input_ids"]), np.int64)


def target_lengths(table: pa.Table) -> Ints:
    """Returns the number of tokens of each row's target, (n,)."""
    return np.asarray(pc.list_value_length(table[TARGET]), np.int64)


class _Sequences:
    """The table's buffers as numpy arrays, without a copy if the table is one chunk."""

    def __init__(self, table: pa.Table, pad_token_id: int) -> None:
        names = [name for name in ("input_ids", "token_type_ids", TARGET) if name in table.column_names]
        columns = {name: _one_chunk(table[name]) for name in names}
        # The offsets of a sliced list array do not start at zero: they count in all of its values.
        self.offsets = {name: column.offsets.to_numpy() for name, column in columns.items()}
        self.values = {name: column.values.to_numpy() for name, column in columns.items()}
        self.fill = {"input_ids": pad_token_id, "token_type_ids": 0, TARGET: NO_TOKEN}
        self.labels = None if TARGET in names else table["label"].to_numpy()

    def batch(self, rows: Ints) -> Batch:
        padded = {name: self._padded(name, rows) for name in self.values}
        labels = padded.pop(TARGET)[0] if self.labels is None else self.labels[rows]
        inputs = {name: values for name, (values, _) in padded.items()}
        mask = padded["input_ids"][1].astype(np.int64)
        return Batch(inputs={**inputs, "attention_mask": mask}, labels=labels, rows=rows)

    def _padded(self, name: str, rows: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Returns the rows' values, (n, the longest), and where they are; elsewhere is the fill value."""
        starts = self.offsets[name][rows]
        lengths = self.offsets[name][rows + 1] - starts
        columns = np.arange(max(1, lengths.max()))
        mask = columns < lengths[:, None]
        padded = np.full(mask.shape, self.fill[name], dtype=np.int64)
        positions = starts[:, None] + columns
        padded[mask] = self.values[name][positions[mask]]
        return padded, mask


def _one_chunk(column: pa.ChunkedArray) -> pa.ListArray:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
