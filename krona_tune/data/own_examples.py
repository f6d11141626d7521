"""Checks the texts and labels of one's own files, and returns them as columns of one form."""

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import chain, islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from krona_tune.data.own_files import PART_WORDS, File, refuse_two_words
from krona_tune.refusal import Refusal, cut, shown
from krona_tune.study.request.metric_table import Answers
from krona_tune.study.request.task_spec import TaskSpec

LABEL, GROUP, PART = "label", "\0group", "\0part"
"""Name the columns of an example beside its inputs; no column of a file has the last two names."""
MOST_WHOLE, LARGEST = 2**53, 1e30
"""The largest float that is surely a whole number, and the largest number of a regression."""
NUMBERS, WORDS, MIXED = "numbers", "words", "mixed"
TEXT = pa.large_string()
"""The type of texts and labels: rows of a column with 2 GiB of text can't be taken in `pa.string()`."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """The checked rows of one file. `table`: a text column for each input, and `label`, a word, a number or a text; if
    asked, PART ("train", "validation" or "test") and GROUP (text, with gaps in a part that lies elsewhere)."""

    place: str
    table: pa.Table


def inputs_of(spec: TaskSpec) -> tuple[str, ...]:
    """Returns the names of a task's inputs: its text columns, of which none can be called label."""
    other = "text2" if "text" in spec.text else "text"
    return tuple(other if name == LABEL else name for name in spec.text)


def columns_of(spec: TaskSpec) -> list[str]:
    """Returns every column that a task reads."""
    asked = (*spec.text, spec.answer, spec.split.column, spec.split.group)
    return list(dict.fromkeys(name for name in asked if name))


def examples(file: File, spec: TaskSpec, answers: Answers, part: str = "train") -> Examples:
    """Returns a part's rows of a file, checked. Raises a Refusal that names file, column and row."""
    if not file.table.num_rows:
        raise Refusal(file.place, "no row", "give it some, or leave it out")
    found = {name: _texts(file, column) for name, column in zip(inputs_of(spec), spec.text, strict=True)}
    found[LABEL] = _ANSWERS[answers](file, spec.answer)
    if spec.split.column:
        found[PART] = _parts(file, spec.split.column)
    if spec.split.group and spec.split.group in file.table.column_names:
        with nullcontext() if part == "train" else suppress(Refusal):  # a part elsewhere needs none
            found[GROUP] = _groups(file, spec.split.group, part)
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


ONE_A_LINE = "one object a line: to_json(orient='records', lines=True)"


def _texts(file: File, column: str) -> pa.ChunkedArray:
    values, place = _plain(file.table[column]), f"{file.place}: {column}"
    if _is_list(values.type) and len(values) == 1:
        raise Refusal(place, "holds a list, not one text a row", f"write {ONE_A_LINE}")
    if _is_list(values.type):
        raise Refusal(place, "holds lists: token labelling is not supported", "name a column with whole texts")
    if not _is_text(values.type):
        raise _of_another_kind(values, place, "text", "name a column with texts")
    return _filled(values, place, "text")


def _of_another_kind(values: pa.ChunkedArray, place: str, what: str, fix: str) -> Refusal:
    """Returns the Refusal of a column that holds something else, such as the objects of a whole column of pandas."""
    if pa.types.is_struct(values.type):
        return Refusal(place, f"holds objects, not one {what} a row", f"{fix}, or write {ONE_A_LINE}")
    kind = values.type
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return Refusal(place, f"holds {'numbers' if number else cut(str(kind))}, not one {what} a row", fix)


SEEN = r"[^\s\pZ\p{Cc}\p{Cf}]"
"""A character that is seen: no blank, control character or mark such as a byte order mark or a zero-width space."""


