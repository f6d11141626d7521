"""Holds a study as orders see it: what their checks read, and, while a driver runs it, what their effects change."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import TrialKind
from krona_tune.study.order import Order, is_paused, search_ended_by
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.request.trial import TrialConfig
from krona_tune.study.result import TrialResult

if TYPE_CHECKING:
    from krona_tune.search.budget import StudyClock
    from krona_tune.search.ledger import Ledger
    from krona_tune.search.planning.plan import Plan
    from krona_tune.search.searchers.task_searcher import GatedSearcher
    from krona_tune.search.study_stopper import StudyStopper


@dataclass(frozen=True, kw_only=True)
class KnownStudy:
    """Holds what is known of a study when an order is checked: by its driver, or before one has read it.

    Attributes:
        running: the trials that run, if that is known.
        orders: those that a driver has read, if they matter.
        runs: whether a driver runs it; `in_queue`: whether a queue of studies began that.
        paused: whether it waits until somebody lets it go on; None if that may be another when the order is read.
        ended: somebody ended its search, which has not gone on since.
        count: counts a trial's parameters; it refuses a trial that does not fit the backbone.
    """

    folder: StudyFolder
    spec: StudySpec
    rows: Mapping[str, TrialResult]
    running: Collection[str] = ()
    orders: Collection[Order] = ()
    runs: bool = True
    in_queue: bool = False
    paused: bool | None = None
    ended: bool = False
    count: Callable[[TrialConfig], object] = lambda trial: None


class StudyView(Protocol):
    """A view of the study that is told about orders, such as the terminal's."""

    def say(self, text: str) -> None: ...

    def expect(self, new: Mapping[str, int]) -> None: ...


@dataclass(eq=False, kw_only=True)
class RunningStudy:
    """Holds what orders change of a study that a driver runs.

    Attributes:
        plan: the study's plan with what was ordered since.
        most: so many trials may run at once, and no more than `share`, if a queue of studies gives the driver one.
        paused: it waits until somebody lets it go on, as the orders of its records say.
        searcher: gives the trials of the phase that runs; None between two phases.
        phase: the phase that runs or comes next, as `KindFacts` counts them; 0 before the first.
        state_changed: called when the study waits, or waits no longer.
    """

    plan: "Plan"
    folder: StudyFolder
    ledger: "Ledger"
    stopper: "StudyStopper"
    clock: "StudyClock"
    view: StudyView
    most: int
    share: int | None
    state_changed: Callable[[], None]
    paused: bool = field(init=False)
    searcher: "GatedSearcher | None" = field(default=None, init=False)
    phase: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.paused = is_paused(self.ledger.orders.values())

    @property
    def allowed(self) -> int:
        """Returns how many trials may run at once while nobody pauses the study."""
        return self.most if self.share is None else min(self.most, self.share)

    def slots(self) -> int:
        return 0 if self.paused else self.allowed

    @property
    def searching(self) -> bool:
        """Returns whether the phase is the search."""
        return self.phase == TrialKind.SEARCH.facts.phase

    @property
    def in_search(self) -> bool:
        """Returns whether the search may still take a trial."""
        closed = self.searcher is not None and self.searcher.closed
        return self.searching and not (self.stopper.ended or closed)

    @property
    def open_phase(self) -> int | None:
        """Returns the phase that runs and may still take a trial; None if there is none."""
        takes = self.searcher is not None and not self.searcher.closed
        return self.phase if takes and not self.stopper.stop_all() else None

    def known(self) -> KnownStudy:
        """Gathers what the check of an order reads: the request, the rows, what runs and the earlier orders."""
        return KnownStudy(
            folder=self.folder,
            spec=self.plan.spec,
            rows=self.ledger.rows,
            running=self.ledger.running,
            orders=self.ledger.orders.values(),
            in_queue=self.share is not None,
            paused=self.paused,
            ended=bool(search_ended_by(self.ledger.orders.values())),
            count=self.plan.count,
        )

    def stand(self) -> None:
        """Lets the study's clock go on if trials may run; where none may, it stops once none runs."""
        if self.slots():
            self.clock.stand(False)
        self.state_changed()
