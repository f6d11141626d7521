"""Computes what the first layers of a frozen backbone make of a table's texts once, and starts the model above them.

A file per backbone, table, depth and precision, memory-mapped by every process of the machine. A file is written whole,
is known by what went into it, and carries a checksum.
"""

import hashlib
import json
import logging
import os
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import Any, Self
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import __version__ as version

from krona_tune.adapters.placement import frozen_layers, why_nothing_is_stored
from krona_tune.atomic_write import atomic_path
from krona_tune.data.batches import TARGET, Batch, Ints, evaluation_batches, input_lengths
from krona_tune.machine import cache_folder
from krona_tune.study.request.trial import TrialConfig, dropout_acts_below
from krona_tune.train.backbone import Backbone, dropouts
from krona_tune.train.evaluate import EVALUATION_TOKENS, in_parts, to_device

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
    """Counts the bytes of the states of tables: `width` numbers of `itemsize` bytes for each token."""
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

    @classmethod
    def of_this_machine(cls, limit: int) -> Self | None:
        """Returns that in this machine's cache folder; None if nothing may be stored."""
        return cls(cache_folder() / "hidden_states", limit) if limit else None

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


STATES_FORMAT = 1
"""Part of the files' names: raise it when the states' meaning changes."""
EMBEDDINGS = ("embeddings", "embeddings_project", "encoder.embed_tokens", "embed_tokens")
"""The modules below the first layer, by their names in the base model."""


class FrozenPrefix:
    """The first `depth` layers and embeddings of an encoder or a decoder, replaced by what they gave for each batch.

    `enter` names the batch of the next forwards. `close` gives the model its own layers back.
    """

    def __init__(self, backbone: Backbone, depth: int, states: dict[int, HiddenStates]) -> None:
        self._states, self._device, self._entered = states, backbone.device.kind, torch.empty(0)
        self._encoder, self._name = _layers(backbone)
        self._layers: nn.ModuleList = getattr(self._encoder, self._name)
        self._embeddings = _embeddings(backbone.base)
        above = self._layers[depth:]
        left = nn.ModuleList([*_stand_in(self._layers, above), *above])
        for module in self._embeddings:
            module.forward = self._give
        setattr(self._encoder, self._name, left)

    def enter(self, table: pa.Table, batch: Batch) -> None:
        """Takes the states of a batch of a stored table."""
        self._entered = self._states[id(table)].padded(batch).to(self._device)

    def close(self) -> None:
        """Puts the model's own layers back. A second call does nothing."""
        setattr(self._encoder, self._name, self._layers)
        for module in self._embeddings:
            vars(module).pop("forward", None)
        self._entered = torch.empty(0)

    def _give(self, *_: Any, **__: Any) -> Tensor:
        return self._entered


class _NoLayer(nn.Module):
    """Stands for the layers of a DeBERTa, which needs one and takes two outputs from it."""

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
        return hidden, None


class _PositionBias(nn.Module):
    """Stands for a T5's first block, whose attention alone knows the position bias that all blocks use."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.attention: Any = block.get_submodule("layer.0.SelfAttention")

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor, None]:
        length = hidden.shape[1]
        return hidden, self.attention.compute_bias(length, length, device=hidden.device), None


def skipped_layers(backbone: Backbone, trial: TrialConfig) -> int:
    """Returns the number of the first layers whose outputs are the same in every epoch of the trial.

    None are if a trained parameter or dropout acts in or below them, or if its model's layers can't be left out.
    """
    knobs, of_model = trial.training, any(dropouts(backbone.base).values())
    acts = dropout_acts_below(knobs.dropout, knobs.dropout_layers, of_model=of_model)
    if acts or why_nothing_is_stored(backbone.geometry, backbone.config.to_dict()):
        return 0
    return frozen_layers(backbone.geometry, trial.adapter)


def compute_states(backbone: Backbone, depth: int, table: pa.Table, pad_token_id: int) -> Generator[Part]:
    """Returns rows of the table, and what enters layer number `depth` for them, (n, length, width) on the CPU.

    No adapter may act on the backbone.
    """
    encoder, name = _layers(backbone)
    assert not any("forward" in vars(module) for module in _embeddings(backbone.base)), (
        "a prefix stands on the backbone"
    )
    found: list[Tensor] = []

    def stop(_: nn.Module, __: Any, output: Any) -> None:
        found[:] = [output if isinstance(output, Tensor) else output[0]]
        raise _Found

    def entering(batch: Batch) -> Tensor:
        with suppress(_Found):
            base(**to_device(batch, backbone.device)[0])
        return found.pop().cpu()

    handle = getattr(encoder, name)[depth - 1].register_forward_hook(stop)
    base = backbone.base.get_submodule("encoder") if backbone.geometry.is_encoder_decoder else backbone.base
    backbone.base.eval()
    try:
        with torch.no_grad(), backbone.device.autocast():
            for batch in evaluation_batches(table, EVALUATION_TOKENS[backbone.device.kind], pad_token_id):
                for part, values in in_parts(batch, entering):
                    yield part.rows, values
    finally:
        handle.remove()


def open_states(
    backbone: Backbone, depth: int, tables: Sequence[pa.Table], pad_token_id: int, store: HiddenStateStore
) -> dict[int, HiddenStates] | None:
    """Returns each table's states by its id, computed unless they are stored; None if they exceed the store's limit."""
    device = backbone.device
    key = f"{STATES_FORMAT} {_hash_of(backbone)} {depth} {device.kind} {device.dtype} {torch.__version__} {version}"
    compute = partial(compute_states, backbone, depth, pad_token_id=pad_token_id)
    states = store.get(key, tables, backbone.geometry.width, device.dtype, compute)
    return None if states is None else dict(zip(map(id, tables), states, strict=True))


_HASHES: "WeakKeyDictionary[nn.Module, str]" = WeakKeyDictionary()
"""The hash of each backbone of this process, which never changes."""


def _hash_of(backbone: Backbone) -> str:
    """Returns a hash of all weights and of the config: a fingerprint knows only weights that can carry an adapter."""
    base = backbone.base
    if base not in _HASHES:
        config = {name: value for name, value in backbone.config.to_dict().items() if name != "_name_or_path"}
        found = hashlib.blake2b(json.dumps(config, sort_keys=True, default=str).encode(), digest_size=20)
        for name, tensor in (*base.named_parameters(), *base.named_buffers()):
            found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        _HASHES[base] = found.hexdigest()
    return _HASHES[base]


class _Found(Exception):
    """The layer was reached."""


def _layers(backbone: Backbone) -> tuple[nn.Module, str]:
    """Returns the module that holds the encoder's layers, and their name in it."""
    first, *_ = backbone.geometry.layers_of(backbone.geometry.first_stack)
    holder, _, name = first.rpartition(".")[0].rpartition(".")
    return backbone.base.get_submodule(holder), name


def _embeddings(base: nn.Module) -> list[nn.Module]:
    modules = dict(base.named_modules())
    return [modules[name] for name in EMBEDDINGS if name in modules]


def _stand_in(layers: nn.ModuleList, above: nn.ModuleList) -> list[nn.Module]:
    """Returns what must stand in the place of the layers that are left out, below those above."""
    if len(above):
        attention: Any = dict(above[0].named_modules()).get("layer.0.SelfAttention")
        return [] if attention is None or attention.has_relative_attention_bias else [_PositionBias(layers[0])]
    return [_NoLayer()] if type(layers[0]).__name__.startswith("Deberta") else []
