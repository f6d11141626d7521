"""Tells what a row of a linear map does by how far its gradients reach."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

NOTHING, NOISE = 1e-4, 1e-7
"""A row reaches nothing with less than this share of what it reaches elsewhere, and nowhere with less of its map's."""
Reach = tuple[Tensor, Tensor, Tensor, Tensor]
"""How far each row of a map reaches, (rows,) each: a single token to its output; of two tokens the first to the output
of the second, the second to its own, the second to that of the first."""


class RowClass(StrEnum):
    """What a row does, as the gradients show it."""

    QUERY = "a query"
    KEY = "a key"
    VALUE = "a value"
    TOKEN = "token by token"
    UNKNOWN = "reached by no gradient"


@dataclass(frozen=True, kw_only=True)
class ProbedMap:
    """What was found about one linear map: its class, that of each row by itself, and whether it reads another stack.

    The map's class is that of its rows together, because one row may be idle, such as one that a ReLU cuts off.
    """

    whole: RowClass
    rows: list[RowClass]
    cross: bool


_TABLE = {
    (True, True): RowClass.VALUE,
    (True, False): RowClass.TOKEN,
    (False, True): RowClass.KEY,
    (False, False): RowClass.QUERY,
}


def classify(draws: list[Reach], *, cross: bool) -> ProbedMap:
    """Returns what the rows of a map do, from the largest reach of all draws."""
    alone, across, own, _ = (torch.stack(each).amax(0) for each in zip(*draws, strict=True))
    every = torch.maximum(alone, torch.maximum(across, own))
    reached, most = every > NOISE * every.max(), float(every.max())
    rows = [
        _TABLE[one, two] if there else RowClass.UNKNOWN
        for there, one, two in zip(
            reached.tolist(), (alone > NOTHING * every).tolist(), (across > NOTHING * every).tolist(), strict=True
        )
    ]
    whole = _TABLE[float(alone.max()) > NOTHING * most, float(across.max()) > NOTHING * most]
    return ProbedMap(whole=whole if most else RowClass.UNKNOWN, rows=rows, cross=cross)


def is_causal(reaches: Iterable[Reach]) -> bool:
    """Returns whether tokens reach later ones and none an earlier one."""
    forwards = backwards = 0.0
    for _, forward, own, backward in reaches:
        least = NOTHING * float(own.max())
        forwards += float((forward > least).sum())
        backwards += float((backward > least).sum())
    return forwards > 0 and backwards == 0
