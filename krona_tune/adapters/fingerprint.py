"""Identifies a backbone's weights by a hash that is the same in float32 and bfloat16."""

import hashlib

import torch
from torch import nn

from krona_tune.backbones.geometry import Geometry, Role

SAMPLE = 4096
"""About how many values of each weight are hashed, so that billions of parameters take well under a second."""
COMPARABLE = {torch.float32, torch.bfloat16}


def fingerprint(base: nn.Module, geometry: Geometry) -> str | None:
    """Returns the sha256 over name, shape and values, rounded to bfloat16, of every weight that can carry an adapter.

    It hashes a strided sample of each weight: training any of them changes the hash, but one changed value may not.

    Returns:
        64 hexadecimal digits; None if a weight is kept in another dtype (float16, quantised), which rounds differently,
            or has no values.
    """
    digest = hashlib.sha256()
    for name in dict.fromkeys(site.name for site in geometry.sites if site.role is not Role.FEED_FORWARD):
        weight = base.get_submodule(name).get_parameter("weight")
        if weight.dtype not in COMPARABLE or weight.is_meta:
            return None
        digest.update(f"{name} {tuple(weight.shape)} ".encode())
        stride = weight.numel() // SAMPLE | 1  # odd, so that the sample is not one column
        sample = weight.detach().flatten()[::stride].to(torch.bfloat16).contiguous().cpu()
        digest.update(sample.view(torch.int16).numpy().astype("<i2").tobytes())
    return digest.hexdigest()
