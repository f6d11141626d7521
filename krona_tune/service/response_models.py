"""Defines what the service answers to programs."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from krona_tune.report.running_trials import RunningTrial
from krona_tune.study.order import Order
from krona_tune.study.study_state import DriverState, StateWord

MOST_ROWS = 1_000
"""The most rows that one answer holds."""
PREDICT = "/predict"
"""The path to which examples are sent."""
MOST_EXAMPLES = 1_024
"""The most examples of one request."""


class Problem(BaseModel):
    """Holds what is wrong with a request: its place, the problem, and how to mend it."""

    place: str
    problem: str
    fix: str


class Version(BaseModel):
    """The service's version of krona_tune."""

    version: str


class StudySummary(BaseModel):
    """Holds how far a study is and what it has found. `trials` counts those of its plan, `ended` those that have ended;
    both are null if that is not known. `best` and `head_only` are averages over tasks on validation, without those
    of several whose scores have no mean with others, such as losses; numbers of a
    `synthetic` study come from generated data. `problem` says what of the study can't be read. `begun` is an ISO time,
    `begun_by` who began it, if that was recorded. `verdicts` are the sentences of its page on what was learned, which
    seeds failed and what can't be told apart. `winners` are by task the trials that won, `chosen` those whose adapters
    are to be used. `tasks` are the names that other calls take, `titles` what pages call them.
    """

    name: str
    state: StateWord
    problem: str = ""
    tasks: list[str] = []
    titles: list[str] = []
    trials: int | None = None
    ended: int | None = None
    seconds_left: float | None = None
    best: float | None = None
    head_only: float | None = None
    synthetic: bool = False
    device_seconds: float | None = None
    begun: str = ""
    begun_by: str = ""
    verdicts: list[str] = []
    winners: dict[str, str] = {}
    chosen: dict[str, str] = {}


class StudyDetail(StudySummary):
    """A study with what runs now, every order, and what its driver wrote last (null if none runs)."""

    running: list[RunningTrial]
    orders: list[Order]
    driver: DriverState | None


class Rows(BaseModel):
    """Some rows of a table, of `total` in all, from `offset` on. What is no finite number is null."""

    total: int
    offset: int
    rows: list[dict[str, Any]]


class GivenExamples(BaseModel):
    """Examples to be answered: objects with the task's texts by their names. Whatever else they hold is given back."""

    model_config = ConfigDict(extra="forbid")

    examples: list[dict[str, Any]] = Field(min_length=1, max_length=MOST_EXAMPLES)


class GivenAnswers(BaseModel):
    """The answers in the order of their examples. Each holds what its example has beside its texts, and a `prediction`:
    a label, a number of a regression, or a text; of a task with labels also their `probabilities`, by label.
    """

    answers: list[dict[str, Any]]
