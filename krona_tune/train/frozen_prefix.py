"""Starts a model above the layers that no trained parameter precedes, from hidden states that are computed once."""

import hashlib
import json
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import pyarrow as pa
import torch
from torch import Tensor, nn
from transformers import __version__ as version

from krona_tune.adapters.placement import frozen_layers
from krona_tune.data.batches import Batch, evaluation_batches
from krona_tune.study.request.trial import TrialConfig
from krona_tune.train.backbone import Backbone
from krona_tune.train.dropout import dropouts
from krona_tune.train.evaluate import EVALUATION_TOKENS, to_device
from krona_tune.train.hidden_states import HiddenStates, HiddenStateStore, Part

LAYER_TYPES = "layer_types"
FORMAT = 1
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

    None are if a trained parameter or dropout acts in or below them, if the model is a DeBERTa whose convolution
    belongs to its first layer, or if its layers attend in several ways, by their number.
    """
    if len(set(getattr(backbone.config, LAYER_TYPES, None) or ())) > 1:
        return 0
    own, everywhere = trial.training.dropout, trial.training.dropout_layers == "all"
    acts = any(dropouts(backbone.base).values()) if own is None else own > 0
    if (acts and everywhere) or getattr(_layers(backbone)[0], "conv", None) is not None:
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

    handle = getattr(encoder, name)[depth - 1].register_forward_hook(stop)
    base = backbone.base.get_submodule("encoder") if backbone.geometry.is_encoder_decoder else backbone.base
    backbone.base.eval()
    try:
        with torch.no_grad(), backbone.device.autocast():
            for batch in evaluation_batches(table, EVALUATION_TOKENS[backbone.device.kind], pad_token_id):
                try:
                    base(**to_device(batch, backbone.device)[0])
                except _Found:
                    yield batch.rows, found[0].cpu()
    finally:
        handle.remove()


def open_states(
    backbone: Backbone, depth: int, tables: Sequence[pa.Table], pad_token_id: int, store: HiddenStateStore
) -> dict[int, HiddenStates] | None:
    """Returns each table's states by its id, computed unless they are stored; None if they exceed the store's limit."""
    device = backbone.device
    key = f"{FORMAT} {_hash_of(backbone)} {depth} {device.kind} {device.dtype} {torch.__version__} {version}"
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
    first = backbone.geometry.first_stack
    site = next(site for site in backbone.geometry.sites if site.stack is first)
    holder, _, name = site.layer_name.rpartition(".")[0].rpartition(".")
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
