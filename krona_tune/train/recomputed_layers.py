"""Makes a model's layers keep only what enters them, and compute the rest again in the backward pass."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from torch import is_grad_enabled, nn
from torch.utils.checkpoint import checkpoint


class RecomputedLayers:
    """The layers' forwards under torch's activation checkpointing, until `close`. Their hooks are recomputed too."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        self._layers = list(layers)
        for layer in self._layers:
            layer.forward = partial(_recomputed, layer.forward)

    def close(self) -> None:
        """Restores the forward of each layer's class. A second call does nothing."""
        for layer in self._layers:
            vars(layer).pop("forward", None)
        self._layers = []


def _recomputed(forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    if not is_grad_enabled():
        return forward(*inputs, **named)
    return checkpoint(forward, *inputs, use_reentrant=False, **named)
