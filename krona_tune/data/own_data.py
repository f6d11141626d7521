"""Makes a task and its three parts from the files that a request names: as given, or held out by a seed."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from krona_tune.data.corpus import PARTS, OwnData
from krona_tune.data.own_examples import (
    GROUP,
    LABEL,
    PART,
    Examples,
    columns_of,
    doubt_groups,
    doubt_labels,
    doubt_positive,
    examples,
    inputs_of,
    known_labels,
    refuse_alike,
    refuse_odd_labels,
    refuse_unseen,
)
from krona_tune.data.own_files import File, Source, sources
from krona_tune.data.own_task import (
    answers_of,
    compared_parts,
    make_task,
    refuse_unmatched,
    try_draws,
    try_functions,
)
from krona_tune.data.tasks import Task
from krona_tune.refusal import Refusal, shown
from krona_tune.study.request.metric_table import Answers, rows_of
from krona_tune.study.request.task_spec import PartSpec, SplitSpec, TaskSpec

SHARE = 0.15
"""The share of the examples that validation and test each get if nothing else is asked."""
HALF = 0.5
"""The share of what is asked of a part below which groups are held out by another rule."""
Ints = npt.NDArray[np.int64]


def divide(parts: dict[str, pa.Table], split: SplitSpec, place: str, *, by_label: bool) -> dict[str, pa.Table]:
    """Returns train, validation and test; no row is in two of them.

    Args:
        parts: the parts that the data have, with the columns LABEL and, if asked, GROUP; at least "train".
        split: what is asked for a part that the data do not have.
        place: the task's place in the request, for messages.
        by_label: hold labels out in proportion.

    Raises:
        Refusal: there are too few examples, or too large groups, to hold out what is asked.
    """
    asked = {"validation": split.validation, "test": split.test}
    rows, lacking = parts["train"], [part for part in ("test", "validation") if part not in parts]
    for part in lacking:
        if isinstance(asked[part], float) and asked[part] == 1:
            fix = "write 1 for one example, or a share such as 0.15"
            raise Refusal(f"{place}.split.{part}", "1.0 is no share: a share is below 1", fix)
    sizes = {part: _number(asked[part], rows.num_rows) for part in lacking}
    if not lacking:
        return {part: parts[part] for part in PARTS}
    if sum(sizes.values()) >= rows.num_rows:
        said = " and ".join(f"{size} for {part}" for part, size in sizes.items())
        raise Refusal(f"{place}.split", f"{said} of {rows.num_rows} examples leave none to train", "hold out fewer")
    held = _hold_out(rows, sizes, split, by_label=by_label)
    for part, size in sizes.items():
        if not len(held[part]):
            problem = (
                f"no value of {split.group} is left that has so few examples that {size} for {part} can be held out"
            )
            raise Refusal(f"{place}.split.group", problem, "hold out another number, or leave group out")
    drawn = {part: rows.take(pa.array(np.sort(found))) for part, found in held.items()}
    return {part: drawn[part] if part in drawn else parts[part] for part in PARTS}


def _number(asked: object, rows: int) -> int:
    size = float(asked) if isinstance(asked, int | float) else SHARE
    return int(size) if size >= 1 else max(1, round(size * rows))


def _hold_out(rows: pa.Table, sizes: dict[str, int], split: SplitSpec, *, by_label: bool) -> dict[str, Ints]:
    """Returns the rows of each part that is held out, and of "train", the rest.

    A unit, a group or a single row, goes to the first part that it does not make larger than asked. If that leaves a
    part of groups less than half of what is asked, it goes to the part of which the larger share is still to be filled.
    """
    rng = np.random.default_rng(split.seed)
    units = _codes(rows[GROUP]) if split.group else np.arange(rows.num_rows)
    labels = _codes(rows[LABEL]) if by_label else np.zeros(rows.num_rows, np.int64)
    order, counts = _order(_most_frequent(labels, units), rng), np.bincount(units)
    part_of, filled = _filled(order, counts, sizes, lambda left: 0.0)
    if split.group and filled < HALF:
        other, more = _filled(order, counts, sizes, lambda left: left)
        part_of = other if more > filled else part_of
    return {part: np.flatnonzero(part_of[units] == part) for part in (*sizes, "train")}


def _filled(
    order: Ints, counts: Ints, sizes: dict[str, int], prefers: Callable[[float], float]
) -> tuple[npt.NDArray[np.object_], float]:
    """Returns the part of each unit, (units,), and which share of what is asked the least filled part has.

    Args:
        prefers: ranks, by the share of a part that is still to be filled, the parts into which a unit fits; of equal
            ones the first is taken.
    """
    left, part_of = dict(sizes), np.full(len(counts), "train", dtype=object)
    for unit in order[:-1]:
        fitting = [part for part, room in left.items() if counts[unit] <= room]
        if fitting:
            part = max(fitting, key=lambda each: prefers(left[each] / sizes[each]))
            part_of[unit] = part
            left[part] -= counts[unit]
        if not any(left.values()):
            break
    return part_of, min(1 - left[part] / size for part, size in sizes.items())


def _order(labels: Ints, rng: np.random.Generator) -> Ints:
    """Returns units (n,) in an order of which each beginning has the labels in proportion; a label's last comes last.

    Within its label each unit has a random rank, and ranks of all labels are spread evenly over the same range.
    """
    shuffled = rng.permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels)
    position = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    total = np.repeat(counts, counts)
    rank = (position + rng.random(len(labels))) / total + (position == total - 1)
    return by_label[np.argsort(rank, kind="stable")]


def _most_frequent(labels: Ints, units: Ints) -> Ints:
    """Returns the most frequent label of each unit, (units,)."""
    width = int(labels.max()) + 1
    pairs, counts = np.unique(units * width + labels, return_counts=True)
    order = np.lexsort((counts, pairs // width))  # a unit's most frequent pair comes last, and so stays
    found = np.zeros(int(units.max()) + 1, np.int64)
    found[pairs[order] // width] = pairs[order] % width
    return found


def _codes(column: pa.ChunkedArray) -> Ints:
    """Returns equal values as equal integers from 0."""
    values = column.combine_chunks()
    return np.asarray(pc.index_in(values, value_set=values.unique()), np.int64)


def by_column(rows: pa.Table) -> dict[str, pa.Table]:
    """Returns the rows of each part that the column PART names."""
    found = {part: rows.filter(pc.equal(rows[PART], part)) for part in PARTS}
    return {part: table.drop_columns(PART) for part, table in found.items() if table.num_rows}


def overlaps(parts: dict[str, pa.Table], columns: tuple[str, ...]) -> dict[tuple[str, str], int]:
    """Returns how many rows of a later part have the same values in `columns` as some row of an earlier part.

    A part without these columns has none, and so has a row with a gap in them.
    """
    found: dict[tuple[str, str], int] = {}
    there = [part for part in PARTS if set(columns) <= set(parts[part].column_names)]
    for number, part in enumerate(there):
        for earlier in there[:number]:
            known = parts[earlier].select(columns).group_by(list(columns)).aggregate([])
            both = parts[part].select(columns).drop_null().join(known, keys=list(columns), join_type="left semi")
            if both.num_rows:
                found[part, earlier] = both.num_rows
    return found


def load_own(name: str, spec: TaskSpec, place: str) -> OwnData:
    """Reads all of a task's examples.

    Args:
        name: the task's.
        spec: what the request says of it, with absolute paths.
        place: the task's place in the request, for messages.

    Raises:
        Refusal: with the file, column, row or key that is wrong.
    """
    answers = answers_of(spec, place)
    files = _files(spec, place, answers)
    labelled = answers is Answers.LABELS
    known = known_labels(files) if labelled else []
    refuse_odd_labels(files, known, spec)
    whole = {part: _joined(some) for part, some in files.items()}
    unused: list[str] = []
    if spec.split.column:
        whole = _by_column(whole, spec, place)
        unused = [part for part in whole if isinstance(getattr(spec.split, part, None), int | float)]
    parts = divide(whole, spec.split, place, by_label=labelled)
    if answers is not Answers.TEXTS:
        refuse_alike(parts["train"], files, spec)
    if labelled:
        refuse_unseen(parts, files, spec)
    train = parts["train"]
    task = make_task(name, spec, place, train[LABEL], answers)
    for part in compared_parts(task):
        refuse_unmatched(task, parts[part][LABEL], place, part)
    counts = Counter(train[LABEL].to_pylist()) if labelled else Counter()
    encoded = {part: _encoded(table, task) for part, table in parts.items()}
    odd = try_functions(task, encoded["train"][LABEL].to_numpy(), place)
    tried = try_draws(task, encoded["validation"][LABEL].to_numpy())
    shared = tuple(_shared(task, spec, parts))
    return OwnData(
        task=task,
        parts=encoded,
        provenance=spec.data,
        shares=tuple(counts[label] / train.num_rows for label in task.labels),
        warnings=(*_doubts(task, spec, parts, unused), *(text for _, text in shared), *odd, *tried),
        doubts=shared,
    )


def _doubts(task: Task, spec: TaskSpec, parts: dict[str, pa.Table], unused: Sequence[str]) -> Iterator[str]:
    """Yields what a person should know about the parts before training."""
    if task.labels:
        yield from doubt_labels(task.labels, task.title)
        if spec.positive is None and any(row.of_one_label for row in rows_of(task.metrics)):
            yield from doubt_positive(task.labels, task.title)
    yield from (_unused(task, spec, part) for part in unused)
    if spec.split.group:
        grouped = [table[GROUP].unique() for table in parts.values() if GROUP in table.column_names]
        known = dict.fromkeys(group for found in grouped for group in found.to_pylist() if group is not None)
        yield from doubt_groups(known, spec.split.group, task.title)


def _shared(task: Task, spec: TaskSpec, parts: dict[str, pa.Table]) -> Iterator[tuple[str, str]]:
    """Yields later parts with what they share with an earlier one: whole examples, or groups."""
    for (part, earlier), count in overlaps(parts, inputs_of(spec)).items():
        yield part, _duplicates_text(task, part, earlier, parts[part].num_rows, count)
    for (part, earlier), count in (overlaps(parts, (GROUP,)) if spec.split.group else {}).items():
        yield part, _straddles(task, str(spec.split.group), part, earlier, count)


def _files(spec: TaskSpec, place: str, answers: Answers) -> dict[str, list[Examples]]:
    """Returns the checked rows of every file, by part; a part is not read if another one is held out in its place."""
    found = sources(spec.data)
    for part in ("validation", "test"):
        asked = getattr(spec.split, part)
        if isinstance(asked, str | PartSpec) and part in found:
            problem = f"the data have a {part} part: {found[part][0].place}"
            raise Refusal(f"{place}.split.{part}", problem, "leave one of them out")
        match asked:
            case PartSpec():
                found[part] = _of_part(asked.data, part)
            case str():
                found[part] = _of_part(asked, part)
            case int() | float():
                found.pop(part, None)
    if spec.split.column and len(found) > 1:
        problem = f"the files are parts already: {', '.join(found)}"
        raise Refusal(f"{place}.split.column", problem, "leave it out, or name one file")
    return {
        part: [examples(_read(each, part, spec), spec, answers, part) for each in some] for part, some in found.items()
    }


def _of_part(data: str, part: str) -> list[Source]:
    """Returns what holds a part among data that may have several; all of them if they name no part."""
    found = sources(data, part)
    if part not in found and len(found) > 1:
        raise Refusal(data, f"has no {part} part; found {', '.join(found)}", "name a file, or hold examples out")
    return found.get(part) or found["train"]


def _read(source: Source, part: str, spec: TaskSpec) -> File:
    """Returns the columns of a part under the task's own names; only training examples, of which others are held out,
    need a group in each row."""
    asked, columns = getattr(spec.split, part, None), columns_of(spec)
    if isinstance(asked, PartSpec):
        theirs = (*(asked.text or spec.text), asked.answer or spec.answer)
        names = dict(zip(theirs, (*spec.text, spec.answer), strict=True))
        if (group := spec.split.group) and group not in {*theirs, *names.values()}:
            with suppress(Refusal):
                return source.read((*theirs, group)).renamed({**names, group: group})
        return source.read(theirs).renamed(names)
    if part != "train" and spec.split.group:
        with suppress(Refusal):
            return source.read(columns)
        columns = [name for name in columns if name != spec.split.group]
    return source.read(columns)


def _joined(files: Sequence[Examples]) -> pa.Table:
    """Returns the rows of a part's files; those of a file without groups have gaps in their place."""
    return pa.concat_tables([each.table for each in files], promote_options="default")


