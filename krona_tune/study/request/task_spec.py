"""Holds the request for a task of one's own: its files, columns, metric and split, frozen and checked."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from krona_tune.hub import home
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from krona_tune.study.frozen_value import FrozenValue
from krona_tune.study.request.field_types import Place, listed
from krona_tune.study.request.metric_table import USUAL, Answers

HUB_PREFIX = "hub:"
MOST_TEXTS, MOST = 2, 1e15
"""The most texts of an example, and the most examples to hold out."""
UNSUPPORTED = {
    "labels": ("multi-label classification is not supported", "name one column with label: COLUMN"),
    "tags": ("token labelling is not supported", "name one column with a label of the whole text"),
    "tokens": ("token labelling is not supported", "name a column with whole texts with text: COLUMN"),
}
"""Keys that ask for a kind of task that there is not, with what to say."""
OF_LABELS = ("positive", "class_weights", "words", "regression")
OF_TARGETS = ("prompt", "max_new_tokens", "extract", "evaluate", "chat_template")
"""Keys that are about tasks with a label, and about tasks with a target."""


def _texts(names: tuple[str, ...]) -> tuple[str, ...]:
    if not 1 <= len(names) <= MOST_TEXTS or len(set(names)) < len(names):
        raise ValueError("write one column, or a list of two")
    return names


def _one_line(title: str) -> str:
    """Returns a title as a cell of a table can show it: without control characters and line ends."""
    return " ".join("".join(each if each.isprintable() else " " for each in title).split())


def _one_label(value: Any) -> Any:
    if isinstance(value, list):
        raise Refusal("", "several labels for one text: multi-label classification is not supported", "name one column")
    return value


def _held_out(value: Any) -> Any:
    """Checks a share or a number of examples; a text is a file."""
    if isinstance(value, str) and (share := re.fullmatch(r"\s*(\d+(\.\d+)?)\s*%\s*", value)):
        raise Refusal("", f"{value} is the name of a file, not a share", f"write {float(share[1]) / 100:g}")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(value, bool) or (number and not (0 < value < 1 or (1 <= value < MOST and value == int(value)))):
        raise ValueError("write a file, a share such as 0.2, or a number of examples")
    return value


def _pattern(written: str) -> str:
    try:
        re.compile(written)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"no regular expression: {error}") from None
    return written


def _words(value: Any) -> Any:
    """Returns the keys of a mapping of labels as text, as the labels are."""
    return {_text(key): inner for key, inner in value.items()} if isinstance(value, dict) else value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


Column = Annotated[str, Field(min_length=1)]
Columns = Annotated[tuple[Column, ...], BeforeValidator(listed), AfterValidator(_texts)]


class PartSpec(FrozenValue):
    """A part whose examples lie elsewhere, also in columns of other names."""

    data: Place
    """What a task's may be; of parts that it has itself, the one of the same name is taken."""
    text: Columns | None = None
    """One column of texts, or two; null: the task's."""
    label: Column | None = None
    """The column of labels; null: the task's."""
    target: Column | None = None
    """The column of texts to write; null: the task's."""

    @property
    def answer(self) -> str | None:
        return self.target or self.label


HeldOut = Annotated[int | float | Place | PartSpec | None, BeforeValidator(_held_out)]


class SplitSpec(FrozenValue):
    """Says which examples are for training, validation and test. Labels are held out in proportion."""

    column: Column | None = None
    """A column that names each example's part in its own row."""
    validation: HeldOut = None
    """A file, other data with columns of their own, or the share (below 1) or the number of training examples to hold
    out, which replaces a part that the data have, but none that `column` names. null: the part that the data have, or
    15 %."""
    test: HeldOut = None
    """The same for the test half."""
    group: Column | None = None
    """A column of the training examples; those with the same value of it stay together. Other parts need none."""
    seed: Annotated[int, Field(ge=0)] = 0
    """The seed that draws the examples to hold out."""


