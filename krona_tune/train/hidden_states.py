"""Stores what the first layers of a frozen backbone make of a table's texts, so that they are computed once.

A file per backbone, table, depth and precision, memory-mapped by every process of the machine. A file is written whole,
is known by what went into it, and carries a checksum.
"""

import hashlib
import logging
import os
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

import numpy as np
import pyarrow as pa
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from krona_tune.atomic_write import atomic_path
from krona_tune.data.batches import TARGET, Batch, Ints, input_lengths

logger = logging.getLogger(__name__)

NAME, CHECKSUM, OF = "hidden_states", "crc32", "of"
"""The tensor of a file, the key of its checksum, and that of the name that it was written under."""
FAILURES = (OSError, SafetensorError)
"""What a full or unwritable disk raises."""
SAID_SECONDS, PATIENCE_SECONDS = 10.0, 600.0
"""How long a process waits for another one before it says so, and before it computes the states itself: longer than
states take to compute, because each process that computes them needs memory for them."""
Part = tuple[Ints, Tensor]
"""Some rows of a table, and their states (n, at least their tokens, width)."""
Compute = Callable[[pa.Table], Generator[Part]]
"""Gives the states of all rows of a table, some rows at a time."""


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


def stored_bytes(tables: Sequence[pa.Table], width: int, itemsize: int) -> int:
    """Returns the bytes that the states of tables take."""
    return sum(int(input_lengths(table).sum()) for table in tables) * width * itemsize


@dataclass(frozen=True)
class Gather:
    """Computes the states of all rows of a table, without padding: (tokens, width)."""

    compute: Compute
    table: pa.Table
    width: int
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int, int]:
        return int(input_lengths(self.table).sum()), self.width

    def __call__(self) -> Tensor:
        counts = input_lengths(self.table)
        ends = np.cumsum(counts)
        values = torch.empty(self.shape, dtype=self.dtype)
        for rows, states in self.compute(self.table):
            for row, each in zip(rows, states, strict=True):
                values[ends[row] - counts[row] : ends[row]] = each[: counts[row]]
        return values


class HiddenStateStore:
    """The files of one machine in `folder`, together at most `limit` bytes; the least recently used are removed."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit

    def get(
        self, key: str, tables: Sequence[pa.Table], width: int, dtype: torch.dtype, compute: Compute
    ) -> list[HiddenStates] | None:
        """Returns the states of tables, from their files if there are some; None if together they exceed the limit.

        States that can't be written are returned in memory, with a warning.

        Args:
            key: what the states depend on beside the table: the backbone, the depth, the precision.
        """
        if stored_bytes(tables, width, dtype.itemsize) > self._limit:
            logger.info("hidden states of %s bytes and more are not stored", f"{self._limit:,}")
            return None
        paths = [self._folder / f"{_digest(key, table)}.safetensors" for table in tables]
        return [
            self._get(path, table, paths, Gather(compute, table, width, dtype))
            for path, table in zip(paths, tables, strict=True)
        ]

    def _get(self, path: Path, table: pa.Table, own: Sequence[Path], gather: Gather) -> HiddenStates:
        counts, values = input_lengths(table), None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with _alone_with(path.with_suffix(".lock")):
                values = _read(path, gather.shape, gather.dtype)
                if values is None:
                    values = gather()
                    self._write(path, values, own)
                    mapped = _read(path, gather.shape, gather.dtype)
                    values = values if mapped is None else mapped
            with suppress(FileNotFoundError):  # another process needed the room
                os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
        except Timeout:
            said = "another process has filled %s for more than %g s; its states are computed here too"
            logger.warning(said, self._folder, PATIENCE_SECONDS)
        except FAILURES as error:
            logger.warning("hidden states can't be stored: %s: %s", type(error).__name__, error)
        return HiddenStates(gather() if values is None else values, np.cumsum(counts) - counts)

    def _write(self, path: Path, values: Tensor, own: Sequence[Path]) -> None:
        with _alone_with(self._folder / ".lock"):
            self._make_room(values.nbytes, own)
            with atomic_path(path, lasting=False) as temporary:
                save_file({NAME: values}, temporary, {CHECKSUM: _checksum(values), OF: path.stem})

    def _make_room(self, size: int, own: Sequence[Path]) -> None:
        """Removes what a killed process left half written, then the least recently used files but the caller's own.

        Their lock files stay: another process may have one of them or wait for it, and a second file of its name would
        be another lock.
        """
        for leftover in self._folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        files = self._files()
        kept = sum(found.st_size for found in files.values())
        for path in sorted(files.keys() - set(own), key=lambda path: files[path].st_atime):
            if kept + size <= self._limit:
                return
            kept -= files[path].st_size
            path.unlink(missing_ok=True)

    def _files(self) -> dict[Path, os.stat_result]:
        """Returns the files that are there now; another process may remove some meanwhile."""
        found = {}
        for path in self._folder.glob("*.safetensors"):
            with suppress(FileNotFoundError):
                found[path] = path.lstat()
        return {path: state for path, state in found.items() if S_ISREG(state.st_mode)}


@contextmanager
def _alone_with(path: Path) -> Iterator[None]:
    """Holds a lock file; says so if another process has it for long. Raises Timeout after PATIENCE_SECONDS."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=SAID_SECONDS)
    except Timeout:
        said = "another process fills %s; it is waited for, at most %g s"
        logger.warning(said, path.with_suffix(""), PATIENCE_SECONDS)
        lock.acquire(timeout=PATIENCE_SECONDS)
    try:
        yield
    finally:
        lock.release()


def _digest(key: str, table: pa.Table) -> str:
    """Returns the name of the states of a table's inputs under a key."""
    found = hashlib.blake2b(key.encode(), digest_size=20)
    for name in sorted(set(table.column_names) - {"label", TARGET}):
        found.update(name.encode())
        for chunk in table[name].chunks:
            found.update(chunk.flatten().to_numpy().tobytes())
            found.update(chunk.value_lengths().to_numpy().tobytes())
    return found.hexdigest()


_VERIFIED: dict[Path, tuple[int, ...]] = {}
"""The inode, size and time of the files whose checksum this process has compared."""


def _read(path: Path, shape: tuple[int, int], dtype: torch.dtype) -> Tensor | None:
    """Returns the mapped states; None if there are none, the file is damaged, or it holds others than its name says."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    if not S_ISREG(found.st_mode):  # opening a pipe would wait for ever
        logger.warning("%s is no file and is replaced", path)
        return None
    with suppress(SafetensorError, KeyError, TypeError, AttributeError), safe_open(path, framework="pt") as file:
        values: Tensor = file.get_tensor(NAME)
        known = (found.st_ino, found.st_size, found.st_mtime_ns)
        of = file.metadata().get(OF, path.stem)  # a file of before has no name
        fits = (of, tuple(values.shape), values.dtype) == (path.stem, shape, dtype)
        if fits and (_VERIFIED.get(path) == known or file.metadata()[CHECKSUM] == _checksum(values)):
            _VERIFIED[path] = known
            return values
    logger.warning("%s is damaged and is made again", path)
    return None


def _checksum(values: Tensor) -> str:
    return str(zlib.crc32(values.contiguous().view(torch.uint8).numpy().data))
