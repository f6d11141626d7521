"""Times a 768×768 map on 2,048 tokens, forward and backward: factor shapes, LoRA and PEFT's LoKr over the frozen map.

python -m tests.benchmarks.kron.map [repeats] [float32 | bfloat16]
"""

import statistics
import sys

import peft
import torch
from torch import Tensor, nn

from krona_tune.kron.factors import factor_shape
from krona_tune.kron.product import linear_plus_kron
from tests.benchmarks.kron.timing import Case, conditions, peak_bytes, side_by_side

WIDTH, TOKENS = 768, 2048
SHAPES = (
    (1, 1), (1, 768), (768, 1), (2, 2), (4, 4), (8, 8), (16, 16), (24, 24), (24, 32), (32, 24), (32, 32), (48, 48),
    (96, 96), (192, 192), (384, 384), (768, 768), (16, 64), (64, 16), (4, 192), (192, 4),
)  # fmt: skip
PEERS = {
    "PEFT LoRA r=4": peft.LoraConfig(r=4, lora_alpha=8, target_modules=["map"]),
    "PEFT LoKr 24x24⊗32x32": peft.LoKrConfig(r=WIDTH, alpha=WIDTH, target_modules=["map"]),
}


class Alone(nn.Module):
    """A model of one frozen map."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.map = nn.Linear(WIDTH, WIDTH, dtype=dtype).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.map(x)
        return y


def there_and_back(model: nn.Module, x: Tensor, dy: Tensor) -> Case:
    def case() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=x.dtype == torch.bfloat16):
            y = model(x)
        y.backward(dy)
        x.grad = None
        model.zero_grad()

    return case


class Adapted(Alone):
    """The map with KronA."""

    def __init__(self, dtype: torch.dtype, a_out: int, a_in: int) -> None:
        super().__init__(dtype)
        shape = factor_shape(WIDTH, WIDTH, a_out, a_in)
        self.a = nn.Parameter(torch.randn(shape.a_out, shape.a_in))
        self.b = nn.Parameter(torch.randn(shape.b_out, shape.b_in))

    def forward(self, x: Tensor) -> Tensor:
        return linear_plus_kron(x, self.map.weight, self.map.bias, self.a, self.b, 0.5)


def main(repeats: str = "15", precision: str = "float32") -> None:
    """Prints the table."""
    print(f"{conditions()}, {precision}, median (quartiles) of {repeats} rounds")
    dtype = getattr(torch, precision)
    x, dy = torch.randn(TOKENS, WIDTH, dtype=dtype, requires_grad=True), torch.randn(TOKENS, WIDTH, dtype=dtype)
    models: dict[str, nn.Module] = {"frozen": Alone(dtype)}
    models |= {name: peft.get_peft_model(Alone(dtype), peer) for name, peer in PEERS.items()}
    ours = {str(factor_shape(WIDTH, WIDTH, *a)): Adapted(dtype, *a) for a in SHAPES}
    cases = {name: there_and_back(model, x, dy) for name, model in (models | ours).items()}
    measured = side_by_side(cases, int(repeats))
    for name, ratios in measured.items():
        print(f"{name:24} {ratios}   peak {peak_bytes(cases[name]) / 2**20:6.1f} MiB")
    medians = [measured[name].median for name in ours]
    print(f"KronA, {len(ours)} shapes: median {statistics.median(medians):.2f}, worst {max(medians):.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
