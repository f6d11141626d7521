"""Finds and sets a model's dropout: modules, and the probabilities that attention keeps as plain numbers."""

from collections.abc import Collection, Mapping

from torch import nn

from krona_tune.adapters.frozen_model import is_inside
from krona_tune.study.request.trial import TrainingConfig

Dropouts = dict[tuple[str, str], float]
"""Probabilities by the module's name and the attribute that holds them."""


def dropouts(model: nn.Module) -> Dropouts:
    """Returns every dropout probability of a model."""
    found = {}
    for path, module in model.named_modules():
        names = ("p",) if isinstance(module, nn.Dropout) else ("dropout", "dropout_prob", "attention_dropout")
        for name in names:
            if isinstance(getattr(module, name, None), float):
                found[path, name] = getattr(module, name)
    return found


def set_dropout(model: nn.Module, base: nn.Module, training: TrainingConfig, layers: Collection[str]) -> None:
    """Sets a model's dropout as the training asks.

    Args:
        model: what answers the task.
        base: the backbone's base model within it.
        layers: the names in `base` of the layers that are trained.
    """
    if training.dropout is not None:
        assign_dropouts(model, dict.fromkeys(dropouts(model), training.dropout))
    if training.dropout_layers == "adapted":
        outside = (place for place in dropouts(base) if not is_inside(f"{place[0]}.", layers))
        assign_dropouts(base, dict.fromkeys(outside, 0.0))


def assign_dropouts(model: nn.Module, probabilities: Mapping[tuple[str, str], float]) -> None:
    """Sets dropouts to the given probabilities, by place as `dropouts` returns them."""
    for (path, name), probability in probabilities.items():
        setattr(model.get_submodule(path), name, probability)
