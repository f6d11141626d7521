"""Stores what the first layers of a frozen backbone make of a table's texts, so that they are computed once.

A file per backbone, table, depth and precision, memory-mapped by every process of the machine. A file is written whole,
is known by what went into it, and carries a checksum.
"""

import hashlib
import logging
import zlib
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from krona_tune.data.batches import Batch, Ints, lengths
from krona_tune.study.atomic_write import atomic_path

logger = logging.getLogger(__name__)

NAME, CHECKSUM = "hidden_states", "crc32"
"""The tensor of a file, and the key of its checksum."""


Part = tuple[Ints, Tensor]
"""Some rows of a table, and their states (n, at least their tokens, width)."""


@dataclass(frozen=True)
class HiddenStates:
    """The hidden states of a table's rows one after the other: `values` (tokens, width), row i from `starts`[i] on."""

    values: Tensor
    starts: Ints

    def padded(self, batch: Batch) -> Tensor:
        """Returns the states of a batch's rows, (n, length, width), zero where the batch is padded."""
        mask = torch.from_numpy(batch.inputs["attention_mask"].astype(bool))
        columns = np.arange(mask.shape[1])
        places = torch.from_numpy(self.starts[batch.rows][:, None] + columns)
        states = self.values.new_zeros(*mask.shape, self.values.shape[1])
        states[mask] = self.values[places[mask]]
        return states


class HiddenStateStore:
    """The files of one machine in `folder`, together at most `limit` bytes; the least recently used are removed."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit

    def get(self, key: str, table: pa.Table, compute: Callable[[], Generator[Part]]) -> HiddenStates | None:
        """Returns the states of a table, from its file if there is one; None if they take more than the limit.

        Args:
            key: what the states depend on beside the table: the backbone, the depth, the precision.
            compute: gives the states of all rows, some rows at a time.

        Raises:
            OSError: the folder can't be written.
        """
        counts = lengths(table)
        ends = np.cumsum(counts)
        path = self._folder / f"{_digest(key, table)}.safetensors"
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            values = _read(path)
            if values is None:
                values = self._gathered(compute(), counts, ends)
                if values is None:
                    return None
                self._make_room(values.nbytes)
                with atomic_path(path) as temporary:
                    save_file({NAME: values}, temporary, {CHECKSUM: _checksum(values)})
        path.touch()
        return HiddenStates(values, ends - counts)

    def _gathered(self, parts: Generator[Part], counts: Ints, ends: Ints) -> Tensor | None:
        values: Tensor | None = None
        with closing(parts):
            for rows, states in parts:
                values = states.new_empty(int(ends[-1]), states.shape[-1]) if values is None else values
                if values.nbytes > self._limit:
                    return None
                for row, each in zip(rows, states, strict=True):
                    values[ends[row] - counts[row] : ends[row]] = each[: counts[row]]
        return values

    def _make_room(self, size: int) -> None:
        files = sorted(self._folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime)
        kept = sum(path.stat().st_size for path in files)
        for path in files:
            if kept + size <= self._limit:
                return
            kept -= path.stat().st_size
            path.unlink(missing_ok=True)


def _digest(key: str, table: pa.Table) -> str:
    """Returns the name of the states of a table's inputs under a key."""
    found = hashlib.blake2b(key.encode(), digest_size=20)
    for name in sorted(set(table.column_names) - {"label"}):
        found.update(name.encode())
        for chunk in table[name].chunks:
            found.update(chunk.flatten().to_numpy().tobytes())
            found.update(chunk.value_lengths().to_numpy().tobytes())
    return found.hexdigest()


def _read(path: Path) -> Tensor | None:
    """Returns the mapped states; None if there are none or the file is damaged."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            values: Tensor = file.get_tensor(NAME)
            if file.metadata()[CHECKSUM] == _checksum(values):
                return values
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        logger.warning("%s can't be read (%s) and is made again", path, error)
        return None
    logger.warning("%s is damaged and is made again", path)
    return None


def _checksum(values: Tensor) -> str:
    return str(zlib.crc32(values.contiguous().view(torch.uint8).numpy().data))
