"""Times one encoder layer on this processor, by which what a model's steps take is foretold before it is loaded."""

import time

import torch
from torch.nn import functional

from krona_tune.processor import torch_threads
from krona_tune.train.shortest_time import shortest_time

SIZES = ((64, 1, 2), (384, 32, 16), (384, 2, 512), (768, 16, 64))
"""(features, rows, tokens per row): the first shows what calls cost, the others maps, and attention over long rows."""
REPEATS, PATIENCE_SECONDS = 3, 0.1
HEAD = 32
"""The features of an attention head."""


def time_layers(bfloat16: bool) -> list[tuple[int, int, int, bool, float]]:
    """Returns (features, rows, tokens, backward, seconds) of each size, forward alone and with its backward pass.

    One thread computes, and its own clock is read, which stands while others have its processor.

    Args:
        bfloat16: whether it computes in that precision, else in float32.
    """
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    with torch_threads(1):
        return [(*size, backward, _seconds(*size, dtype, backward)) for size in SIZES for backward in (False, True)]


def _seconds(width: int, rows: int, length: int, dtype: torch.dtype, backward: bool) -> float:
    """Returns the shortest time of several passes."""
    attention = [torch.full((width, width), 1 / width, dtype=dtype) for _ in range(4)]
    wider, narrower = (torch.full(shape, 1 / width, dtype=dtype) for shape in ((4 * width, width), (width, 4 * width)))
    inputs = torch.linspace(-1, 1, rows * length * width).view(rows, length, width).to(dtype).requires_grad_(backward)

    def once() -> None:
        with torch.set_grad_enabled(backward):
            parts = [functional.linear(inputs, each).view(rows, length, -1, HEAD) for each in attention[:3]]
            query, key, value = (part.transpose(1, 2) for part in parts)
            mixed = functional.scaled_dot_product_attention(query, key, value)
            mixed = functional.linear(mixed.transpose(1, 2).reshape(inputs.shape), attention[3])
            middle = functional.layer_norm(inputs + mixed, (width,))
            inner = functional.gelu(functional.linear(middle, wider))
            outputs = functional.layer_norm(middle + functional.linear(inner, narrower), (width,))
            if backward:
                torch.autograd.grad(outputs.sum(), inputs)

    return shortest_time(once, repeats=REPEATS, patience=PATIENCE_SECONDS, clock=time.thread_time)