def _blank(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns in which rows a text is a gap, or nothing of it is seen."""
    return pc.fill_null(pc.invert(pc.match_substring_regex(values, SEEN)), True)


def _filled(values: pa.ChunkedArray, place: str, what: str) -> pa.ChunkedArray:
    """Returns text without gaps and blank values, or refuses it."""
    blank = _blank(values)
    if count := pc.sum(blank).as_py():
        rows = f"{count} rows have" if count > 1 else "1 row has"
        raise Refusal(place, f"{rows} no {what}, the first is row {first_row(blank)}", "fill it in, or take it out")
    return values.cast(TEXT)


def _words(file: File, column: str, what: str) -> pa.ChunkedArray:
    """Returns a column of words, whole numbers, or true and false, as text. Refuses gaps and blank values."""
    return _filled(_words_or_gaps(file, column, what), f"{file.place}: {column}", what)


def _groups(file: File, column: str, part: str) -> pa.ChunkedArray:
    """Returns the groups of a part's rows; only training examples, of which others are held out, need one each."""
    if part == "train":
        return _words(file, column, "group")
    found = _words_or_gaps(file, column, "group")
    return pc.if_else(_blank(found), None, found).cast(TEXT)


def _words_or_gaps(file: File, column: str, what: str) -> pa.ChunkedArray:
    """Returns a column of words, whole numbers, or true and false, as text with its gaps."""
    values, place = _plain(file.table[column]), f"{file.place}: {column}"
    if _is_list(values.type):
        problem = f"holds lists, not one {what}" + ": multi-label classification is not supported" * (what == "label")
        raise Refusal(place, problem, "name another")
    if not _is_text(values.type) and not pa.types.is_primitive(values.type):
        raise _of_another_kind(values, place, what, "write one kind of word or number in every row")
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
        whole = values.cast(pa.float64()).drop_null().to_numpy()
        if len(odd := whole[(whole != np.floor(whole)) | (np.abs(whole) > MOST_WHOLE)]):
            fix = FOR_NUMBERS if what == "label" else "write it as text"
            raise Refusal(place, f"{odd[0]:g} is no name of a {what}", fix)
        values = values.cast(pa.int64())
    return values if _is_text(values.type) else values.cast(pa.string())


def _labels(file: File, column: str, what: str = "label") -> pa.ChunkedArray:
    names, values = file.names.get(column), file.table[column]
    if names is not None and pa.types.is_integer(values.type):
        place, unlabelled = f"{file.place}: {column}", pc.fill_null(pc.less(values, 0), True)
        if count := pc.sum(unlabelled).as_py():
            fix = "if it is the test part, hold another one out with split: {test: 0.15}"
            raise Refusal(place, f"{count} rows have no {what}, the first is row {first_row(unlabelled)}", fix)
        unnamed = pc.greater_equal(values, len(names))
        if pc.any(unnamed).as_py():
            row = first_row(unnamed)
            problem = f"{values[row - 1]} has no name: the file has those of {len(names)} classes, from 0"
            raise Refusal(f"{place}: row {row}", problem, "correct it, or store the names of all classes")
        return pc.take(pa.array(names, TEXT), values.combine_chunks())
    return _words(file, column, what)


def _numbers(file: File, column: str) -> pa.ChunkedArray:
    """Returns a column as float64. Raises a Refusal at the first value that is no finite number."""
    values, place = _plain(file.table[column]), f"{file.place}: {column}"
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    elif not _is_text(values.type):
        raise _of_another_kind(values, place, "number", "name a column of numbers")
    else:
        read = (as_number(text) for text in values.cast(pa.string()).to_pylist())
        numbers = np.array([math.nan if number is None else number for number in read])
    if len(wrong := np.flatnonzero(~(np.abs(numbers) <= LARGEST))):
        found = file.table[column][int(wrong[0])].as_py()
        problem, fix = f"{shown(found)} is not a number to {LARGEST:g}", "write a number there"
        if isinstance(found, str) and _DECIMAL_COMMA.fullmatch(found.strip()):
            problem, fix = f"{shown(found)} has a decimal comma", "write a point in its place, in all rows"
        raise Refusal(f"{place}: row {wrong[0] + 1}", problem, fix)
    return pa.chunked_array([pa.array(numbers, pa.float64())])


def _targets(file: File, column: str) -> pa.ChunkedArray:
    return _labels(file, column, "target")


_ANSWERS = {Answers.LABELS: _labels, Answers.NUMBERS: _numbers, Answers.TEXTS: _targets}


def _parts(file: File, column: str) -> pa.ChunkedArray:
    values, place = _labels(file, column, "part"), f"{file.place}: {column}"
    known = {value: PART_WORDS.get(value.strip().lower()) for value in values.unique().to_pylist()}
    for value, part in known.items():
        if part is None:
            raise Refusal(place, f"{shown(value)} is no part", "write train, validation or test in each row")
    refuse_two_words(known, place)
    return pc.take(pa.array(list(known.values())), pc.index_in(values, value_set=pa.array(list(known))))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns values without a dictionary, decimals as float64, and texts in a type that every function of pyarrow
    takes."""
    values = values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values
    values = values.cast(pa.float64()) if pa.types.is_decimal(values.type) else values
    return values.cast(pa.large_string()) if pa.types.is_string_view(values.type) else values


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


MOST_LABELS = 1_000
LONGEST_LABEL = 200
"""The most characters of what is surely a label."""
Files = dict[str, list[Examples]]
"""The checked rows of every file, by part."""


def known_labels(files: Files) -> list[str]:
    """Returns the labels of the training files, sorted."""
    found = chain.from_iterable(each.table[LABEL].unique().to_pylist() for each in files["train"])
    return sorted_labels(list(set(found)))


def refuse_odd_labels(files: Files, known: list[str], spec: TaskSpec) -> None:
    """Refuses labels that no classifier can tell apart, or that mean different things in two files."""
    if not known:
        return
    every = list(chain.from_iterable(files.values()))
    kinds = {each.place: kind_of(each.table[LABEL]) for each in every}
    first, kind = next(iter(kinds.items()))
    for place, other in kinds.items():
        if other != kind and MIXED not in {other, kind}:
            problem = f"its labels are {other}, those of {first} are {kind}"
            raise Refusal(f"{place}: {spec.label}", problem, "write the same labels in all files")
    place = f"{files['train'][0].place}: {spec.label}"
    if len(known) == 1:
        raise Refusal(place, f"every example has the label {shown(known[0])}", "two or more are needed")
    if len(known) > MOST_LABELS:
        fix = "name another column; for numbers write metric: pearson"
        raise Refusal(place, f"{len(known):,} different labels, at most {MOST_LABELS:,} are learned", fix)
    bare: dict[str, str] = {}
    for label in known:
        other_label = bare.setdefault(label.strip(), label)
        if other_label != label:
            problem = f"the labels {shown(other_label)} and {shown(label)} differ only in blanks"
            raise Refusal(place, problem, "write them alike")


def _as_written(label: str) -> object:
    if as_number(label) is not None:
        with suppress(InvalidOperation):  # of an exponent of many digits
            return Decimal(label)  # a float has too few digits for a long number
    return label


def _as_seen(label: str) -> str:
    shapes = unicodedata.normalize("NFKC", label)
    return " ".join("".join(each for each in shapes if unicodedata.category(each) != "Cf").split())


def _as_meant(label: str) -> str:
    return _as_seen(label).casefold()


_ALIKE: dict[str, Callable[[str], object]] = {
    "in upper and lower case": str.casefold,
    "in how a number is written": _as_written,
    "in blanks, or in how their letters are encoded": _as_seen,
    "in upper and lower case, and in blanks or in how their letters are encoded": _as_meant,
}
"""Ways in which labels may differ that are seldom meant, each with what is equal then."""


FOR_NUMBERS = "for numbers as labels write metric: pearson, or regression: true"
"""The way out where numbers are taken for names."""
_AS_TEXT = {
    "True and False": re.compile("True|False"),
    "whole numbers with a point": re.compile(r"-?\d+\.0"),
}
"""Name the labels of a CSV file that JSON and Parquet hold as truths or floats, and call true or 1."""


_NUMBER, _FRACTION = re.compile(r"^-?\d+([.,]\d+)?$"), re.compile(r"\.0*[1-9]")
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")


def _as_typed(label: str) -> str:
    return label.lower().removesuffix(".0")


def doubt_labels(labels: Sequence[str], of: str) -> Iterator[str]:
    """Yields a warning about labels that may mean one thing, and about one that may be no label."""
    said: set[tuple[str, str]] = set()
    for how, same in _ALIKE.items():
        first: dict[object, str] = {}
        pairs = [(other, label) for label in labels if (other := first.setdefault(same(label), label)) != label]
        pairs = [pair for pair in pairs if pair not in said]
        said.update(pairs)
        if pairs:
            more = f" (and {len(pairs) - 1} more)" if len(pairs) > 1 else ""
            differ = " and ".join(map(shown, pairs[0])) + f"{more} differ only {how}"
            yield f"the labels {differ}: if they mean one thing in {of}, write them alike"
    if how := next((how for how, form in _AS_TEXT.items() if all(map(form.fullmatch, labels))), ""):
        called = " and ".join(shown(_as_typed(label)) for label in labels[:2])
        yield f"{of} has {how} as labels, so called in CSV, and {called} in JSON or Parquet: keep to one format"
    if all(map(_NUMBER.fullmatch, labels)) and (odd := next(filter(_FRACTION.search, labels), "")):
        refused = "which JSON and Parquet refuse unless as texts"
        yield f"{of} has numbers such as {odd} for names of labels, {refused}; {FOR_NUMBERS}"
    if all(label != label.strip() for label in labels):
        yield f"every label of {of} begins or ends with a blank, such as {shown(labels[0])}"
    longest = max(labels, key=len)
    if len(longest) > LONGEST_LABEL:
        yield f"a label of {of} has {len(longest):,} characters, {shown(longest)}: it may be a text"


def doubt_groups(groups: Iterable[str], name: str, of: str) -> Iterator[str]:
    """Yields a warning about groups that may be one; capital and small letters may tell names apart."""
    every = list(groups)
    for how, same in _ALIKE.items():
        if "case" in how:
            continue
        first: dict[object, str] = {}
        pairs = ((other, group) for group in every if (other := first.setdefault(same(group), group)) != group)
        for pair in islice(pairs, 1):
            differ = f"{' and '.join(map(shown, pair))} differ only {how}"
            yield f"the {name} {differ}: if they are one group of {of}, write them alike"


def doubt_positive(labels: Sequence[str], of: str) -> Iterator[str]:
    """Yields a warning if the last of two words is so only because capital letters come before small ones."""
    if kind_of(pa.chunked_array([pa.array(labels)])) != NUMBERS and max(labels, key=str.casefold) != labels[-1]:
        last = f"f1 of {of} is about {shown(labels[-1])}, for capital letters come before small ones"
        yield f"{last}: if you mean {shown(labels[0])}, write positive: {shown(labels[0])}"


def refuse_alike(train: pa.Table, files: Files, spec: TaskSpec) -> None:
    """Refuses training examples that all have the same label, a word or a number."""
    seen = train[LABEL].unique()
    if len(seen) == 1:
        problem = f"every training example has the label {shown(seen[0].as_py())}"
        raise Refusal(f"{files['train'][0].place}: {spec.label}", problem, "add others, or divide them otherwise")


def refuse_unseen(parts: dict[str, pa.Table], files: Files, spec: TaskSpec) -> None:
    """Refuses a label of validation or test that no training example has."""
    seen = parts["train"][LABEL].unique()
    for part, table in parts.items():
        unseen = pc.invert(pc.is_in(table[LABEL], value_set=seen))
        if not pc.any(unseen).as_py():
            continue
        label = table[LABEL][first_row(unseen) - 1]
        alike = ((each, pc.equal(each.table[LABEL], label)) for each in files.get(part, files["train"]))
        where, row = next((each.place, first_row(mask)) for each, mask in alike if pc.any(mask).as_py())
        problem = f"the label {shown(label.as_py())} of a {part} example is that of no training example"
        fix = "correct it, add training examples of it, or hold others out with split.seed"
        if pc.all(pc.match_substring_regex(seen.cast(TEXT), _NUMBER.pattern)).as_py():
            fix = f"{FOR_NUMBERS}; else {fix}"
        raise Refusal(f"{where}: {spec.label}: row {row}", problem, fix)
