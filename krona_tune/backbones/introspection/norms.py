"""Tells which modules are layer norms."""

from torch import nn


def is_norm(module: nn.Module) -> bool:
    return type(module).__name__.endswith(("LayerNorm", "RMSNorm"))


def count_norms(module: nn.Module) -> int:
    """Counts the parameters of all layer norms in a module."""
    return sum(p.numel() for each in module.modules() if is_norm(each) for p in each.parameters(recurse=False))


def count_norm_biases(module: nn.Module) -> int:
    norms = (each for each in module.modules() if is_norm(each))
    return sum(p.numel() for each in norms for key, p in each.named_parameters(recurse=False) if key == "bias")
