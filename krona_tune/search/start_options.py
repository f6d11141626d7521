"""Holds one row for each option of a start of a study: its flag, its words, and what is refused of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict, get_args, get_type_hints

from krona_tune.record.mlflow_mirror.tracking_uri import TRACKING, refuse_no_store
from krona_tune.record.notifications import NOTIFY, joined_addresses, refuse_unknown_services
from krona_tune.record.wandb_sink import refuse_no_account
from krona_tune.search.startup.cluster import refuse_odd_address
from krona_tune.study.request.field_types import listed
from krona_tune.study.settings import BEGIN, KEPT, RESOURCES, as_flag


@dataclass(frozen=True)
class StartOption:
    """Holds what is true of one option of a start.

    Attributes:
        panel: the panel of `--help` that its flag stands in.
        help: what `--help` says of it.
        metavar: what stands for its value in `--help`; empty: its type.
        hidden: `--help` leaves it out, because only a queue gives it.
        least: the least value of a number.
        refuse: raises a Refusal if no study can be started with a value.
        variable: the environment variable that gives it too. Another process is told the value there, because it may
            hold a password, and whoever lists processes sees their words.
        in_variable: returns what the variable holds for a value.
    """

    panel: str
    help: str
    metavar: str = ""
    hidden: bool = False
    least: int | None = None
    refuse: Callable[[Any], None] = lambda value: None
    variable: str = ""
    in_variable: Callable[[Any], str] = lambda value: value or ""


class StartKeywords(TypedDict, total=False):
    """The options of a start that are keywords of `Study`, as Python takes them."""

    address: str | None
    tracking_uri: str | None
    notify: str | Sequence[str] | None
    wandb: str | None


@dataclass(frozen=True, kw_only=True)
class StartOptions:
    """Holds the options of each start of a study, which no study keeps. Each field is a row and a flag."""

    address: Annotated[
        str | None,
        StartOption(
            RESOURCES,
            "Join a Ray cluster: auto, or host:6379. Without it Ray starts on this machine.",
            refuse=refuse_odd_address,
        ),
    ] = None
    tracking_uri: Annotated[
        str | None,
        StartOption(
            KEPT,
            "An MLflow server; without it, mlflow.db beside the studies.",
            refuse=refuse_no_store,
            variable=TRACKING,
        ),
    ] = None
    notify: Annotated[
        Sequence[str],
        StartOption(
            KEPT,
            "Tell a service that apprise knows, such as slack://…, of the end, a halt, a first success and failures.",
            metavar="URL",
            refuse=refuse_unknown_services,
            variable=NOTIFY,
            in_variable=joined_addresses,
        ),
    ] = ()
    wandb: Annotated[
        str | None,
        StartOption(
            KEPT,
            "Also send the trials to this project of Weights & Biases.",
            metavar="PROJECT",
            refuse=refuse_no_account,
        ),
    ] = None
    quiet: Annotated[bool, StartOption(BEGIN, "Print only the results, at the end.")] = False
    share: Annotated[
        int | None, StartOption(RESOURCES, "The most trials at once until an order changes it.", hidden=True, least=0)
    ] = None

    @classmethod
    def among(cls, given: Mapping[str, Any]) -> "StartOptions":
        """Returns the options that are among the keywords of a call; None gives none.

        Raises:
            Refusal: no study can be started with one of them.
        """
        own = {name: given[name] for name in START_OPTIONS if given.get(name) is not None}
        if "notify" in own:
            own["notify"] = tuple(listed(own["notify"]))
        options = cls(**own)
        options.refuse_odd()
        return options

    def refuse_odd(self) -> None:
        """Raises a Refusal if no study can be started with one of these."""
        for name, row in START_OPTIONS.items():
            row.refuse(getattr(self, name))

    def words(self) -> list[str]:
        """Returns the flags that tell the command of another process these options, but those with a variable."""
        named = {as_flag(name): getattr(self, name) for name, row in START_OPTIONS.items() if not row.variable}
        switches = [flag for flag, value in named.items() if value is True]
        values = {flag: value for flag, value in named.items() if value is not None and not isinstance(value, bool)}
        return [*(word for flag, value in values.items() for word in (flag, str(value))), *switches]

    def environment(self) -> dict[str, str]:
        """Returns the variables that tell another process the rest; an empty one hides what this process has."""
        rows = {name: row for name, row in START_OPTIONS.items() if row.variable}
        return {row.variable: row.in_variable(getattr(self, name)) for name, row in rows.items()}


SENT = ("tracking_uri", "notify")
"""The options that a study takes along to the queue of a service."""
KINDS: dict[str, Any] = get_type_hints(StartOptions, include_extras=True)
"""The annotated type of each option, by its name."""
START_OPTIONS: dict[str, StartOption] = {name: get_args(kind)[1] for name, kind in KINDS.items()}
"""By name."""
