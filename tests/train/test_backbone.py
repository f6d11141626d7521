"""A backbone is frozen, and its dropout is what the user says."""

import pytest
import torch

from krona_tune.train.backbone import dropouts, set_dropout
from tests.models import CONFIGS, build, tokens
from tests.train.conftest import tiny_backbone


@pytest.mark.parametrize("name", CONFIGS)
def test_dropout_zero_trains_as_it_evaluates_and_more_does_not(name: str) -> None:
    shape, model, _ = build(name)
    inputs = tokens(shape)
    evaluated = model(**inputs).logits
    model.train()
    set_dropout(model, 0.0)
    torch.testing.assert_close(model(**inputs).logits, evaluated)
    set_dropout(model, 0.4)
    assert not torch.allclose(model(**inputs).logits, evaluated, atol=1e-3)
    assert set(dropouts(model).values()) == {0.4}


def test_nothing_in_a_backbone_is_trained() -> None:
    assert not any(p.requires_grad for p in tiny_backbone("t5").whole.parameters())
