"""Holds the types of a request's values: how each is read from what people write, and its limits."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from krona_tune.refusal import Refusal, shown
from krona_tune.refused_calls import LONGEST_NAME, LONGEST_PATH

Number = TypeVar("Number", int, float)


def listed(value: Any) -> Any:
    """Puts a single text or path into a list; another value stays as it is."""
    return [value] if isinstance(value, str | Path) else value


def _printable(text: str) -> str:
    """Returns a text, if no character of it is a control character."""
    if not text.isprintable():
        raise ValueError("write it without control characters")
    return text


def _place(text: str) -> str:
    """Returns a hub's name or a path, if file systems accept it."""
    try:
        longest = max(len(part.encode()) for part in text.split("/"))
    except UnicodeEncodeError:
        raise ValueError("write it in UTF-8") from None
    if not text.strip() or "\0" in text or longest > LONGEST_NAME or len(text.encode()) > LONGEST_PATH:
        raise ValueError(f"write a name of at most {LONGEST_NAME} bytes, or a path of at most {LONGEST_PATH} bytes")
    return text


def _unlisted(values: Sequence[Any]) -> Any:
    """Returns the inverse of `listed`: a single value by itself, as versions wrote it that had no lists."""
    return values[0] if len(values) == 1 else list(values)


Printable = Annotated[str, AfterValidator(_printable)]
Place = Annotated[str, AfterValidator(_place)]
"""A hub's name or a path."""
Places = Annotated[tuple[Place, ...], BeforeValidator(listed), PlainSerializer(_unlisted)]
"""One place, or a list of them."""


def for_task(value: Number | dict[str, Number], task: str) -> Number:
    """Returns a setting's value for a task: one for all tasks, or one per task with `default` for the others."""
    if isinstance(value, dict):
        return value[task] if task in value else value["default"]
    return value


def _complete(value: Any) -> Any:
    if isinstance(value, Mapping) and "default" not in value:
        raise ValueError("a setting by task needs the key 'default' for the tasks that it does not name")
    return value


UNITS = (86_400, 3_600, 60, 1)
"""The seconds of a day, an hour, a minute and a second."""


def _seconds(value: Any) -> Any:
    """Returns `90`, `90s`, `20min`, `30m`, `2h`, `1h30m`, `2d` as seconds; in `1h30`, the bare number is in minutes."""
    if not isinstance(value, str):
        return value
    text = re.sub(r"(?<=h)(\d+)$", r"\1m", value.strip())
    parts = re.fullmatch(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m(?:in)?)?(?:(\d{1,9}(?:\.\d{1,9})?)s?)?", text)
    if not text or parts is None:
        raise ValueError("write a time such as 90s, 20min, 1h30m or 2d")
    seconds = float(sum(unit * float(part or 0) for unit, part in zip(UNITS, parts.groups(), strict=True)))
    return int(seconds) if seconds.is_integer() else seconds


def _limit(value: Any) -> Any:
    """Returns `200000`, or `0.1%` of the backbone's parameters, checked but as it is written."""
    text = str(value).strip().replace("_", "")
    if not re.fullmatch(r"\d{1,3}(\.\d{1,18})?%|\d{1,18}", text) or float(text.rstrip("%")) <= 0:
        raise ValueError("write a number of parameters such as 200000, or a share of the backbone such as 0.1%")
    return text


def _trials(value: Any) -> Any:
    """Returns a number of trials. Refuses true, a list, and a text of more than digits: +20 is for resumed studies."""
    if isinstance(value, bool | list) or (isinstance(value, str) and not value.isdecimal()):
        raise Refusal("", f"{shown(value)} is not a number of trials", "give a whole number from 1")
    return value


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
MOST, MOST_EXAMPLES = 10**6, 10**15
"""Limits for trials, seeds, epochs and so on, and for training examples: more is a mistake that would run for ever."""
MOST_POINTS = 10**4
"""The latest first point of a design: all points before it are drawn and checked."""
Seconds = Annotated[Positive, BeforeValidator(_seconds)]
ParameterLimit = Annotated[str, BeforeValidator(_limit)]
Count = Annotated[int, Field(ge=1, le=MOST)]
Trials = Annotated[Count, BeforeValidator(_trials)]
CountFromZero = Annotated[int, Field(ge=0, le=MOST)]
Examples = Annotated[int, Field(ge=1, le=MOST_EXAMPLES)]
Epochs = Annotated[float, Field(gt=0, le=MOST)]
ByTaskEpochs = Annotated[Epochs | dict[str, Epochs], BeforeValidator(_complete)]
ByTaskExamples = Annotated[Examples | dict[str, Examples], BeforeValidator(_complete)]


OwnName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,39}$")]
"""The name of a task of one's own: what the study leaves is named after it."""