class TaskSpec(FrozenValue):
    """One task: where its examples are, which columns hold texts and label, how answers are judged.

    With a `target` in place of a `label`, a decoder or encoder-decoder learns to write the text of that column.
    """

    data: Place
    """A file (CSV, TSV, JSON, JSON Lines or Parquet), a folder of such files or of a data set that `datasets` saved to
    disk, or hub:NAME or hub:NAME:CONFIGURATION."""
    text: Columns
    """One column of texts, or a list of two."""
    label: Annotated[Column | None, BeforeValidator(_one_label)] = None
    """The column of labels."""
    target: Column | None = None
    """The column of texts to write."""
    title: Annotated[str, Field(max_length=60), AfterValidator(_one_line)] = ""
    """The task's name in tables; empty: its key."""
    metric: Annotated[tuple[str, ...], BeforeValidator(listed), Field(min_length=1)] = (USUAL[Answers.LABELS],)
    """A name, a list of names whose mean counts, or MODULE:FUNCTION, which turns labels and answers into a number."""
    direction: Literal["higher", "lower"] = "higher"
    """Which of a function's numbers are better."""
    regression: bool = False
    """Whether the labels are numbers; with the metrics pearson and spearman they always are."""
    positive: Annotated[str | None, BeforeValidator(lambda value: value if value is None else _text(value))] = None
    """The label that f1 is about; null: of two numbers the larger, of two words the later one, capitals first."""
    class_weights: Annotated[
        Literal["balanced"] | dict[str, Annotated[float, Field(ge=1e-6, le=1e6)]] | None,
        BeforeValidator(_words),
    ] = None
    """Weights of the labels in the training loss: balanced, or a mapping to 1e-6 to 1e6; null: all alike."""
    words: Annotated[dict[str, str] | None, BeforeValidator(_words)] = None
    """What a text-to-text model answers in place of each label."""
    prompt: Annotated[str, Field(min_length=1)] | None = None
    """What the model reads, with {COLUMN} for each text, or {text} for the only one; another word in braces is refused,
    unless they are doubled: the model reads both pairs; null: the texts alone."""
    max_new_tokens: Annotated[int, Field(ge=1, le=100_000)] = 64
    """The most tokens of a written answer."""
    extract: Annotated[str, AfterValidator(_pattern)] = ""
    """A regular expression; only what it finds last in target and answer is compared."""
    evaluate: Literal["generate", "loss"] = "generate"
    """What compares trials: what they generate, or the loss of the targets, which is faster; finalists generate."""
    chat_template: bool = True
    """Whether the prompt is put into the tokenizer's chat template, if it has one."""
    split: SplitSpec = SplitSpec()
    """Which examples are for training, validation and test."""

    @property
    def answer(self) -> str:
        """Returns the column of the answers: labels or targets."""
        return self.target or self.label or ""

    @model_validator(mode="before")
    @classmethod
    def _usual_metric(cls, written: Any) -> Any:
        """Returns the task with the metric of numbers or of texts, if its answers are such and it names none."""
        if not isinstance(written, dict) or "metric" in written:
            return written
        if written.get("target") is not None:
            return {**written, "metric": USUAL[Answers.TEXTS]}
        return {**written, "metric": USUAL[Answers.NUMBERS]} if written.get("regression") is True else written

    @model_validator(mode="after")
    def _one_kind_of_answer(self) -> "TaskSpec":
        """Refuses a task without answers or with two kinds of them, and keys about the other kind."""
        if (self.label is None) == (self.target is None):
            problem = "names neither a label nor a target" if self.label is None else "names a label and a target"
            raise Refusal("", problem, "write label: COLUMN for classes or numbers, or target: COLUMN for texts")
        odd, other = (OF_TARGETS, "target") if self.target is None else (OF_LABELS, "label")
        for part in ("validation", "test"):
            self._refuse_odd_part(part, getattr(self.split, part))
        for key in odd:
            if getattr(self, key) != type(self).model_fields[key].default:
                raise Refusal("", f"{key} is about tasks with a {other}", "leave it out")
        return self

    def _refuse_odd_part(self, name: str, part: Any) -> None:
        """Refuses a part elsewhere whose columns do not correspond to the task's."""
        if not isinstance(part, PartSpec):
            return
        texts, kind = part.text or self.text, "label" if self.target is None else "target"
        if (part.label if self.target else part.target) is not None:
            raise Refusal("", f"split.{name} names another kind of answer than the task", f"write {kind}: COLUMN")
        if len(texts) != len(self.text):
            counts = f"{len(texts)} texts, the task {len(self.text)}"
            raise Refusal("", f"split.{name} has {counts}", "name a column for each")
        if (answer := part.answer or self.answer) in texts:
            raise Refusal("", f"split.{name}: the {kind} {answer!r} is a text that the model reads", "name another")

    @model_validator(mode="after")
    def _columns_apart(self) -> "TaskSpec":
        """Refuses a label that the model would read, and a column with two meanings."""
        kind = "label" if self.target is None else "target"
        for name, column in ((kind, self.answer), ("split.column", self.split.column)):
            if column in self.text:
                raise Refusal("", f"the {name} {column!r} is a text that the model reads", "name another column")
        if self.answer in {self.split.column, self.split.group}:
            raise Refusal("", f"the split names the {kind}, {self.answer!r}", "name another column")
        return self

    @property
    def places(self) -> list[str]:
        """Returns everything that its examples are read from."""
        parts = (self.split.validation, self.split.test)
        named = [part.data if isinstance(part, PartSpec) else part for part in parts]
        return [self.data, *(place for place in named if isinstance(place, str))]

    def resolved_against(self, folder: Path) -> "TaskSpec":
        """Returns the task with its paths absolute; they were relative to `folder`, that of the file that names them.

        A metric's module is one of the files beside it, if there is such a file.
        """
        split = {name: _whole(value, folder) for name, value in vars(self.split).items() if name in _FILES}
        return self.model_copy(
            update={
                "data": _whole(self.data, folder),
                "split": self.split.model_copy(update=split),
                "metric": tuple(_file_of(name, folder) for name in self.metric),
            }
        )


