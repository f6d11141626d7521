"""Tests that a checkpoint belongs to certain weights."""

from pathlib import Path

import pytest
import torch

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


def _other_backbone() -> Backbone:
    backbone = tiny_backbone()
    with torch.no_grad():
        backbone.base.get_submodule(backbone.geometry.sites[0].name).weight.neg_()
    return freeze(backbone.whole, backbone.geometry, backbone.device)
