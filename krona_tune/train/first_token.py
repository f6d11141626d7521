"""Lets maps of an encoder's last layer compute the first token alone, where a head reads no other."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from krona_tune.backbones.geometry import Role


class FirstTokenOnly:
    """Maps of a base model that compute the first token of each text and give zeros for the others, until `close`.

    A feed-forward block is computed of that token as a whole. Make it after the adapters: what hooks add to these maps
    is then computed of the first token, too. With those of `krona_tune.adapters.first_token_maps` the logits and their
    gradients change by rounding alone, if what is added to a token's output depends on that token.

    Args:
        base: the base model.
        maps: the maps' names in it, with their roles.
    """

    def __init__(self, base: nn.Module, maps: Mapping[str, Role]) -> None:
        self._handles: list[Any] = []
        self._length = 1
        for module, role in [(base.get_submodule(name), role) for name, role in maps.items()]:
            self._hook(module, role)

    def _hook(self, module: nn.Module, role: Role) -> None:
        def take(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            if role is not Role.FEED_FORWARD_OUT:  # what enters that is one token long
                self._length = inputs[0].shape[1]
            return _take(inputs[0]), *inputs[1:]

        def spread(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
            return _spread(output, self._length)

        self._handles.append(module.register_forward_pre_hook(take, prepend=True))
        if role is not Role.FEED_FORWARD_IN:
            self._handles.append(module.register_forward_hook(spread))

    def close(self) -> None:
        """Lets the maps compute every token again. A second call does nothing."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


class _Take(Function):
    """Maps (n, length, width) to the first token's (n, 1, width), contiguous: products of others take twice as long."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.length = values.shape[1]
        return values[:, :1].contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _padded(gradients[0], ctx.length)


class _Spread(Function):
    """Maps (n, 1, width) to (n, length, width), with zeros behind the first token."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, length: int) -> Tensor:
        return _padded(values, length)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0][:, :1].contiguous(), None


def _padded(values: Tensor, length: int) -> Tensor:
    return functional.pad(values, (0, 0, 0, length - 1))


_take: Callable[[Tensor], Tensor] = _Take.apply
_spread: Callable[[Tensor, int], Tensor] = _Spread.apply
