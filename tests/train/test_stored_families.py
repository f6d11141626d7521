"""Tests that layers which are computed once give the same output in every family for which that is done."""

import numpy as np
import pytest
import torch
import transformers

from krona_tune.adapters.placement import STORES_STATES
from krona_tune.backbones.find_geometry import geometry
from krona_tune.data.batches import evaluation_batches
from krona_tune.train.backbone import freeze
from krona_tune.train.device import Device
from krona_tune.train.hidden_states import FrozenPrefix, Gather, HiddenStates, compute_states, input_lengths
from tests.backbones.families import KINDS, tiny
from tests.train.conftest import table

HEADED = sorted(STORES_STATES - {"t5", "mt5", "umt5"})


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in KINDS else pytest.mark.long) for n in HEADED])
def test_a_model_over_stored_states_answers_as_the_whole_model(name: str) -> None:
    config = transformers.AutoConfig.for_model(**tiny(name), num_labels=2)
    torch.manual_seed(0)
    whole = transformers.AutoModelForSequenceClassification.from_config(config)
    backbone = freeze(whole, geometry(config.to_dict()), Device(kind="cpu", dtype=torch.float32))
    texts = table(10, 1)
    counts = input_lengths(texts)
    values = Gather(lambda each: compute_states(backbone, 1, each, 0), texts, backbone.geometry.width, torch.float32)()
    prefix = FrozenPrefix(backbone, 1, {id(texts): HiddenStates(values, np.cumsum(counts) - counts)})
    found, expected = [], []
    for outputs, enters in ((found, True), (expected, False)):
        if not enters:
            prefix.close()
        for batch in evaluation_batches(texts, 200, 0):
            if enters:
                prefix.enter(texts, batch)
            inputs = {key: torch.from_numpy(value).long() for key, value in batch.inputs.items()}
            with torch.no_grad():
                outputs.append(whole(**inputs).logits)
    torch.testing.assert_close(torch.cat(found), torch.cat(expected))
    assert torch.cat(expected).std() > 0
