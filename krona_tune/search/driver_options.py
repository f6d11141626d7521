"""Holds what a driver is told and what it returns, for callers that load neither Ray nor torch."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from krona_tune.search.start_options import StartOptions
from krona_tune.search.waiting_orders import EarlierOrders
from krona_tune.study.request.search_spec import SearchSpec
from krona_tune.study.result import Status

if TYPE_CHECKING:
    from krona_tune.search.full_training import FullTraining
    from krona_tune.search.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class DriverOptions:
    """Holds what one start of a driver is told beside the request of its study.

    Args:
        command: what started it, which the manifest keeps.
        resumed_by: tells a person what resumes the study.
        start: the options of the start.
        keys: the keys of the request that this start itself sets; orders of before do not change them.
        waited: the ids of the orders that waited when the command began to take the study; None: those that wait now.
        earlier: these orders, and those that an earlier driver had taken.
        again: a full training, which is then all that is run.
        began: when the command began, by `time.monotonic`; None: when its driver does.
    """

    command: str = ""
    resumed_by: str = ""
    start: StartOptions = field(default_factory=StartOptions)
    keys: Iterable[str] = ()
    waited: frozenset[str] | None = None
    earlier: EarlierOrders = field(default_factory=EarlierOrders)
    again: "FullTraining | None" = None
    began: float | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Says how a driver's session ended.

    `tasks` are the study's, `search` is what was asked of it in the end, `trained` the ids of the full training's
    trials, if it was one. `asked`: a person or the system stopped the study. `halted` says why it stopped itself,
    `lost` why Ray's run was abandoned, after which Ray can't be called. `lost_sinks` says which records could not be
    written, and why; `lacking` which adapters have no state that they could be written from; `no_page` why the page
    could not be written, which is only drawn from the records and can be drawn again.
    """

    ledger: "Ledger"
    tasks: tuple[str, ...]
    search: SearchSpec = field(default_factory=SearchSpec)
    trained: tuple[str, ...] = ()
    asked: bool = False
    halted: str = ""
    lost: str = ""
    lost_sinks: dict[str, str]
    lacking: tuple[str, ...] = ()
    no_page: str = ""

    @property
    def interrupted(self) -> bool:
        return self.asked or bool(self.halted or self.lost)

    @property
    def lost_ray(self) -> bool:
        """Returns whether only the loss of Ray ended the session."""
        return bool(self.lost) and not self.asked

    @property
    def lacks_results(self) -> bool:
        """Returns whether some task has no result, or some full training is not completed."""
        if self.trained:
            rows = [self.ledger.rows.get(trial) for trial in self.trained]
            return not all(row and row.status is Status.COMPLETED for row in rows)
        standings = self.ledger.standings
        return any(standings.best(task) is None for task in self.tasks)
