"""Tests that a batch in parts and layers that are computed again train as a whole batch and kept layers do."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from krona_tune.data.tasks import TASKS
from krona_tune.train.backbone import Backbone
from krona_tune.train.hidden_states import HiddenStateStore
from krona_tune.train.loop import TaskWork, TrialRun
from tests.models import of_each_kind
from tests.train.conftest import WORDS, tiny_backbone, tiny_trial, tiny_work


def outcome(
    backbone: Backbone, work: TaskWork, store: HiddenStateStore | None = None, **knobs: Any
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Returns the rungs' losses and the trained state."""
    run = TrialRun("t", tiny_trial(work.task.name, **knobs), work, backbone, store)
    try:
        return [run.advance().train_loss for _ in range(2)], run.state()
    finally:
        run.close()


def assert_equal(one: Any, other: Any) -> None:
    assert one[0] == pytest.approx(other[0], abs=1e-5)
    for name, tensor in one[1].items():
        torch.testing.assert_close(tensor, other[1][name], atol=2e-4, rtol=2e-3)


def work_of(name: str, task: str, weights: tuple[float, ...]) -> TaskWork:
    text_to_text = tiny_backbone(name).geometry.text_to_text
    words = tuple((10 + i, 1) for i in range(26)) if task == "stsb" else WORDS
    work = tiny_work(task, rows=44, epochs=2, candidates=words if text_to_text else ())
    return replace(work, task=replace(TASKS[task], class_weights=weights))


@pytest.mark.parametrize("parts", [3, 4, 100])
@pytest.mark.parametrize(
    ("name", "task", "weights"),
    [
        ("bert", "rte", ()),
        ("bert", "rte", (0.2, 3.0)),
        ("gpt2", "stsb", ()),
        ("t5", "rte", (0.2, 3.0)),
        ("t5", "stsb", ()),
    ],
)
def test_a_batch_in_parts_is_one_step_of_the_whole_batch(
    name: str, task: str, weights: tuple[float, ...], parts: int
) -> None:
    """The last batch is smaller, the parts differ in size, and two label words in their number of tokens."""
    backbone, work = tiny_backbone(name), work_of(name, task, weights)
    assert_equal(outcome(backbone, work, accumulation=parts), outcome(backbone, work))


def test_parts_of_a_batch_start_above_stored_states_too(tmp_path: Path) -> None:
    backbone, work = tiny_backbone(), work_of("bert", "rte", ())
    store = HiddenStateStore(tmp_path / "states", 10**9)
    knobs = {"layers": "last 1", "accumulation": 3, "gradient_checkpointing": True}
    assert_equal(outcome(backbone, work, store, **knobs), outcome(backbone, work, layers="last 1"))


@pytest.mark.parametrize("name", of_each_kind())
def test_layers_that_are_computed_again_train_as_layers_that_keep_everything(name: str) -> None:
    backbone, work = tiny_backbone(name), work_of(name, "rte", ())
    site = backbone.geometry.sites[0]
    calls: list[int] = []
    hook = backbone.base.get_submodule(site.name).register_forward_hook(
        lambda *_: calls.append(torch.is_grad_enabled())
    )
    kept = outcome(backbone, work)
    before = sum(calls)
    calls.clear()
    assert_equal(outcome(backbone, work, gradient_checkpointing=True), kept)
    assert sum(calls) == 2 * before > 0
    hook.remove()
    assert all("forward" not in vars(module) for module in backbone.base.modules())


def test_layers_without_a_named_map_are_computed_again_too() -> None:
    backbone, work = tiny_backbone("bert"), work_of("bert", "rte", ())
    first, *_, last = backbone.geometry.layers
    inside = next(site.name for site in backbone.geometry.sites if site.layer_name == last)
    sites = tuple(site for site in backbone.geometry.sites if site.layer_name == first)
    named = replace(backbone, geometry=replace(backbone.geometry, sites=sites))
    calls: list[bool] = []
    hook = backbone.base.get_submodule(inside).register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    kept = outcome(named, work)
    before = sum(calls)
    calls.clear()
    assert_equal(outcome(named, work, gradient_checkpointing=True), kept)
    hook.remove()
    assert sum(calls) == 2 * before > 0


@pytest.mark.parametrize("method", ["krona", "krona_b_res", "adapter", "lora", "full"])
def test_every_kind_of_adapter_is_recomputed_with_its_layer(method: str) -> None:
    backbone, work = tiny_backbone("bert"), work_of("bert", "rte", ())
    knobs = {"method": method, "layer_norms": True, "dropout": 0.2}
    assert_equal(outcome(backbone, work, gradient_checkpointing=True, **knobs), outcome(backbone, work, **knobs))
