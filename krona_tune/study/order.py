"""Holds an order to a study: what somebody asks of it while it runs, and what became of that."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, StringConstraints, model_validator

from krona_tune.study.spec.trial import Frozen

What = Literal[
    "stop_trial", "clone_trial", "pause", "continue", "stop", "cancel", "trials", "max_concurrent", "time_budget"
]
"""What can be ordered. `stop` ends the search and trains the finalists, `cancel` ends the driver."""
OF_A_TRIAL = ("stop_trial", "clone_trial")
"""The orders that name a trial."""
WITH_A_VALUE = ("trials", "max_concurrent", "time_budget")
"""The orders that name a value: how many more trials a task (`+20`), how many at once, the new time budget (`2h`)."""
MOST_SETTINGS = 20
"""The most changes that an order to clone a trial may make."""

TrialId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{0,120}$")]
Setting = Annotated[str, StringConstraints(pattern=r"^[a-z_.]{1,60}=[^\x00-\x1f\x7f]{1,120}$")]
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


class Order(Frozen):
    """An order and what became of it: one row in the records. Times are seconds since the epoch.

    `by` is whoever gave it. `made` is the trial that a clone is. `outcome` says in words what it changed, or why it was
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
