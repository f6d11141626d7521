"""Tests where dropout acts, and that a model keeps its own for the next trial."""

from typing import Any

import pytest
import torch

from krona_tune.adapters.placement import adapted_layers
from krona_tune.study.request.trial import TrialConfig
from krona_tune.train.backbone import Backbone
from krona_tune.train.dropout import dropouts, set_dropout
from krona_tune.train.loop import TrialRun
from tests.models import CONFIGS, tokens
from tests.train.conftest import WORDS, tiny_backbone, tiny_trial, tiny_work


def set_as(trial: TrialConfig, backbone: Backbone) -> dict[tuple[str, str], float]:
    layers = adapted_layers(backbone.geometry, trial.adapter)
    set_dropout(backbone.whole, backbone.base, trial.training, layers)
    return dropouts(backbone.whole)


@pytest.mark.parametrize("name", CONFIGS)
def test_dropout_zero_trains_as_it_evaluates_and_more_does_not(name: str) -> None:
    backbone = tiny_backbone(name)
    inputs = tokens(backbone.geometry)
    evaluated = backbone.whole(**inputs).logits
    backbone.whole.train()
    set_as(tiny_trial(), backbone)
    torch.testing.assert_close(backbone.whole(**inputs).logits, evaluated)
    assert set(set_as(tiny_trial(dropout=0.4), backbone).values()) == {0.4}
    assert not torch.allclose(backbone.whole(**inputs).logits, evaluated, atol=1e-5)


@pytest.mark.parametrize(("method", "layers"), [("krona", {2}), ("head_only", set()), ("full", {0, 1, 2})])
def test_dropout_of_adapted_layers_acts_in_them_and_in_the_head(method: str, layers: set[int]) -> None:
    trial = tiny_trial(method=method, layers="last 1", dropout=0.4, dropout_layers="adapted")
    acting = {path for (path, _), probability in set_as(trial, tiny_backbone()).items() if probability}
    assert "dropout" in acting
    assert {int(path.split(".")[3]) for path in acting - {"dropout"}} == layers


@pytest.mark.parametrize("dropout", [None, 0.0, 0.4])
@pytest.mark.parametrize("where", ["all", "adapted"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_trial_gives_the_model_its_own_dropout_back(name: str, where: str, dropout: Any) -> None:
    backbone = tiny_backbone(name)
    own = {place: 0.1 + number / 100 for number, place in enumerate(dropouts(backbone.base))}
    for (path, attribute), probability in own.items():
        setattr(backbone.base.get_submodule(path), attribute, probability)
    work = tiny_work(epochs=1, candidates=WORDS if backbone.geometry.text_to_text else ())
    run = TrialRun("t", tiny_trial(dropout=dropout, dropout_layers=where, layers="last 1"), work, backbone)
    assert (dropouts(backbone.base) == own) == (dropout is None and where == "all")
    run.close()
    assert dropouts(backbone.base) == own
