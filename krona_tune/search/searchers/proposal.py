"""Holds a proposed point together with who proposed it and what the proposer expects of it."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from krona_tune.search.planning.space import Params


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Who proposed a trial's point: "even draw", "TPE", "Sobol", "earlier study" or "study model".

    The model of the study also says which score it expects at the full budget, and the deviation of that expectation.
    """

    proposed_by: str = ""
    expected_score: float | None = None
    expected_deviation: float | None = None

    def plain(self) -> dict[str, Any]:
        """Returns what is known, as plain values."""
        return {name: value for name, value in asdict(self).items() if value not in {"", None}}


@dataclass(frozen=True)
class Proposal:
    """A point and its origin."""

    point: Params
    origin: Origin


Suggest = Callable[[int], Iterable[Proposal]]
"""Returns proposals from elsewhere for the trial of a number, the best first; none to leave it to Optuna."""
EVEN, TPE, SOBOL, EARLIER, MODEL = "even draw", "TPE", "Sobol", "earlier study", "study model"
