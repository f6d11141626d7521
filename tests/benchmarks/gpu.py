"""Measures what KronA costs on one GPU, without Ray: python -m tests.benchmarks.gpu [base | tiny] [REPEATS]

The model is T5-base with random weights in bfloat16, the batch is 32 × 64 tokens. In each round, every method runs the
same step in turn. `frozen` is the backbone with gradients flowing from the embeddings and nothing trained. Without a
GPU, `tiny` only checks that the benchmark runs.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from transformers import T5Config, T5ForConditionalGeneration

from krona_tune.adapters.inject import Adapters
from krona_tune.backbones.find_geometry import geometry
from krona_tune.data.tasks import TASKS
from krona_tune.study.request.trial import AdapterConfig, TrainingConfig
from krona_tune.train.backbone import Backbone, freeze
from krona_tune.train.device import Device
from krona_tune.train.loop import optimiser
from krona_tune.train.task_heads import make_answer

YES_AND_NO = ((4273, 1), (150, 1))


@dataclass(frozen=True, kw_only=True)
class Size:
    """A T5 and the batch that it reads; `factor` is KronA's a_out and a_in."""

    width: int
    hidden: int
    layers: int
    heads: int
    factor: int
    rows: int
    length: int


SIZES = {
    "base": Size(width=768, hidden=3072, layers=12, heads=12, factor=24, rows=32, length=64),
    "tiny": Size(width=48, hidden=96, layers=2, heads=3, factor=6, rows=4, length=10),
}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of one method's step: seconds per round, peak memory, launches, and the share of time in which the
    device (on a CPU: an operator) computed."""

    seconds: tuple[float, ...]
    peak_bytes: int
    launches: int
    computing: float


def backbone_of(size: Size, device: Device) -> Backbone:
    """Returns a frozen T5 with random weights from a fixed seed."""
    config = T5Config(
        vocab_size=32128,
        d_model=size.width,
        d_kv=size.width // size.heads,
        d_ff=size.hidden,
        num_layers=size.layers,
        num_heads=size.heads,
        decoder_start_token_id=0,
        attn_implementation=device.attention,
    )
    torch.manual_seed(0)
    whole = T5ForConditionalGeneration(config)
    return freeze(whole, geometry(whole.config.to_dict(), "T5"), device)


def methods(size: Size) -> dict[str, AdapterConfig | None]:
    """Returns the configurations that are compared; None trains nothing."""
    places: dict[str, Any] = {"roles": "query+value", "scale": 4.0}
    return {
        "frozen": None,
        "KronA": AdapterConfig(method="krona", a_out=size.factor, a_in=size.factor, **places),
        "LoRA r=1": AdapterConfig(method="lora", rank=1, **places),
        "PEFT's LoKr": AdapterConfig(method="lokr", rank=size.width, decompose_factor=size.factor, **places),
    }


@contextmanager
def stepping(backbone: Backbone, size: Size, adapter: AdapterConfig | None) -> Iterator[Callable[[], None]]:
    """Yields a training step of the adapter on one batch: forward, backward, clipping, AdamW."""
    device = backbone.device
    ids = torch.randint(5, 32000, (size.rows, size.length), generator=torch.Generator().manual_seed(1)).to(device.kind)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    labels = (torch.arange(size.rows) % 2).to(device.kind)
    words = make_answer(backbone, TASKS["cola"], 0, YES_AND_NO)
    backbone.base.train()
    tables = [backbone.base.get_submodule(f"{stack}.embed_tokens") for stack in ("encoder", "decoder")]
    hooks = [table.register_forward_hook(_flow) for table in tables]
    adapters = adapter and Adapters(backbone.base, backbone.geometry, adapter, torch.Generator().manual_seed(2))
    trained = optimiser(adapters.parameters() if adapters else (), TrainingConfig(), total_steps=1_000_000)

    def step() -> None:
        with device.autocast():
            loss = words.loss(inputs, labels)
        torch.autograd.backward(loss)
        if trained:
            trained.step()
        wait(device)

    try:
        yield step
    finally:
        for hook in hooks:
            hook.remove()
        if adapters:
            adapters.detach()


def _flow(_: nn.Module, __: object, output: Tensor) -> Tensor:
    """Makes every later map compute its dx, as below an adapter."""
    return output.detach().requires_grad_()


def wait(device: Device) -> None:
    if device.kind == "cuda":
        torch.cuda.synchronize()


def measure(backbone: Backbone, size: Size, repeats: int) -> dict[str, Cost]:
    """Returns every method's cost; the first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in methods(size)}
    rest: dict[str, tuple[int, int, float]] = {}
    for number in range(repeats + 1):
        for name, adapter in methods(size).items():
            backbone.device.start_measuring()
            with stepping(backbone, size, adapter) as step:
                step()
                began = time.perf_counter()
                step()
                took = time.perf_counter() - began
                if number:
                    seconds[name].append(took)
                else:
                    rest[name] = (backbone.device.peak_memory_bytes(), *launches(step, backbone.device))
    return {
        name: Cost(seconds=tuple(seconds[name]), peak_bytes=peak, launches=count, computing=share)
        for name, (peak, count, share) in rest.items()
    }


def launches(step: Callable[[], None], device: Device) -> tuple[int, float]:
    """Returns how many kernels (on a CPU: operators) a step launches, and which share of its time they compute."""
    on_gpu = device.kind == "cuda"
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA] if on_gpu else [ProfilerActivity.CPU]
    with profile(activities=activities) as watched:
        began = time.perf_counter()
        step()
        took = time.perf_counter() - began
    events = watched.key_averages()
    if not on_gpu:
        ops = [event for event in events if event.key.startswith("aten::")]
        return sum(event.count for event in ops), sum(event.self_cpu_time_total for event in ops) / 1e6 / took
    count = sum(event.count for event in events if "LaunchKernel" in event.key)
    return count, sum(event.self_device_time_total for event in events) / 1e6 / took


def main(name: str = "base", repeats: str = "15") -> None:
    """Prints the table."""
    size, kind = SIZES[name], "cuda" if torch.cuda.is_available() else "cpu"
    device = Device(kind=kind, dtype=torch.bfloat16)
    where = torch.cuda.get_device_name() if kind == "cuda" else "CPU"
    print(f"T5 {name} on {where}, torch {torch.__version__}, bfloat16, {size.rows} × {size.length} tokens")
    costs = measure(backbone_of(size, device), size, int(repeats))
    frozen = costs["frozen"].seconds
    print(f"{'':<12}   ms  over frozen  examples/s  peak MiB  launches  computing")
    for method, cost in costs.items():
        over = statistics.median(own / base for own, base in zip(cost.seconds, frozen, strict=True))
        middle = statistics.median(cost.seconds)
        print(
            f"{method:<12}{1000 * middle:8.1f}{over:10.2f}{size.rows / middle:12.0f}{cost.peak_bytes / 2**20:10.0f}"
            f"{cost.launches:10}{cost.computing:10.2f}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
