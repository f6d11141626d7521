"""Defines what is submitted to the queue, and what the queue keeps and answers of it."""

import json
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from krona_tune.api.folders import refuse_odd
from krona_tune.record.orders import LATEST
from krona_tune.search.start_options import SENT, StartOptions
from krona_tune.study.order import TrialId
from krona_tune.study.request.field_types import MOST
from krona_tune.study.request.trial import MOST_SEEDS

QUEUE = "/api/queue"
"""The path of the queue."""
LEAST_PRIORITY, MOST_PRIORITY = 1, 10
LONGEST_SPACE = 100_000
"""The most characters of a request's YAML: packed, it is a word of a command."""
MOST_SERVICES, MOST_GIVEN = 10, 200

Priority = Annotated[int, Field(ge=LEAST_PRIORITY, le=MOST_PRIORITY)]
"""A study's weight among the others: one of priority 2 gets twice the slots of one of priority 1."""
Moment = Annotated[float, Field(ge=0, lt=LATEST)]
Address = Annotated[str, StringConstraints(max_length=2_000, pattern=r"^[^\x00-\x1f\x7f]*$")]
ShortText = Annotated[str, StringConstraints(min_length=1, max_length=200)]
EntryState = Literal["queued", "running", "finished", "stopped", "halted", "removed"]
"""`stopped`: a person ended its driver. `halted`: it could not go on; the reason says why. The last four are ends."""
LIVE: tuple[EntryState, ...] = ("queued", "running")
"""The states in which an entry has a place in the queue."""


def _in_whole_characters(value: JsonValue) -> JsonValue:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("a text has half of a character") from error
    return value


class RequestValue(BaseModel):
    """A value for a key of a request."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    key: ShortText
    """The key, as in study.yaml: `adapter.scale`."""
    value: Annotated[JsonValue, AfterValidator(_in_whole_characters)]
    """Its value, as in study.yaml."""
    by: ShortText
    """What gave it, which a refusal names: `--trials`, or `--set adapter.scale`."""


class Submission(BaseModel):
    """Asks the queue to run a study, or only for its plan."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: Annotated[str, StringConstraints(max_length=255)]
    """The study's name; its folder is named after it."""
    space: Annotated[str, StringConstraints(max_length=LONGEST_SPACE)] = ""
    """The YAML of the whole study, as `krona-tune run` takes it with `--space`. If values are given without it, one is
    picked for the machine of the service, or made for it and the model and data that are given."""
    given: Annotated[tuple[RequestValue, ...], Field(max_length=MOST_GIVEN)] = ()
    """The values that a person gave beside the space."""
    priority: Priority = LEAST_PRIORITY
    """From 1 to 10: a study of priority 2 gets twice the slots of one of priority 1."""
    tracking_uri: Address | None = None
    """An MLflow server for the trials; None: a file beside the studies."""
    notify: Annotated[tuple[Address, ...], Field(max_length=MOST_SERVICES)] = ()
    """Addresses of services to tell how the study goes."""
    only_plan: bool = False
    """Whether only the plan is returned, and nothing is queued."""


def start_of(asked: Submission) -> StartOptions:
    """Returns the options of a start that a submission holds."""
    return StartOptions(**{option: getattr(asked, option) for option in SENT})


class Move(BaseModel):
    """Another priority for a study of the queue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    priority: Priority


class Resumption(BaseModel):
    """Asks the queue to resume a study of its storage, with more trials or more time if they are given."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: Annotated[str, StringConstraints(max_length=255)]
    """The study's name."""
    trials: Annotated[int, Field(ge=0, le=MOST)] = 0
    """How many more trials each task gets."""
    time_budget: Annotated[str, StringConstraints(max_length=20)] = ""
    """The new time budget of the whole study, such as 2h; empty: it stays."""
    priority: Priority = LEAST_PRIORITY
    """The priority of a study that the queue does not know yet."""


class TrainingRequest(BaseModel):
    """Asks the queue to train what a study has chosen again on all training examples, or on all data."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: Annotated[str, StringConstraints(max_length=255)]
    """The study's name."""
    task: TrialId = ""
    """Whose chosen configuration is trained; empty: that of the only task."""
    trial: TrialId = ""
    """A trial whose configuration is trained instead."""
    all_data: bool = False
    """Whether validation and test are trained on too; then nothing is held out."""
    seeds: Annotated[int, Field(ge=1, le=MOST_SEEDS)] = 1
    """How many seeds to train with."""
    priority: Priority = LEAST_PRIORITY
    """Its priority in the queue."""

    @property
    def words(self) -> list[str]:
        """Returns what follows `krona-tune train NAME`."""
        given = {"--task": self.task, "--trial": self.trial, "--seeds": str(self.seeds)}
        flags = ["--all-data"] if self.all_data else []
        return [*(word for flag, value in given.items() if value for word in (flag, value)), *flags]


def _refuse_no_name(name: str) -> str:
    refuse_odd(name)  # a folder is named after it
    return name


class Entry(BaseModel):
    """A study in the queue. Times are seconds since the epoch, None if that has not happened.

    `training` holds the words behind `krona-tune train NAME` if it is a full training, and is empty if it is a search.
    `slots` is how many trials the queue lets it run at once now, `restarts` how often a driver was started again,
    `reason` why it ended or is about to; `removed_by` names who asked to remove it while it ran.
    """

    model_config = ConfigDict(frozen=True)

    id: int
    name: Annotated[str, AfterValidator(_refuse_no_name)]
    person: str
    priority: Priority
    state: EntryState
    slots: Annotated[int, Field(ge=0)] = 0
    restarts: int = 0
    submitted_at: Moment
    began_at: Moment | None = None
    ended_at: Moment | None = None
    reason: str = ""
    removed_by: str = ""
    training: str = ""

    @property
    def live(self) -> bool:
        return self.state in LIVE

    @property
    def text(self) -> str:
        """Returns the state in words: a study that runs with no slot waits for one, unless somebody has removed it or
        there is another reason."""
        if self.state == "running" and self.removed_by:
            return "ends soon"
        if self.state == "running" and not self.slots:
            return "waits" if self.reason else "waits for slots"
        return self.state


class SubmissionAnswer(BaseModel):
    """The answer to a submission: its place in the queue, None if only the plan was asked for, and the plan's lines."""

    entry: Entry | None
    plan: dict[str, str]


class SlotChange(BaseModel):
    """Says how many slots a study had from this moment on (seconds since the epoch)."""

    at: Moment
    id: int
    name: str
    slots: Annotated[int, Field(ge=0)]


class QueueView(BaseModel):
    """The queue as it is now: entries with a place, the most urgent first, then those that ended, the last first.

    `capacity` says what the slots are made of, such as `2 CPUs`; empty if that is not known yet, and then `problem`
    says why. `changes` are those of the last day, `device_hours` what each person's studies of this storage have used.
    """

    entries: list[Entry]
    capacity: str
    problem: str = ""
    limits: dict[str, int] = {}
    changes: list[SlotChange] = []
    device_hours: dict[str, float] = {}
