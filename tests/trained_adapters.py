"""Trains adapters on tiny models by chance, in sizes that all differ and fit every site."""

import torch
from torch import nn

from krona_tune.adapters.inject import Adapters
from krona_tune.backbones.geometry import Geometry, Role
from krona_tune.study.request.trial import AdapterConfig
from tests.models import tokens

EVERY_MAP = "+".join(role for role in Role if role not in {Role.FEED_FORWARD, Role.NAMED})


def shaped(shape: Geometry, method: str, **knobs: object) -> AdapterConfig:
    """Returns an adapter whose sizes differ and fit every site: inner widths are multiples of 4 and 2."""
    sizes = {"a_out": 4, "a_in": 2, "rank": 3, "decompose_factor": 4, "bottleneck": 6, "phm": 2}
    return AdapterConfig(method=method, scale=1.5, **{"roles": EVERY_MAP, **sizes, **knobs})


def trained(adapters: Adapters) -> Adapters:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return adapters


def outputs(model: torch.nn.Module, shape: Geometry) -> torch.Tensor:
    with torch.no_grad():
        return model(**tokens(shape)).logits


def head_of(model: nn.Module, base: nn.Module) -> dict[str, torch.Tensor]:
    """Returns new values for every parameter outside the base model."""
    generator = torch.Generator().manual_seed(11)
    own = {id(parameter) for parameter in base.parameters()}
    outside = {name: p for name, p in model.named_parameters() if id(p) not in own}
    return {name: 0.3 * torch.randn(p.shape, generator=generator) for name, p in outside.items()}
