"""Provides a tiny task of token ids, and tiny backbones that learn it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from krona_tune.data.tasks import TASKS
from krona_tune.study.request.schedule import make_schedule
from krona_tune.study.request.trial import TrialConfig, check_trial
from krona_tune.train.backbone import Backbone, freeze
from krona_tune.train.device import Device
from krona_tune.train.loop import TaskWork
from tests.models import build

FLOAT32 = Device(kind="cpu", dtype=torch.float32)
WORDS = ((11, 12, 1), (13, 1))


def tiny_backbone(name: str = "bert", device: Device = FLOAT32) -> Backbone:
    shape, model, _ = build(name, outputs=2)
    return freeze(model, shape, device)


def table(rows: int, seed: int, regression: bool = False) -> pa.Table:
    """Returns token ids of various lengths; the label is whether token 7 is among the first four."""
    draw = np.random.default_rng(seed)
    ids, labels = [], []
    for row in range(rows):
        sentence = draw.integers(20, 90, draw.integers(5, 14))
        if row % 2:
            sentence[draw.integers(1, 4)] = 7
        ids.append(pa.array(sentence, pa.int32()))
        labels.append(2.6 * (row % 2) if regression else row % 2)
    return pa.table(
        {"input_ids": pa.array([a.to_pylist() for a in ids], pa.list_(pa.int32())), "label": pa.array(labels)}
    )


def tiny_work(
    task: str = "rte", rows: int = 48, epochs: float = 4, candidates: tuple[tuple[int, ...], ...] = ()
) -> TaskWork:
    regression = TASKS[task].is_regression
    return TaskWork(
        task=TASKS[task],
        train=table(rows, 1, regression),
        validation=table(32, 2, regression),
        pad_token_id=0,
        schedule=make_schedule(examples_per_epoch=rows, epochs=epochs, grace_epochs=1, reduction=2),
        candidates=candidates,
    )


def tiny_trial(task: str = "rte", **params: object) -> TrialConfig:
    sizes = {"a_out": 4, "a_in": 6, "rank": 3, "bottleneck": 10, "phm": 2}
    knobs = {**sizes, "scale": 2.0, "learning_rate": 1e-2, "batch_size": 8, "dropout": 0.0}
    return check_trial(task, 5, {**knobs, **params})


@contextmanager
def full_above(rows: int, model: nn.Module) -> Iterator[None]:
    """Lets a model compute at most so many rows at once, as if a GPU's memory held no more."""

    def refuse(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        if len(named["input_ids"]) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = model.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
