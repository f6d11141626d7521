"""Times a training step with sums of Kronecker products over one with LoRA of as many parameters, by the same hooks.

20 factor shapes beside query and value of the packaged MiniLM, 1 to 8 terms, 32 sentences of 32 tokens.

python -m tests.benchmarks.kron.terms [rounds] [float32 | bfloat16]
"""

import statistics
import sys
from functools import cache

import torch

from krona_tune.adapters.inject import Adapters
from krona_tune.kron.factors import FactorShape
from krona_tune.study.request.trial import AdapterConfig
from krona_tune.train.backbone import Backbone, load_backbone
from krona_tune.train.device import Device
from tests.benchmarks.kron.step import MINILM, PLACES, step
from tests.benchmarks.kron.timing import Case, conditions, side_by_side

WIDTH = 384
SHAPES = (
    (384, 1), (1, 384), (192, 1), (192, 2), (192, 8), (96, 4), (96, 8), (64, 8), (48, 16), (32, 24), (24, 16), (16, 24),
    (16, 16), (8, 8), (4, 4), (2, 2), (8, 48), (2, 192), (96, 48), (48, 96),
)  # fmt: skip
TERMS = (1, 2, 4, 8)


def attached(backbone: Backbone, adapter: AdapterConfig) -> Case:
    """Returns a step in which the adapter stands on the shared backbone."""
    adapters = Adapters(backbone.base, backbone.geometry, adapter, torch.Generator().manual_seed(0))
    adapters.leave_hooks()
    train = step(backbone, list(adapters.parameters()))

    def case() -> None:
        adapters.enter_hooks()
        train()
        adapters.leave_hooks()

    return case


def main(rounds: str = "9", precision: str = "float32") -> None:
    """Prints the table: a row per shape, a column per number of terms."""
    print(f"{conditions()}, {precision}, median of {rounds} rounds, over LoRA of as many parameters")
    backbone = load_backbone(MINILM, Device(kind="cpu", dtype=getattr(torch, precision)))

    @cache
    def lora(rank: int) -> Case:
        return attached(backbone, AdapterConfig(method="lora", rank=rank, **PLACES))

    print("A".rjust(8), *(f"{terms} terms".rjust(8) for terms in TERMS))
    ratios: dict[FactorShape, float] = {}
    for a_out, a_in in SHAPES:
        cells = []
        for terms in TERMS:
            shape = FactorShape(a_out, a_in, WIDTH // a_out, WIDTH // a_in, terms)
            if terms > shape.max_terms:
                cells.append("–")
                continue
            ours = attached(backbone, AdapterConfig(method="krona", a_out=a_out, a_in=a_in, terms=terms, **PLACES))
            rank = max(1, round(shape.parameters / (2 * WIDTH)))
            ratios[shape] = side_by_side({"LoRA": lora(rank), "KronA": ours}, int(rounds))["KronA"].median
            cells.append(f"{ratios[shape]:.2f}")
        print(f"{a_out}x{a_in}".rjust(8), *(cell.rjust(8) for cell in cells), flush=True)
    worst = max(ratios, key=lambda shape: ratios[shape])
    print(f"{len(ratios)} sums: median {statistics.median(ratios.values()):.2f}, worst {worst} {ratios[worst]:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
