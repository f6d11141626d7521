"""Holds an order to a study: what somebody asks of it while it runs, and what became of that.

`OrderKind` has a row for each kind of order. What a driver does with it is a row of `krona_tune.search.order_table`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, ValidationError, model_validator

from krona_tune.refusal import Refusal, shown
from krona_tune.study.frozen_value import FactsEnum, FrozenValue

SEARCH = "search"
"""What goes on by an order to continue, if the search was ended and the study is not paused."""
MOST_SETTINGS = 20
"""The most changes that an order to clone a trial may make."""


@dataclass(frozen=True, kw_only=True)
class OrderControl:
    """Says how the page of a running study offers an order: a button, or a field with a button beside it.

    Attributes:
        says: what the button says.
        question: what the page asks before it gives the order; empty: nothing.
        offered: returns whether it is there, by the study's `StudyState`.
        label: what the field for the value is called; empty: there is no field.
        pattern: a regular expression of what may be written there, as HTML has them.
        placeholder: an example that stands there.
        prefix: what comes before a value that lacks it.
    """

    says: str
    question: str = ""
    offered: Callable[[Any], bool] = lambda state: True
    label: str = ""
    pattern: str = ""
    placeholder: str = ""
    prefix: str = ""


@dataclass(frozen=True, kw_only=True)
class OrderFacts:
    """Holds what everybody must know of a kind of order.

    Attributes:
        takes: the fields of a request that it names: a trial, a value, or what changes in a trial's settings.
        example: what is written behind its word on the command line.
        by_queue: only the queue of studies gives it.
        of_a_driver: it means one driver; the next one refuses it.
        in_full_training: a driver that only trains a configuration on all examples answers it, too.
        brings_trials: a study of which nothing is left may have trials to train by it.
        control: how the page offers it; None if it does not, or in a dialog of its own.
    """

    takes: tuple[Literal["trial", "value", "settings"], ...] = ()
    example: str = ""
    by_queue: bool = False
    of_a_driver: bool = False
    in_full_training: bool = False
    brings_trials: bool = False
    control: OrderControl | None = None


class OrderKind(FactsEnum):
    """A kind of order; its value stands in the records.

    `stop` ends the search and trains the finalists, `cancel` ends the driver, `retry` lets trials go on that an error
    or a lack of memory ended. The value of `trials` is how many more a task gets (`+20`), of `max_concurrent` how many
    run at once, of `time_budget` the new one (`2h`); of `share` how many a queue of studies lets run at once as long as
    this driver runs (0: all wait).
    """

    facts: OrderFacts

    STOP_TRIAL = "stop_trial", OrderFacts(takes=("trial",), example="cola-003", control=OrderControl(says="Stop"))
    CLONE_TRIAL = "clone_trial", OrderFacts(takes=("trial", "settings"), example="cola-003", brings_trials=True)
    PAUSE = (
        "pause",
        OrderFacts(in_full_training=True, control=OrderControl(says="Pause", offered=lambda state: not state.paused)),
    )
    CONTINUE = (
        "continue",
        OrderFacts(
            in_full_training=True,
            brings_trials=True,
            control=OrderControl(says="Continue", offered=lambda state: state.paused),
        ),
    )
    STOP = (
        "stop",
        OrderFacts(
            control=OrderControl(
                says="Stop the search…", question="Stop the search? The finalists are then trained, and the study ends."
            )
        ),
    )
    CANCEL = (
        "cancel",
        OrderFacts(
            of_a_driver=True,
            in_full_training=True,
            control=OrderControl(
                says="Cancel…", question="Cancel the study? Its trials are interrupted. It can be resumed."
            ),
        ),
    )
    RETRY = (
        "retry",
        OrderFacts(
            brings_trials=True,
            control=OrderControl(
                says="Retry what failed…",
                question="Let the trials go on that failed or ran out of memory?",
                offered=lambda state: state.failed > 0,
            ),
        ),
    )
    TRIALS = (
        "trials",
        OrderFacts(
            takes=("value",),
            example="+20",
            brings_trials=True,
            control=OrderControl(
                says="Add", label="More trials for each task", pattern=r"\+?[0-9]{1,6}", placeholder="+20", prefix="+"
            ),
        ),
    )
    MAX_CONCURRENT = (
        "max_concurrent",
        OrderFacts(
            takes=("value",),
            example="4",
            control=OrderControl(says="Set", label="Most trials at once", pattern="[0-9]{1,7}", placeholder="2"),
        ),
    )
    TIME_BUDGET = (
        "time_budget",
        OrderFacts(
            takes=("value",),
            example="2h",
            brings_trials=True,
            control=OrderControl(
                says="Set", label="Time budget of the whole study", pattern="[0-9][0-9a-z.]{0,18}", placeholder="2h"
            ),
        ),
    )
    SHARE = (
        "share",
        OrderFacts(takes=("value",), example="2", by_queue=True, of_a_driver=True, in_full_training=True),
    )

    @property
    def word(self) -> str:
        """Returns what people write for it; `stop` is also that of `stop_trial`, which names a trial."""
        return self.value.removesuffix("_trial").replace("_", "-")


def order_controls(state: Any, *takes: str) -> list[tuple[OrderKind, OrderControl]]:
    """Returns the orders that the page offers in a study's `StudyState`, of those that name just these fields."""
    found = [(kind, kind.facts.control) for kind in OrderKind if kind.facts.control and kind.facts.takes == takes]
    return [(kind, control) for kind, control in found if control.offered(state) and not state.waits(kind)]