def _by_column(whole: dict[str, pa.Table], spec: TaskSpec, place: str) -> dict[str, pa.Table]:
    parts = by_column(whole["train"])
    if "train" not in parts:
        raise Refusal(f"{place}.split.column", f"{spec.split.column} says train in no row", "write it there")
    return parts


def _encoded(table: pa.Table, task: Task) -> pa.Table:
    """Returns a part with label indices in place of labels, and without the columns that only divided it."""
    labels = table[LABEL]
    if task.labels:
        labels = pc.index_in(labels, value_set=pa.array(task.labels, labels.type)).cast(pa.int64())
    return table.select(list(task.inputs)).append_column(LABEL, labels)


def _duplicates_text(task: Task, part: str, earlier: str, rows: int, count: int) -> str:
    those = f"{count} of the {rows} {part} examples of {task.title}"
    return f"{those} {'is' if count == 1 else 'are'} also in {earlier}, word for word"


def _unused(task: Task, spec: TaskSpec, part: str) -> str:
    asked = shown(getattr(spec.split, part))
    return f"split.{part} of {task.title}, {asked}, is not used: the column {spec.split.column} names {part} examples"


def _straddles(task: Task, group: str, part: str, earlier: str, count: int) -> str:
    return f"{count} {part} examples of {task.title} have a {group} that is also in {earlier}"