_FILES = ("validation", "test")


def _whole(value: Any, folder: Path) -> Any:
    """Returns a path, or the path of a part, absolute; a number and a name of the hub as they are."""
    if isinstance(value, PartSpec):
        return value.model_copy(update={"data": _whole(value.data, folder)})
    local = isinstance(value, str) and not value.startswith(HUB_PREFIX)
    return os.path.abspath(folder / home(Path(value))) if local else value


def _file_of(metric: str, folder: Path) -> str:
    module, colon, function = metric.rpartition(":")
    beside = folder / (module if module.endswith(".py") else f"{module}.py")
    kept = StudyFolder(folder).spec.exists()  # a study's request has whole paths, or what its version took
    of_a_file = os.path.exists(beside) or (module.endswith(".py") and not kept)
    return f"{os.path.abspath(beside)}:{function}" if colon and of_a_file else metric


def whole_paths(tasks: Any, folder: Path) -> Any:
    """Returns tasks as a person writes them, checked or not, with absolute paths; they were relative to `folder`."""
    if not isinstance(tasks, Mapping):
        return tasks
    return {name: _with_whole_paths(task, folder) for name, task in tasks.items()}


def _with_whole_paths(task: Any, folder: Path) -> Any:
    if not isinstance(task, Mapping):
        return task
    found = dict(task)
    if "data" in found:
        found["data"] = _whole_written(found["data"], folder)
    if isinstance(split := found.get("split"), Mapping):
        parts = {name: _whole_written(split[name], folder) for name in _FILES if name in split}
        found["split"] = {**split, **parts}
    match found.get("metric"):
        case str(metric):
            found["metric"] = _file_of(metric, folder)
        case [*metrics]:
            found["metric"] = [_file_of(each, folder) if isinstance(each, str) else each for each in metrics]
    return found


def _whole_written(value: Any, folder: Path) -> Any:
    if isinstance(value, Mapping) and "data" in value:
        return {**value, "data": _whole_written(value["data"], folder)}
    return _whole(value, folder) if value else value


def refuse_unsupported(name: str, written: Any) -> None:
    """Refuses, by its name, a kind of task that there is not."""
    for key in written if isinstance(written, dict) else ():
        if key in UNSUPPORTED:
            raise Refusal(f"tasks.{name}.{key}", *UNSUPPORTED[key])
