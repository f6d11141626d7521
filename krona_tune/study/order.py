"""Holds an order to a study: what somebody asks of it while it runs, and what became of that."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, StringConstraints, ValidationError, model_validator

from krona_tune.refusal import Refusal
from krona_tune.study.request.trial import Frozen

What = Literal[
    "stop_trial",
    "clone_trial",
    "pause",
    "continue",
    "stop",
    "cancel",
    "trials",
    "max_concurrent",
    "time_budget",
    "share",
]
"""What can be ordered. `stop` ends the search and trains the finalists, `cancel` ends the driver; a `share` is what a
queue of studies leaves to this driver."""
OF_A_TRIAL = ("stop_trial", "clone_trial")
"""The orders that name a trial."""
WITH_A_VALUE = ("trials", "max_concurrent", "time_budget", "share")
"""The orders that name a value: how many more trials a task (`+20`), how many at once, the new time budget (`2h`), how
many at once as long as this driver runs (0: all wait)."""
OF_A_DRIVER = ("cancel", "share")
"""The orders that mean one driver; the next one refuses them."""
SEARCH = "search"
"""What goes on by an order to continue, if the search was ended and the study is not paused."""
MOST_SETTINGS = 20
"""The most changes that an order to clone a trial may make."""

TrialId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{0,120}$")]
Setting = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]{1,60}=[^\x00-\x1f\x7f]{1,120}$")]
Value = Annotated[str, StringConstraints(pattern=r"^[+0-9a-z. ]{0,20}$")]
Person = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{0,80}$")]
OrderId = Annotated[str, StringConstraints(pattern=r"^[0-9TZ]{1,30}-[0-9a-f]{6,32}$")]
State = Literal["waiting", "taken", "done", "refused"]
"""`waiting`: no driver has read it. `taken`: it will take effect, also if the driver is killed. The others are ends."""


class OrderRequest(Frozen):
    """What somebody asks of a study.

    `trial` is the trial to stop or to clone, `settings` are the clone's changes such as `training.learning_rate=0.001`;
    `from_last_rung`: it starts from the state of the trial's last rung instead of from nothing.
    """

    what: What
    trial: TrialId = ""
    settings: Annotated[tuple[Setting, ...], Field(max_length=MOST_SETTINGS)] = ()
    from_last_rung: bool = False
    value: Value = ""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for field, orders in (("trial", OF_A_TRIAL), ("value", WITH_A_VALUE)):
            given = bool(getattr(self, field))
            if given != (self.what in orders):
                raise ValueError(f"{self.what} takes no {field}" if given else f"{self.what} needs a {field}")
        if self.what != "clone_trial" and (self.settings or self.from_last_rung):
            raise ValueError(f"{self.what} changes no settings")
        return self

    @property
    def said(self) -> str:
        """Returns the order in words, such as `clone cola-003 training.learning_rate=0.001`."""
        words = [self.what.removesuffix("_trial").replace("_", "-"), self.trial, *self.settings, self.value]
        return " ".join(filter(None, [*words, "from its last rung" if self.from_last_rung else ""]))


def order_request(**given: Any) -> OrderRequest:
    """Returns what somebody asks. Raises a Refusal if it makes no sense."""
    try:
        return OrderRequest(**given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["order", *map(str, first["loc"])])
        raise Refusal(place, first["msg"].removeprefix("Value error, "), "see krona-tune order --help") from None


class Order(Frozen):
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
    state: State = "waiting"
    outcome: str = ""
    made: str = ""
    ended_at: float | None = None

    @property
    def request(self) -> OrderRequest | None:
        """Returns what was asked; None if that is not known."""
        if self.what not in get_args(What):
            return None
        return OrderRequest(**{name: getattr(self, name) for name in OrderRequest.model_fields})

    @property
    def said(self) -> str:
        request = self.request
        return request.said if request else self.what

    def row(self) -> dict[str, Any]:
        return self.model_dump()


def last_done(orders: Iterable[Order], *kinds: What) -> Order | None:
    """Returns the order of one of these kinds that was done last; None if none was."""
    done = [order for order in orders if order.what in kinds and order.state == "done"]
    return max(done, key=lambda order: order.ended_at or 0.0, default=None)


def is_paused(orders: Iterable[Order]) -> bool:
    """Returns whether a study waits until somebody lets it go on."""
    last = last_done(orders, "pause", "continue")
    return last is not None and last.what == "pause"


def search_ended_by(orders: Iterable[Order]) -> str:
    """Returns who ordered the end of a study's search, if nobody let it go on since; else an empty text."""
    done = last_done([order for order in orders if order.what == "stop" or order.made == SEARCH], "stop", "continue")
    return done.by if done is not None and done.what == "stop" else ""
