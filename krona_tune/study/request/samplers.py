"""Holds one row for each sampler that a search may ask for."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal


@dataclass(frozen=True, kw_only=True)
class SamplerFacts:
    """Holds what is true of a sampler.

    Attributes:
        words: what a plan says of how points are proposed.
        learns: it learns from scores, after some random draws.
        of_all_tasks: it learns from the scores of all tasks together.
        in_order: it has a sequence of points of its own, the same on every task.
    """

    words: str
    learns: bool = False
    of_all_tasks: bool = False
    in_order: bool = False


SAMPLERS = {
    "tpe": SamplerFacts(words="by TPE", learns=True),
    "study_model": SamplerFacts(words="by one model of all tasks", learns=True, of_all_tasks=True),
    "random": SamplerFacts(words="drawn evenly"),
    "sobol": SamplerFacts(words="of a Sobol sequence", in_order=True),
}
"""The samplers by their names in study.yaml."""
if TYPE_CHECKING:
    Sampler = str
else:
    Sampler = Literal[tuple(SAMPLERS)]
"""The name of a sampler."""
