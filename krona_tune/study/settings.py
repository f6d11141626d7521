"""Holds one row for each setting of a study that has a flag: its key, its words, and who may change it later."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from os import PathLike
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, get_args, get_origin

from krona_tune.study.request.deploy_target import WORDS

SEARCHED, BUDGET, RESOURCES, KEPT = "What is searched", "Budget", "Resources", "Where it is kept"
BEGIN = "Begin, resume"
"""The panels of `--help`; in the last one stands what is no setting."""
MOST_DIGITS = 9
"""The most digits that a number of trials may have."""


def number_of_trials(given: Any) -> Any:
    """Returns digits as a number. What else is given stays as it is: a resumed study takes +20, none takes a word."""
    text = str(given)
    return int(text) if text.isdecimal() and len(text) <= MOST_DIGITS else given


def with_more_trials(given: Any, now: int) -> int | None:
    """Returns how many trials a study that has `now` gets by what is given, such as 40 or +20; None if that is no
    number of trials, or +0."""
    text = str(given).strip()
    number, more = number_of_trials(text.removeprefix("+")), text.startswith("+")
    return number + now * more if isinstance(number, int) and (number or not more) else None


class Setting(NamedTuple):
    """Holds what is true of one setting.

    Attributes:
        panel: the panel of `--help` that its flag stands in.
        key: its dotted path in study.yaml.
        help: what `--help` says of it.
        off: the flag that sets it to false, if it is a switch.
        read: returns the value that study.yaml gets for what a flag or a keyword gives.
        changed_by: what may give it another value once its study has begun; an order also does while it runs.
    """

    panel: str
    key: str
    help: str
    off: str = ""
    read: Callable[[Any], Any] = lambda given: given
    changed_by: Literal["nothing", "resume", "order"] = "nothing"

    @property
    def changes(self) -> bool:
        """Returns whether a resumed study takes another value of it."""
        return self.changed_by != "nothing"


searched = partial(Setting, SEARCHED)
budget = partial(Setting, BUDGET, changed_by="order")
resource = partial(Setting, RESOURCES, changed_by="resume")
kept = partial(Setting, KEPT)
"""Make the row of a setting of each panel."""


class Keywords(TypedDict, total=False):
    """The settings that are keywords of `Study` and, with hyphens, flags of the command line.

    A type is what Python takes. The flag takes text where Python takes text or more, else the same.
    """

    data: Annotated[str | None, searched("data", "GLUE's data: hub, mini (synthetic), or a folder of TSV or Parquet.")]
    trials: Annotated[
        int | str | None,
        budget("search.trials", "Trials for each task; +20 adds 20 to a study that is resumed.", read=number_of_trials),
    ]
    seed: Annotated[int | None, searched("seed", "The seed of everything random.")]
    max_params: Annotated[
        int | str | None,
        searched("search.max_params", "Search adapters of at most this many parameters: 200000 or 0.1%."),
    ]
    time_budget: Annotated[
        float | str | None, budget("search.time_budget", "Stop the study after this time: 90s, 20min, 2h, 2d.")
    ]
    cpus_per_trial: Annotated[
        float | None, resource("resources.cpus_per_trial", "CPU cores of one trial; the default is 1.")
    ]
    gpus_per_trial: Annotated[
        float | None,
        resource("resources.gpus_per_trial", "GPUs of one trial; a share such as 0.5 puts two trials on one GPU."),
    ]
    max_concurrent: Annotated[
        int | None,
        resource("resources.max_concurrent", "Run at most this many trials at once.", changed_by="order"),
    ]
    price: Annotated[
        float | None,
        resource("resources.price_per_hour", "The price of a device hour, in your currency; shows what a study costs."),
    ]
    warm_start: Annotated[
        str | PathLike[str] | Sequence[str | PathLike[str]] | None,
        searched(
            "search.warm_start",
            "Learn from this study, .parquet file of curves, or recorded-curves. May be repeated. none: nothing.",
        ),
    ]
    objective: Annotated[
        str | None, searched("search.objective", "score, or pareto: the best score at every number of parameters.")
    ]
    shared: Annotated[
        bool | None,
        searched(
            "search.shared",
            "Search one adapter for all tasks, judged by its average; or one for each task.",
            off="--per-task",
        ),
    ]
    deploy: Annotated[
        str | Sequence[str] | None,
        searched("deploy", f"Search only what these hold exactly: {', '.join(WORDS)}."),
    ]
    experiment: Annotated[
        str | None, kept("experiment", "Put the runs into this experiment of MLflow, beside those of other studies.")
    ]


SETTINGS: dict[str, Setting] = {
    "tasks": searched(
        "tasks",
        "glue for the eight tasks, names such as cola,sst2, FILE.csv:TEXT:LABEL with its columns, or a YAML file of "
        "your own tasks.",
    ),
    "model": searched("model", "A hub name or a local folder."),
    **{name: kind.__metadata__[0] for name, kind in Keywords.__annotations__.items()},
}
"""By keyword. From Python, tasks and the model may also be objects in memory, so `Study` itself has these two."""
TAKES_SEVERAL = frozenset(
    name
    for name, kind in Keywords.__annotations__.items()
    if any(get_origin(each) is Sequence for each in get_args(kind.__origin__))
)
"""The keywords that take a list, of which an empty one is as none."""
CHANGEABLE = (
    *(row.key for row in SETTINGS.values() if row.changes),
    "search.examples_budget",
    "search.device_hours",
    "resources.nice",
    "resources.stored_states_gb",
    "resources.keep_checkpoints",
)
"""The keys that may change in a resumed study: of settings with a flag, and of others."""
ORDERED = {name: row.key for name, row in SETTINGS.items() if row.changed_by == "order"}
"""The keys that an order may change while a study runs, by what the order is called."""


def flag_of(name: str, value: Any = True) -> str:
    """Returns the flag of the command line that gives a setting a value."""
    off = SETTINGS[name].off
    return off if off and value is False else as_flag(name)


def as_flag(name: str) -> str:
    """Returns the flag of the command line that has the name of a keyword."""
    return f"--{name.replace('_', '-')}"


FLAGS = {flag_of(name, value): row for name, row in SETTINGS.items() for value in (True, False)}
"""The settings by their flags, of a switch by both."""


def field_names(fields: Iterable[str]) -> dict[str, str]:
    """Returns what a request with these fields calls what flags give: its field, else the key of study.yaml."""
    return {flag: row.key for flag, row in FLAGS.items()} | {as_flag(name): name for name in fields}