FOR_PEOPLE = tuple(kind for kind in OrderKind if not kind.facts.by_queue)
"""The kinds of orders that people give."""
OF_A_DRIVER = tuple(kind for kind in OrderKind if kind.facts.of_a_driver)
"""The orders that mean one driver; the next one refuses them."""
OF_A_FULL_TRAINING = tuple(kind for kind in OrderKind if kind.facts.in_full_training)
"""The orders that a full training answers; the others wait for the next driver of the search."""
if TYPE_CHECKING:
    What = str
else:
    What = Literal[tuple(kind.value for kind in OrderKind)]
"""The name of a kind of order."""

TrialId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{0,120}$")]
Assignment = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]{1,60}=[^\x00-\x1f\x7f]{1,120}$")]
Value = Annotated[str, StringConstraints(pattern=r"^[+0-9a-z. ]{0,20}$")]
Person = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{0,80}$")]
OrderId = Annotated[str, StringConstraints(pattern=r"^[0-9TZ]{1,30}-[0-9a-f]{6,32}$")]
OrderState = Literal["waiting", "taken", "done", "refused"]
"""`waiting`: no driver has read it. `taken`: it will take effect, also if the driver is killed. The others are ends."""


class OrderRequest(FrozenValue):
    """Holds what somebody asks of a study."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    what: What
    """The kind of order, such as stop_trial, pause or trials."""
    trial: TrialId = ""
    """The trial to stop or to clone; empty for an order that is about no trial."""
    settings: Annotated[tuple[Assignment, ...], Field(max_length=MOST_SETTINGS)] = ()
    """What a clone changes, such as `training.learning_rate=0.001`."""
    from_last_rung: bool = False
    """Whether a clone starts from the state of the trial's last rung instead of from nothing."""
    value: Value = ""
    """What an order sets, such as +20 for trials, 4 for max_concurrent or 2h for time_budget."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        takes = self.kind.facts.takes
        for field in ("trial", "value"):
            given = bool(getattr(self, field))
            if given != (field in takes):
                raise ValueError(f"{self.what} takes no {field}" if given else f"{self.what} needs a {field}")
        if "settings" not in takes and (self.settings or self.from_last_rung):
            raise ValueError(f"{self.what} changes no settings")
        return self

    @property
    def kind(self) -> OrderKind:
        """Returns the kind of order with what everybody must know of it."""
        return OrderKind(self.what)  # type: ignore[call-arg]

    @property
    def text(self) -> str:
        """Returns the order in words, such as `clone cola-003 training.learning_rate=0.001`."""
        words = [self.kind.word, self.trial, *self.settings, self.value]
        return " ".join(filter(None, [*words, "from its last rung" if self.from_last_rung else ""]))


WRITTEN = {
    "trial": "name a trial, such as cola-003",
    "settings": "write each change as NAME=VALUE, such as training.learning_rate=0.001",
    "value": "write "
    + " or ".join(f"{kind.facts.example} for {kind}" for kind in FOR_PEOPLE if "value" in kind.facts.takes),
}
"""What is written in a field of a request, as the fix of a refusal."""


def order_request(**given: Any) -> OrderRequest:
    """Returns what somebody asks. Raises a Refusal if it makes no sense."""
    try:
        return OrderRequest(**given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["order", *map(str, first["loc"])])
        if first["type"] == "string_pattern_mismatch" and (fix := WRITTEN.get(str(first["loc"][0]))):
            raise Refusal(place, f"{shown(first['input'])} is refused", fix) from None
        raise Refusal(place, first["msg"].removeprefix("Value error, "), "see krona-tune order --help") from None


class Order(FrozenValue):
    """An order and what became of it: one row in the records. Times are seconds since the epoch.

    `by` is whoever gave it. `made` is what it made: the trial that a clone is, the new value of a setting, or for
    `continue` what goes on, the `study` or its `search`. `outcome` says in words what it changed, or why it was
    refused. `what` is `unreadable` if the order's file was damaged; then nothing else is known of it.
    """

    id: OrderId
    what: str
    trial: str = ""
    settings: tuple[str, ...] = ()
    from_last_rung: bool = False
    value: str = ""
    by: Person = ""
    given_at: float = 0.0
    state: OrderState = "waiting"
    outcome: str = ""
    made: str = ""
    ended_at: float | None = None

    @property
    def request(self) -> OrderRequest | None:
        """Returns what was asked; None if that is not known."""
        if self.what not in tuple(OrderKind):
            return None
        return OrderRequest(**{name: getattr(self, name) for name in OrderRequest.model_fields})

    @property
    def is_left(self) -> bool:
        """Returns whether no driver has carried it out yet, and the next one may have trials to train by it."""
        waits, request = self.state in {"waiting", "taken"}, self.request
        return waits and request is not None and request.kind.facts.brings_trials

    @property
    def text(self) -> str:
        request = self.request
        return request.text if request else self.what

    def row(self) -> dict[str, Any]:
        return self.model_dump()


def last_done(orders: Iterable[Order], *kinds: OrderKind) -> Order | None:
    """Returns the order of one of these kinds that was done last; None if none was."""
    done = [order for order in orders if order.what in kinds and order.state == "done"]
    return max(done, key=lambda order: order.ended_at or 0.0, default=None)


def is_paused(orders: Iterable[Order]) -> bool:
    """Returns whether a study waits until somebody lets it go on."""
    last = last_done(orders, OrderKind.PAUSE, OrderKind.CONTINUE)
    return last is not None and last.what == OrderKind.PAUSE


def stops_after(orders: Iterable[Order], left: Iterable[Order]) -> int:
    """Returns how many orders to continue a study needs, for its pause and for the end of its search, once its next
    driver has carried out what is left.

    Args:
        orders: the orders of the records.
        left: those that no driver has carried out, in the order in which they were given.
    """
    orders = list(orders)
    paused, ended = is_paused(orders), bool(search_ended_by(orders))
    for order in left:
        if order.what == OrderKind.CONTINUE:
            paused, ended = False, ended and paused
        else:
            paused, ended = paused or order.what == OrderKind.PAUSE, ended or order.what == OrderKind.STOP
    return paused + ended


def search_ended_by(orders: Iterable[Order]) -> str:
    """Returns who ordered the end of a study's search, if nobody let it go on since; else an empty text."""
    ends = [order for order in orders if order.what == OrderKind.STOP or order.made == SEARCH]
    done = last_done(ends, OrderKind.STOP, OrderKind.CONTINUE)
    return done.by if done is not None and done.what == OrderKind.STOP else ""
