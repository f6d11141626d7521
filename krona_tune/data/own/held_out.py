"""Divides examples of one's own into train, validation and test: as given, or held out by a seed."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from krona_tune.data.splits import PARTS
from krona_tune.refusal import Refusal
from krona_tune.study.spec.task_spec import SplitSpec

SHARE = 0.15
"""The share of the examples that validation and test each get if nothing else is asked."""
FEW = 20
"""A part with fewer examples says little: one of them more or less right is 5 % of an accuracy."""
Ints = npt.NDArray[np.int64]


def divide(parts: dict[str, pa.Table], split: SplitSpec, place: str, *, by_label: bool) -> dict[str, pa.Table]:
    """Returns train, validation and test; no row is in two of them.

    Args:
        parts: the parts that the data have, with the columns `label` and, if asked, `group`; at least "train".
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
            problem = f"no value of {split.group} has so few examples that {size} for {part} can be held out"
            raise Refusal(f"{place}.split.group", problem, "hold out more, or leave group out")
    drawn = {part: rows.take(pa.array(np.sort(found))) for part, found in held.items()}
    return {part: drawn[part] if part in drawn else parts[part] for part in PARTS}


def doubt_sizes(parts: dict[str, pa.Table], of: str) -> Iterator[str]:
    """Yields a warning about parts that are too small."""
    few = [f"{table.num_rows} {part}" for part, table in parts.items() if table.num_rows < FEW]
    if few:
        yield f"{of} has only {', '.join(few)} examples: with so few, scores are mostly chance"


def _number(asked: object, rows: int) -> int:
    size = float(asked) if isinstance(asked, int | float) else SHARE
    return int(size) if size >= 1 else max(1, round(size * rows))


def _hold_out(rows: pa.Table, sizes: dict[str, int], split: SplitSpec, *, by_label: bool) -> dict[str, Ints]:
    """Returns the rows of each part that is held out, and of "train", the rest.

    A unit, a group or a single row, goes to the first part that it does not make larger than asked.
    """
    rng = np.random.default_rng(split.seed)
    units = _codes(rows["group"]) if split.group else np.arange(rows.num_rows)
    labels = _codes(rows["label"]) if by_label else np.zeros(rows.num_rows, np.int64)
    order, counts = _order(_most_frequent(labels, units), rng), np.bincount(units)
    left = dict(sizes)
    part_of = np.full(len(counts), "train", dtype=object)
    for unit in order[:-1]:
        part = next((part for part, room in left.items() if counts[unit] <= room), None)
        if part:
            part_of[unit] = part
            left[part] -= counts[unit]
        if not any(left.values()):
            break
    return {part: np.flatnonzero(part_of[units] == part) for part in (*sizes, "train")}


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
    """Returns the rows of each part that the column `part` names."""
    found = {part: rows.filter(pc.equal(rows["part"], part)) for part in PARTS}
    return {part: table.drop_columns("part") for part, table in found.items() if table.num_rows}


def overlaps(parts: dict[str, pa.Table], columns: tuple[str, ...]) -> dict[tuple[str, str], int]:
    """Returns how many rows of a later part have the same values in `columns` as some row of an earlier part.

    A part without these columns has none.
    """
    found: dict[tuple[str, str], int] = {}
    there = [part for part in PARTS if set(columns) <= set(parts[part].column_names)]
    for number, part in enumerate(there):
        for earlier in there[:number]:
            known = parts[earlier].select(columns).group_by(list(columns)).aggregate([])
            both = parts[part].select(columns).join(known, keys=list(columns), join_type="left semi")
            if both.num_rows:
                found[part, earlier] = both.num_rows
    return found
