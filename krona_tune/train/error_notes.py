"""Adds the size of a batch to the errors that occur in it."""

from collections.abc import Iterator
from contextlib import contextmanager

from krona_tune.data.batches import Batch


@contextmanager
def noting_batch_shape(batch: Batch) -> Iterator[None]:
    """Adds a note such as `in a batch of 16 × 40 tokens` to any error inside."""
    try:
        yield
    except Exception as error:
        rows, length = batch.inputs["input_ids"].shape
        error.add_note(f"in a batch of {rows} × {length} tokens")
        raise
