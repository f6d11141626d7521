"""Tests that a merged model of every family of transformers gives the adapted model's outputs without an adapter."""

from typing import Any

import pytest
import torch
import transformers

from krona_tune.adapters.inject import Adapters
from krona_tune.adapters.merge import merge
from krona_tune.backbones.find_geometry import geometry
from tests.backbones.families import KINDS, LACKING, WHOLE, build_causal, tiny
from tests.trained_adapters import outputs, shaped, trained

METHODS = ("krona", "lora")
NOT_RUN = {"led", "prophetnet", "tapas", "yoso"}
"""They need other inputs or kernels than a batch of ids."""


def every() -> list[Any]:
    names = sorted({*WHOLE, *LACKING} - NOT_RUN)
    return [pytest.param(n, marks=() if n in KINDS else pytest.mark.slow) for n in names]


def built(name: str) -> Any:
    config = transformers.AutoConfig.for_model(**tiny(name))
    shape = geometry(config.to_dict())
    if shape.writes_alone:
        return build_causal(name)
    kind = transformers.AutoModelForSeq2SeqLM if shape.text_to_text else transformers.AutoModelForSequenceClassification
    torch.manual_seed(0)
    model = kind.from_config(config).eval().requires_grad_(False)
    return shape, model, model if shape.text_to_text else model.get_submodule(model.base_model_prefix)


@pytest.mark.parametrize("name", every())
def test_merged_equals_adapted_in_every_family(name: str) -> None:
    shape, model, base = built(name)
    start = outputs(model, shape)
    method = METHODS[sum(map(ord, name)) % len(METHODS)]
    adapters = trained(Adapters(base, shape, shaped(shape, method), torch.Generator().manual_seed(0)))
    adapted = outputs(model, shape)
    merge(adapters)
    assert (outputs(model, shape) - adapted).norm() < 1e-4 * adapted.norm()
    assert (adapted - start).norm() > 1e-4 * start.norm()
