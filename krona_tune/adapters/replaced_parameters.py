"""Replaces parameters of a model's own by copies that are trained, and puts them back in whatever order sets leave."""

import torch
from torch import nn

from krona_tune.adapters.frozen_model import Holders

STACKS = "krona_tune_replaced"
"""The attribute of a module that holds by key its own parameter and the copies in its place, the latest last.

deepcopy and pickle take it along with the module; of a parameter, deepcopy drops what is set on it.
"""


def replace_by_copy(holders: Holders) -> nn.Parameter:
    """Puts a float32 copy in place of a parameter, wherever it is held."""
    parameter: nn.Parameter = getattr(*holders[0])
    copy = nn.Parameter(parameter.detach().float().clone())
    for module, key in holders:
        vars(module).setdefault(STACKS, {}).setdefault(key, [parameter]).append(copy)
        setattr(module, key, copy)
    return copy


def put_back(holders: Holders, copy: nn.Parameter, dtype: torch.dtype | None = None) -> None:
    """Takes a copy away; the parameter that it replaced is in its place again, or below the copies of later sets.

    It follows the copy if the model was moved or cast meanwhile, which did not reach it. `dtype` is what the model was
    cast to, if that is known: a copy is made in float32, so that its own says less.
    """
    for module, key in holders:
        below, above = _around(module, key, copy)
        if below:
            replaced = below[-1]
            known = dtype or (replaced.dtype if copy.dtype == torch.float32 else copy.dtype)
            replaced.data = replaced.data.to(device=copy.device, dtype=known)
            _keep(module, key, [*below, *above])
            setattr(module, key, [*below, *above][-1])


def leave_in_model(holders: Holders, copy: nn.Parameter) -> None:
    """Makes a copy the model's own, and forgets what it replaced."""
    for module, key in holders:
        below, above = _around(module, key, copy)
        if below:
            _keep(module, key, [copy, *above])


def round_as_replaced(holders: Holders, copy: nn.Parameter) -> None:
    """Converts a copy to the dtype of the parameter that it replaced."""
    below, _ = _around(*holders[0], copy)
    if below:
        copy.data = copy.data.to(below[-1].dtype)


def copies_in(model: nn.Module) -> set[int]:
    """Returns the ids of all copies that replace parameters of a model."""
    stacks = (stack for module in model.modules() for stack in vars(module).get(STACKS, {}).values())
    return {id(copy) for _, *copies in stacks for copy in copies}


def _around(module: nn.Module, key: str, copy: nn.Parameter) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Returns what is below a copy and what is above it; nothing is below one that is not there or is the model's."""
    stack: list[nn.Parameter] = vars(module).get(STACKS, {}).get(key, [])
    place = next((place for place, each in enumerate(stack) if each is copy), 0)
    return stack[:place], stack[place + 1 :]


def _keep(module: nn.Module, key: str, stack: list[nn.Parameter]) -> None:
    """Keeps what a module holds by a key, and nothing where it holds its own parameter alone."""
    stacks = vars(module)[STACKS]
    stacks[key] = stack
    if len(stack) == 1:
        del stacks[key]
    if not stacks:
        delattr(module, STACKS)
