"""Checks the texts and labels of one's own files, and returns them as columns of one form."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from krona_tune.data.own.data_files import PARTS, File
from krona_tune.refusal import Refusal, shown
from krona_tune.study.spec.task_spec import TaskSpec

LABEL, GROUP = "label", "group"
MOST_WHOLE, LARGEST = 2**53, 1e30
"""The largest float that is surely a whole number, and the largest number of a regression."""
NUMBERS, WORDS, MIXED = "numbers", "words", "mixed"


class Answers(Enum):
    """Names the kinds of answers that a task can have."""

    LABELS = auto()
    NUMBERS = auto()
    TEXTS = auto()


@dataclass(frozen=True, kw_only=True)
class Examples:
    """The checked rows of one file. `table`: a text column for each input, and `label`, a word, a number or a text; if
    asked, `part` ("train", "validation" or "test") and `group` (text)."""

    place: str
    table: pa.Table


def inputs_of(spec: TaskSpec) -> tuple[str, ...]:
    """Returns the names of a task's inputs: its text columns, of which none can be called label."""
    return tuple("text" if name == LABEL else name for name in spec.text)


def columns_of(spec: TaskSpec) -> list[str]:
    """Returns every column that a task reads."""
    asked = (*spec.text, spec.answer, spec.split.column, spec.split.group)
    return list(dict.fromkeys(name for name in asked if name))


def examples(file: File, spec: TaskSpec, answers: Answers) -> Examples:
    """Returns a file's rows, checked. Raises a Refusal that names file, column and row."""
    if not file.table.num_rows:
        raise Refusal(file.place, "no row")
    found = {name: _texts(file, column) for name, column in zip(inputs_of(spec), spec.text, strict=True)}
    found[LABEL] = _ANSWERS[answers](file, spec.answer)
    if spec.split.column:
        found["part"] = _parts(file, spec.split.column)
    if spec.split.group and spec.split.group in file.table.column_names:  # a part elsewhere needs none
        found[GROUP] = _words(file, spec.split.group, "group")
    return Examples(place=file.place, table=pa.table(found))


def kind_of(labels: pa.ChunkedArray) -> str:
    """Returns whether labels are all numbers, all words, or mixed."""
    numbers = [as_number(label) is not None for label in labels.unique().to_pylist()]
    return NUMBERS if all(numbers) else MIXED if any(numbers) else WORDS


def as_number(text: object) -> float | None:
    """Returns the finite number that a text writes; None if it writes none."""
    try:
        number = float(str(text).replace("_", "x"))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def sorted_labels(labels: Sequence[str]) -> list[str]:
    """Returns labels in their order as numbers, if all are numbers, else as words; those of one number as words."""
    words = sorted(labels)
    return sorted(words, key=float) if all(as_number(label) is not None for label in labels) else words


def first_row(mask: pa.ChunkedArray) -> int:
    """Returns the number of the first row, from 1, where a mask is true."""
    return int(np.flatnonzero(np.asarray(mask))[0]) + 1


def _texts(file: File, column: str) -> pa.ChunkedArray:
    values, place = _plain(file.table[column]), f"{file.place}: {column}"
    if _is_list(values.type):
        raise Refusal(place, "holds lists: token labelling is not supported", "name a column with whole texts")
    if not _is_text(values.type):
        raise Refusal(place, f"holds {values.type}, not text", "name a column with texts")
    return _filled(values, place, "text")


def _filled(values: pa.ChunkedArray, place: str, what: str) -> pa.ChunkedArray:
    """Returns text without gaps and blank values, or refuses it."""
    blank = pc.fill_null(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(values)), 0), True)
    if count := pc.sum(blank).as_py():
        rows = f"{count} rows have" if count > 1 else "1 row has"
        raise Refusal(place, f"{rows} no {what}, the first is row {first_row(blank)}", "fill it in, or take it out")
    return values.cast(pa.string())


def _words(file: File, column: str, what: str) -> pa.ChunkedArray:
    """Returns a column of words, whole numbers, or true and false, as text."""
    values, place = _plain(file.table[column]), f"{file.place}: {column}"
    if _is_list(values.type):
        problem = f"holds lists, not one {what}" + ": multi-label classification is not supported" * (what == "label")
        raise Refusal(place, problem, "name another")
    if not _is_text(values.type) and not pa.types.is_primitive(values.type):
        raise Refusal(place, f"holds {values.type}, no {what}", "write one kind of word or number in every row")
    if pa.types.is_floating(values.type):
        whole = values.cast(pa.float64()).drop_null().to_numpy()
        if len(odd := whole[(whole != np.floor(whole)) | (np.abs(whole) > MOST_WHOLE)]):
            fix = "for numbers as labels write metric: pearson, or regression: true"
            raise Refusal(place, f"{odd[0]:g} is no name of a {what}", fix if what == "label" else "write it as text")
        values = values.cast(pa.int64())
    return _filled(values if _is_text(values.type) else values.cast(pa.string()), place, what)


def _labels(file: File, column: str, what: str = "label") -> pa.ChunkedArray:
    names, values = file.names.get(column), file.table[column]
    if names is not None and pa.types.is_integer(values.type):
        unlabelled = pc.fill_null(pc.less(values, 0), True)
        if count := pc.sum(unlabelled).as_py():
            place, first = f"{file.place}: {column}", first_row(unlabelled)
            fix = "if it is the test part, hold another one out with split: {test: 0.15}"
            raise Refusal(place, f"{count} rows have no {what}, the first is row {first}", fix)
        return pc.take(pa.array(names), values.combine_chunks())
    return _words(file, column, what)


def _numbers(file: File, column: str) -> pa.ChunkedArray:
    """Returns a column as float64. Raises a Refusal at the first value that is no finite number."""
    values, place = _plain(file.table[column]), f"{file.place}: {column}"
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    elif not _is_text(values.type):
        raise Refusal(place, f"holds {values.type}, not numbers", "name a column of numbers")
    else:
        read = (as_number(text) for text in values.cast(pa.string()).to_pylist())
        numbers = np.array([math.nan if number is None else number for number in read])
    if len(wrong := np.flatnonzero(~(np.abs(numbers) <= LARGEST))):
        value = shown(file.table[column][int(wrong[0])].as_py())
        raise Refusal(f"{place}: row {wrong[0] + 1}", f"{value} is not a number to {LARGEST:g}", "write a number there")
    if (numbers == numbers[0]).all():
        raise Refusal(place, f"every example has the number {numbers[0]:g}", "two or more are needed")
    return pa.chunked_array([pa.array(numbers, pa.float64())])


def _targets(file: File, column: str) -> pa.ChunkedArray:
    return _labels(file, column, "target")


_ANSWERS = {Answers.LABELS: _labels, Answers.NUMBERS: _numbers, Answers.TEXTS: _targets}


def _parts(file: File, column: str) -> pa.ChunkedArray:
    values, place = _words(file, column, "part"), f"{file.place}: {column}"
    known = {value: PARTS.get(value.strip().lower()) for value in values.unique().to_pylist()}
    for value, part in known.items():
        if part is None:
            raise Refusal(place, f"{shown(value)} is no part", "write train, validation or test in each row")
    return pc.take(pa.array(list(known.values())), pc.index_in(values, value_set=pa.array(list(known))))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns values without a dictionary, and texts in a type that every function of pyarrow takes."""
    values = values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values
    return values.cast(pa.large_string()) if pa.types.is_string_view(values.type) else values


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
