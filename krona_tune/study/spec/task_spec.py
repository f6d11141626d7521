"""Holds the request for a task of one's own: its files, columns, metric and split, frozen and checked."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from krona_tune.hub import home
from krona_tune.refusal import Refusal
from krona_tune.study.spec.place import Place, listed
from krona_tune.study.spec.trial import Frozen

HUB_PREFIX = "hub:"
MOST_TEXTS, MOST = 2, 1e15
"""The most texts of an example, and the most examples to hold out."""
UNSUPPORTED = {
    "labels": ("multi-label classification is not supported", "name one column with label: COLUMN"),
    "tags": ("token labelling is not supported", "name one column with a label of the whole text"),
    "tokens": ("token labelling is not supported", "name a column with whole texts with text: COLUMN"),
}
"""Keys that ask for a kind of task that there is not, with what to say."""


def _texts(names: tuple[str, ...]) -> tuple[str, ...]:
    if not 1 <= len(names) <= MOST_TEXTS or len(set(names)) < len(names):
        raise ValueError("write one column, or a list of two")
    return names


def _one_label(value: Any) -> Any:
    if isinstance(value, list):
        raise Refusal("", "several labels for one text: multi-label classification is not supported", "name one column")
    return value


def _held_out(value: Any) -> Any:
    """Checks a share or a number of examples; a text is a file."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(value, bool) or (number and not (0 < value < 1 or (1 <= value < MOST and value == int(value)))):
        raise ValueError("write a file, a share such as 0.2, or a number of examples")
    return value


def _words(value: Any) -> Any:
    """Returns the keys of a mapping of labels as text, as the labels are."""
    return {_text(key): inner for key, inner in value.items()} if isinstance(value, dict) else value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


Column = Annotated[str, Field(min_length=1)]
HeldOut = Annotated[float | Place | None, BeforeValidator(_held_out)]


class SplitSpec(Frozen):
    """Says which examples are for training, validation and test.

    `column` names each example's part in its own row. Else `validation` and `test` are each a file, or the share or the
    number of training examples to hold out, which `seed` draws; null: the part that the data have, or 15 %. A number
    replaces a part that the data have. Labels are held out in proportion, and examples with the same value of `group`
    stay together.
    """

    column: Column | None = None
    validation: HeldOut = None
    test: HeldOut = None
    group: Column | None = None
    seed: Annotated[int, Field(ge=0)] = 0


class TaskSpec(Frozen):
    """One task: where its examples are, which columns hold texts and label, how answers are judged.

    `data` is a file (CSV, TSV, JSON, JSON Lines or Parquet), a folder of such files, or `hub:NAME` or
    `hub:NAME:CONFIGURATION`. A `metric` is a name, a list of names whose mean counts, or `MODULE:FUNCTION`, which gets
    the labels and the answers and returns a number; `direction` says which of its numbers are better. With pearson or
    spearman, or with `regression`, the labels are numbers. `positive` is the label that f1 is about. `class_weights`
    weigh the labels in the training loss. `words` are what a text-to-text model answers in place of the labels.
    """

    data: Place
    text: Annotated[tuple[Column, ...], BeforeValidator(listed), AfterValidator(_texts)]
    label: Annotated[Column, BeforeValidator(_one_label)]
    title: Annotated[str, Field(max_length=60)] = ""
    metric: Annotated[tuple[str, ...], BeforeValidator(listed), Field(min_length=1)] = ("accuracy",)
    direction: Literal["higher", "lower"] = "higher"
    regression: bool = False
    positive: Annotated[str | None, BeforeValidator(lambda value: value if value is None else _text(value))] = None
    class_weights: Annotated[
        Literal["balanced"] | dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None,
        BeforeValidator(_words),
    ] = None
    words: Annotated[dict[str, str] | None, BeforeValidator(_words)] = None
    split: SplitSpec = SplitSpec()

    @model_validator(mode="before")
    @classmethod
    def _numbers_by_pearson(cls, written: Any) -> Any:
        """Returns the task with the metric of numbers, if its labels are numbers and it names none."""
        numbers = isinstance(written, dict) and written.get("regression") is True and "metric" not in written
        return {**written, "metric": "pearson"} if numbers else written

    @model_validator(mode="after")
    def _columns_apart(self) -> "TaskSpec":
        """Refuses a label that the model would read, and a column with two meanings."""
        for name, column in (("label", self.label), ("split.column", self.split.column)):
            if column in self.text:
                raise Refusal("", f"the {name} {column!r} is a text that the model reads", "name another column")
        if self.label in {self.split.column, self.split.group}:
            raise Refusal("", f"the split names the label, {self.label!r}", "name another column")
        return self

    def beside(self, folder: Path) -> "TaskSpec":
        """Returns the task with its paths absolute; they were relative to `folder`, that of the file that names them.

        A metric's module is one of the files beside it, if there is such a file.
        """
        split = {name: _whole(value, folder) for name, value in vars(self.split).items() if name in _FILES}
        return self.model_copy(
            update={
                "data": self.data if self.data.startswith(HUB_PREFIX) else _whole(self.data, folder),
                "split": self.split.model_copy(update=split),
                "metric": tuple(_file_of(name, folder) for name in self.metric),
            }
        )


_FILES = ("validation", "test")


def _whole(value: Any, folder: Path) -> Any:
    return os.path.abspath(folder / home(Path(value))) if isinstance(value, str) else value


def _file_of(metric: str, folder: Path) -> str:
    module, colon, function = metric.rpartition(":")
    beside = folder / (module if module.endswith(".py") else f"{module}.py")
    return f"{os.path.abspath(beside)}:{function}" if colon and beside.is_file() else metric


def refuse_unsupported(name: str, written: Any) -> None:
    """Refuses, by its name, a kind of task that there is not."""
    for key in written if isinstance(written, dict) else ():
        if key in UNSUPPORTED:
            raise Refusal(f"tasks.{name}.{key}", *UNSUPPORTED[key])
