"""Compares steps of real models with what is foretold of them before any of them is loaded.

python -m tests.benchmarks.foretold_steps MODEL ...

Prints for each model, precision and placement, at three sizes of a batch, how many times what a step takes is foretold,
and the same of a pass forward. One thread computes, and its own clock is read. MODEL is a folder with pretrained
weights; the packaged MiniLM is the first without being named.
"""

import sys
from pathlib import Path
from typing import Any

import torch

from krona_tune.search.layer_passes import layer_passes
from krona_tune.search.pace import Load, Pace
from krona_tune.search.planning.plan import Plan, make_plan
from krona_tune.search.startup.estimate import StepCost, speed_of
from krona_tune.search.startup.slots import Slots
from krona_tune.search.startup.task_data import prepare_data
from krona_tune.study.request.trial import check_trial
from krona_tune.train.backbone import load_backbone
from krona_tune.train.device import Device, keep_freed_memory
from krona_tune.train.step_times import time_steps
from tests.benchmarks.kron.step import MINILM
from tests.benchmarks.kron.timing import conditions
from tests.study.request.written_specs import load_changed

TASK = "rte"
FACTORS = ("adapter.a_out=[8]", "adapter.a_in=[4, 6]")
PLACES = (
    ("all", "query+value"),
    ("all", "query+key+value+output"),
    ("last third", "query+value"),
)


def planned(model: str, layers: str, roles: str) -> Plan:
    """Returns a plan of one placement on a model."""
    changes = (*FACTORS, f"adapter.layers=[{layers}]", f"adapter.roles=[{roles}]")
    spec = load_changed(Path("search_spaces/mini.yaml"), changes, {"tasks": (TASK,), "model": model})
    return make_plan(spec, "benchmark")


def compare(model: str, dtype: torch.dtype) -> None:
    """Prints the rows of a model in a precision."""
    device = Device(kind="cpu", dtype=dtype)
    backbone = load_backbone(model, device)
    works = prepare_data(planned(model, "all", "query+value"), model).works
    cost = StepCost(backbone.geometry, speed_of(Slots(cpus=1, gpus=0, count=1), dtype.itemsize))
    for layers, roles in PLACES:
        depth = sum(backbone.geometry.depths.values())
        plan = planned(model, layers.replace("third", str(depth // 3)), roles)
        point: dict[str, Any] = dict(plan.space.sample[0])
        timed = time_steps(backbone, works, check_trial(TASK, 0, point))
        training, prediction = cost.of(layer_passes(plan.space, [point], stores=False))
        steps = [foretold(training, step.rows, step.length) / step.seconds for step in timed.steps]
        middle = timed.steps[1]
        forward = foretold(prediction, middle.rows, middle.length) / (timed.pass_share * middle.seconds)
        sizes = ", ".join(
            f"{step.rows} × {step.length} {each:.2f}" for step, each in zip(timed.steps, steps, strict=True)
        )
        print(f"{Path(model).name} {device.precision} {layers} {roles}: {sizes}; forward {forward:.2f}", flush=True)


def foretold(pace: Pace, rows: int, length: int) -> float:
    return pace.seconds(Load(steps=1, tokens=rows * length, pairs=rows * length**2))


def main(*models: str) -> None:
    """Prints all rows."""
    torch.set_num_threads(1)
    keep_freed_memory()
    print(conditions())
    for model in (MINILM, *models):
        for dtype in (torch.bfloat16, torch.float32):
            compare(model, dtype)


if __name__ == "__main__":
    main(*sys.argv[1:])
