"""Tests that a checkpoint belongs to certain weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from krona_tune.train import checkpoint
from krona_tune.train.backbone import Backbone, freeze
from krona_tune.train.loop import TrialRun
from tests.train.conftest import tiny_backbone, tiny_trial, tiny_work


def test_a_trial_goes_on_with_its_own_weights_only(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    run = TrialRun("t1", tiny_trial(), tiny_work(), backbone)
    run.advance()
    checkpoint.save(run, tmp_path)
    run.close()
    assert checkpoint.backbone_fingerprint(tmp_path) == backbone.fingerprint
    again = TrialRun("t1", tiny_trial(), tiny_work(), tiny_backbone())
    checkpoint.load(again, tmp_path)
    assert again.rung == 1

    other = TrialRun("t1", tiny_trial(), tiny_work(), _other_backbone())
    with pytest.raises(checkpoint.Unusable, match=r"is of the backbone [0-9a-f]{64}, this is [0-9a-f]{64}"):
        checkpoint.load(other, tmp_path)


@pytest.mark.parametrize("change", [lambda head: None, lambda head: head[..., :-1].contiguous()])
def test_a_checkpoint_with_another_head_changes_nothing(
    tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor | None]
) -> None:
    run = TrialRun("t1", tiny_trial(), tiny_work(), tiny_backbone())
    run.advance()
    checkpoint.save(run, tmp_path)
    tensors = load_file(tmp_path / checkpoint.TENSORS)
    name = next(name for name in tensors if name.startswith("head."))
    changed = change(tensors.pop(name))
    save_file(tensors | ({} if changed is None else {name: changed}), tmp_path / checkpoint.TENSORS)

    again = TrialRun("t1", tiny_trial(), tiny_work(), tiny_backbone())
    before = again.state()
    with pytest.raises(checkpoint.Unusable, match=f"{name} is missing or is not"):
        checkpoint.load(again, tmp_path)
    assert all(torch.equal(before[name], tensor) for name, tensor in again.state().items())


def _other_backbone() -> Backbone:
    backbone = tiny_backbone()
    with torch.no_grad():
        backbone.base.get_submodule(backbone.geometry.sites[0].name).weight.neg_()
    return freeze(backbone.whole, backbone.geometry, backbone.device)
