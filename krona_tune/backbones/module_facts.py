"""Says what a module or a weight of a model is. It imports no transformers, which takes a second to load its models."""

from typing import Any

from torch import Tensor, nn


def is_norm(module: nn.Module) -> bool:
    """Returns whether a module is a layer norm with parameters, by its name and because it holds vectors alone."""
    own = list(module.parameters(recurse=False))
    return "norm" in type(module).__name__.lower() and bool(own) and all(each.ndim == 1 for each in own)


def count_norms(module: nn.Module) -> int:
    """Counts the parameters of all layer norms in a module."""
    return sum(p.numel() for each in module.modules() if is_norm(each) for p in each.parameters(recurse=False))


def count_norm_biases(module: nn.Module) -> int:
    norms = (each for each in module.modules() if is_norm(each))
    return sum(p.numel() for each in norms for key, p in each.named_parameters(recurse=False) if key == "bias")


def is_quantised(weight: Tensor) -> bool:
    """Returns whether a weight is kept in codes or in so few bits that nothing can be added to it."""
    return not weight.is_floating_point() or weight.dtype.itemsize < 2


FULL_ATTENTION = "original_full"
"""The word by which a BigBird attends to all tokens."""


def attend_fully(whole: nn.Module) -> None:
    """Makes a model that can attend to some tokens only attend to all, also when it is saved and loaded again.

    Left alone, a BigBird turns to that at its first text of few tokens, exchanging modules, dropout among them.
    """
    for module in list(whole.modules()):
        if hasattr(module, "set_attention_type"):
            change: Any = module
            change.set_attention_type(FULL_ATTENTION)
            if hasattr(change, "config"):
                change.config.attention_type = FULL_ATTENTION


def base_of(whole: nn.Module) -> nn.Module:
    """Returns the pretrained part of a model of transformers, to which a geometry's names are relative: an
    encoder-decoder, or a base model, is that itself."""
    model: Any = whole
    base: nn.Module = whole if model.config.is_encoder_decoder else getattr(model, "base_model", whole)
    return base
