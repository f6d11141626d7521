"""Holds one row for each field of the form that begins a study: its words, what it may be, which refusals are about it.

The page, REST and the Python client share it. Nothing here needs a package of the service's.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from krona_tune.refusal import Refusal
from krona_tune.refused_calls import in_fields
from krona_tune.service.queue.entry import LEAST_PRIORITY, MOST_PRIORITY, Priority
from krona_tune.study.settings import SETTINGS, field_names

OFFER, COLUMNS, PLAN, BEGIN = "/api/data", "/api/data/columns", "/api/plan", "/api/studies"
"""The paths of what the form offers and of a data file's columns, and those that a form is sent to."""
DataKind = Literal["mini", "glue", "file"]
"""The kinds of data: the synthetic miniature, a folder with GLUE's files, a file of one's own."""
FieldControl = Literal["text", "choice", "boxes", "column", "hidden"]
"""The kinds of a field: a text, one of several, any of several, a column of the data file, or nothing to fill in."""
LABELS, NUMBERS = "labels", "numbers"


class OfferedChoice(BaseModel):
    """Something that a field may be: its value, and what it is called."""

    value: str
    words: str


class OfferedData(OfferedChoice):
    """Data that a study may use; those of GLUE, and its miniature, with the tasks that are there."""

    kind: DataKind
    tasks: tuple[str, ...] = ()


class Offer(BaseModel):
    """Holds what a service offers to whoever begins a study there, by the field of the form.

    `left_out`: below the service's folders is more than is listed.
    """

    data: list[OfferedData]
    tasks: list[OfferedChoice]
    model: list[OfferedChoice]
    space: list[OfferedChoice]
    answers: list[OfferedChoice]
    deploy: list[OfferedChoice]
    left_out: bool = False


class DataColumns(BaseModel):
    """The names of a data file's columns."""

    columns: list[str]


class PrintedPlan(BaseModel):
    """A plan as `krona-tune run --dry-run` prints it, with the first examples of data of one's own."""

    text: str


@dataclass(frozen=True, kw_only=True)
class FormField:
    """Holds what is true of one field of the form.

    Attributes:
        words: what it is called.
        about: what is said below it.
        control: how it is filled in.
        kinds: the kinds of data that it is about.
        empty: what a choice of nothing is called; without it something must be chosen.
        placeholder: an example of a text.
    """

    words: str
    about: str = ""
    control: FieldControl = "text"
    kinds: tuple[DataKind, ...] = ("mini", "glue", "file")
    empty: str = ""
    placeholder: str = ""


def _setting(name: str, **more: Any) -> FormField:
    """Returns the row of a field that is a setting of its name, which has its words."""
    return FormField(about=SETTINGS[name].help.partition(";")[0].removesuffix(".") + ".", **more)


Text = Annotated[str, StringConstraints(max_length=4_096)]
ShortText = Annotated[str, StringConstraints(max_length=200)]
FormId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{0,64}$")]
WEIGHT = f"{LEAST_PRIORITY} to {MOST_PRIORITY}: one of priority 2 gets twice the slots of one of priority 1."


class NewStudy(BaseModel):
    """Asks for a study of what a service with `--data-root` offers, as its form does, and of nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, coerce_numbers_to_str=True)

    id: Annotated[FormId, FormField(words="Form", control="hidden")] = ""
    """A text of your own: what is sent again with the same one begins no second study."""
    name: Annotated[ShortText, FormField(words="Name")]
    """The study's name; its folder is named after it."""
    data: Annotated[Text, FormField(words="Data", control="choice")]
    """The data, by their `value` in the offer."""
    tasks: Annotated[
        tuple[ShortText, ...],
        Field(max_length=20),
        FormField(words="Tasks", control="boxes", kinds=("mini", "glue")),
    ] = ()
    """Tasks of GLUE that the data have."""
    text: Annotated[Text, FormField(words="Text", control="column", kinds=("file",))] = ""
    """The column of the data file with the texts."""
    second_text: Annotated[
        Text,
        FormField(words="Second text", control="column", kinds=("file",), empty="none: each example is one text"),
    ] = ""
    """A column with second texts, if each example has two."""
    label: Annotated[Text, FormField(words="Answer", control="column", kinds=("file",))] = ""
    """The column with the answers."""
    answers: Annotated[
        Literal["labels", "numbers"], FormField(words="Answers are", control="choice", kinds=("file",))
    ] = "labels"
    """Whether the answers are labels or numbers."""
    model: Annotated[Text, FormField(words="Model", control="choice")]
    """The backbone, by its `value` in the offer."""
    space: Annotated[
        Text,
        FormField(words="Space", control="choice", empty="picked or made for model, data and machine"),
    ] = ""
    """A shipped space by its name; empty: one is picked for what the queue has, or made for that, model and data."""
    trials: Annotated[ShortText, _setting("trials", words="Trials", placeholder="as the space says")] = ""
    """Trials for each task; empty: as many as the space says."""
    time_budget: Annotated[ShortText, _setting("time_budget", words="Time budget", placeholder="no limit")] = ""
    """When the study stops, such as 20min or 2h; empty: when all is done."""
    deploy: Annotated[ShortText, _setting("deploy", words="Deploy as", control="choice", empty="anything")] = ""
    """Where the winners are to be used; only what this holds exactly is searched."""
    priority: Annotated[Priority, FormField(words="Priority", about=WEIGHT)] = LEAST_PRIORITY
    """From 1 to 10: a study of priority 2 gets twice the slots of one of priority 1."""


FIELDS: dict[str, FormField] = {
    name: row for name, field in NewStudy.model_fields.items() for row in field.metadata if isinstance(row, FormField)
}
"""The fields of the form by their names, in their order."""


NEEDED = [
    name
    for name, row in FIELDS.items()
    if NewStudy.model_fields[name].is_required() or (row.control == "column" and not row.empty)
]
"""The fields that must be filled in if they are about the chosen data."""
NAMED = {word: name for name in FIELDS for word in (name, *([SETTINGS[name].key] if name in SETTINGS else []))}
"""The field by each word with which the place of a refusal may begin: its name and its key."""


def at_its_field(refusal: Refusal, asked: NewStudy) -> Refusal:
    """Returns a refusal, without flags, whose place is the name of the field that it is about, if it is about one.

    Its place begins with a word of the field, or with what was chosen there, or it is a column of the chosen file.
    """
    refusal = in_fields(refusal, field_names(FIELDS), "{}")
    place = refusal.place
    word = re.split(r"[:\s]", place, maxsplit=1)[0]
    columns = {getattr(asked, name): name for name, row in FIELDS.items() if row.control == "column"}
    column = place.removeprefix(f"{asked.data}: ").partition(": ")[0]
    name = NAMED.get(word) or (columns.get(column) if column else None)
    name = name or next((each for each in ("data", "model") if place.startswith(getattr(asked, each))), None)
    if name is None:
        return refusal
    said = "" if place in NAMED else f"{place}: "
    return refusal.at(name, problem=f"{said}{refusal.problem}")


def values_of(choices: Sequence[OfferedChoice]) -> list[str]:
    return [each.value for each in choices]
