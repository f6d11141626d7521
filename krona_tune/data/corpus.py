"""Loads a task's examples: the miniature's, GLUE's or one's own; finds what makes its scores mean little."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from krona_tune.data import glue
from krona_tune.data.glue import HUB
from krona_tune.data.tasks import Task
from krona_tune.refusal import Refusal, shown

PARTS = ("train", "validation", "test")
FEW = 20
"""A part with fewer examples says little: one of them more or less right is 5 % of an accuracy."""

Doubts = tuple[tuple[str, str], ...]
"""Parts with what makes the scores on them mean little."""


def subsample(parts: dict[str, pa.Table], wanted: dict[str, int | None], seed: int) -> dict[str, pa.Table]:
    """Returns at most `wanted` rows of each part, by its own permutation; fewer rows are a prefix of more rows."""
    return {part: _some(table, wanted[part], [seed, PARTS.index(part)]) for part, table in parts.items()}


def _some(table: pa.Table, examples: int | None, seed: list[int]) -> pa.Table:
    if examples is None or examples >= table.num_rows:
        return table
    return table.take(np.random.default_rng(seed).permutation(table.num_rows)[:examples])


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """A task of one's own and its three whole parts: columns `*task.inputs` (text) and `label` (int64, float64 or
    text).

    `shares` are the labels' shares of all training examples, in the order of the labels; none without labels.
    `warnings` say what a person should know before training, and `doubts` which of them make the scores on a part mean
    little, with that part.
    """

    task: Task
    parts: dict[str, pa.Table]
    provenance: str
    shares: tuple[float, ...]
    warnings: tuple[str, ...]
    doubts: Doubts = ()


MINI = "mini"


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """One task's three parts. Columns: `*task.inputs` (text) and `label` (int64, float64 for a regression, a text
    where texts are written).

    `provenance` is for people; `fingerprint` is the sha256 of the task's name and every text and label. `contents` is
    that of all texts and labels that the source has, whatever the task is called and whichever rows were chosen; empty
    for generated ones. `warnings` say what was noticed when the data were read, and `doubts` which of that makes the
    scores on a part mean little, with that part.
    """

    task: Task
    train: pa.Table
    validation: pa.Table
    test: pa.Table
    provenance: str
    synthetic: bool
    fingerprint: str
    contents: str = ""
    warnings: tuple[str, ...] = ()
    doubts: Doubts = ()


def load(
    task: Task,
    source: str | OwnData,
    *,
    train_examples: int | None = None,
    validation_examples: int | None = None,
    test_examples: int | None = None,
    seed: int = 0,
) -> TaskData:
    """Returns the task's data from `source`: its own files, "mini" (generated), "hub", or a folder with GLUE's files.

    At most `*_examples` rows of each part are chosen by `seed`; which part a row belongs to doesn't depend on it.
    Raises a Refusal, with file and line, if the source is missing or holds what the task can't have.
    """
    wanted = dict(zip(PARTS, (train_examples, validation_examples, test_examples), strict=True))
    for part, examples in wanted.items():
        if examples is not None and examples < 1:
            raise Refusal(f"{part}_examples", f"{examples} is not a number of examples", "give 1 or more")
    if source == MINI:
        return _mini(task, wanted, seed)
    if isinstance(source, OwnData):
        whole, provenance = source.parts, source.provenance
    else:
        whole, provenance = glue.read(task, source)
    parts = subsample(whole, wanted, seed)
    data = _task_data(task, parts, f"{provenance}; {_counts(parts, whole)}", synthetic=False)
    if isinstance(source, OwnData):
        few = tuple(_doubt_parts(task, parts))
        warnings = (*source.warnings, *(text for _, text in few))
        data = replace(data, warnings=warnings, doubts=(*source.doubts, *few))
    return replace(data, contents=_contents(task, whole))


def _doubt_parts(task: Task, parts: dict[str, pa.Table]) -> Iterator[tuple[str, str]]:
    """Yields parts with warnings about few examples, and about labels that a part has no example of, so that its score
    says nothing of them."""
    few = [f"{table.num_rows} {part}" for part, table in parts.items() if table.num_rows < FEW]
    if few:
        first = few[0].rpartition(" ")[2]
        yield first, f"{task.title} has only {', '.join(few)} examples: with so few, scores are mostly chance"
    for part in ("validation", "test"):  # `find_warnings` counts what training lacks
        there = set(parts[part]["label"].unique().to_pylist()) if task.labels else set()
        lacking = [label for number, label in enumerate(task.labels) if number not in there]
        if lacking:
            many = f"{len(lacking)} of the {len(task.labels)} labels, such as" if len(lacking) > 1 else "the label"
            yield part, f"no {part} example of {task.title} has {many} {shown(lacking[0])}"


def check(source: str, tasks: Iterable[str]) -> None:
    """Refuses a folder that lacks one of the tasks or a column of it; reads first lines and schemas only.

    "mini" and "hub" are not checked here, only by `load`.
    """
    if source not in (MINI, HUB):
        glue.check(source, tasks)


def _mini(task: Task, wanted: dict[str, int | None], seed: int) -> TaskData:
    from krona_tune.data import mini_glue

    parts = mini_glue.generate(
        task, **{part: examples for part, examples in wanted.items() if examples is not None}, seed=seed
    )
    return _task_data(task, parts, f"generated miniature, seed {seed}; {_counts(parts, parts)}", synthetic=True)


def _counts(parts: dict[str, pa.Table], whole: dict[str, pa.Table]) -> str:
    def count(part: str) -> str:
        some, available = parts[part].num_rows, whole[part].num_rows
        return f"{part} {some}" + (f" of {available}" if some < available else "")

    return ", ".join(map(count, parts))


def _task_data(task: Task, parts: dict[str, pa.Table], provenance: str, *, synthetic: bool) -> TaskData:
    tables = {part: parts[part].select([*task.inputs, "label"]).combine_chunks() for part in PARTS}
    fingerprint = _fingerprint(task, tables)
    return TaskData(task=task, **tables, provenance=provenance, synthetic=synthetic, fingerprint=fingerprint)


def _fingerprint(task: Task, tables: dict[str, pa.Table]) -> str:
    """Hashes the contents only: other chunks, additional columns and another place give the same hash."""
    digest = hashlib.sha256(task.name.encode())
    for part, table in tables.items():
        digest.update(f"{part} {table.num_rows}\n".encode())
        for name in (*task.inputs, *["label"] * (task.generation is not None)):
            texts = [text.encode() for text in table[name].to_pylist()]
            digest.update(np.array([len(text) for text in texts], dtype="<i8").tobytes())
            digest.update(b"".join(texts))
        if task.generation is None:
            digest.update(table["label"].to_numpy().astype("<f8").tobytes())
    return digest.hexdigest()


def _contents(task: Task, whole: dict[str, pa.Table]) -> str:
    """Hashes every text with its label, in whichever order and part they are, so that equal data have equal hashes."""
    rows: list[bytes] = []
    for part in PARTS:
        columns = [whole[part][name].to_pylist() for name in (*task.inputs, "label")]
        rows += [hashlib.blake2b(repr(row).encode(), digest_size=16).digest() for row in zip(*columns, strict=True)]
    return hashlib.sha256(b"".join(sorted(rows))).hexdigest()


def find_warnings(data: TaskData) -> Iterator[str]:
    """Yields what was noticed in reading, and what is odd in a part: only empty texts, or only one label."""
    yield from data.warnings
    yield from (text for _, text in _odd_parts(data))


def find_doubts(data: TaskData, *, tested: bool) -> Iterator[str]:
    """Yields which of the warnings make scores mean little; those of the test half only where it is `tested`."""
    yield from (text for part, text in (*data.doubts, *_odd_parts(data)) if tested or part != "test")


def _odd_parts(data: TaskData) -> Iterator[tuple[str, str]]:
    """Yields parts with what is odd in them."""
    for part in PARTS:
        table = getattr(data, part)
        which = f"the {table.num_rows} {part} examples of {data.task.title}"
        yield from (
            (part, f"{which} have no {name}: all are empty") for name in data.task.inputs if _is_empty(table[name])
        )
        labels = table["label"].unique().to_pylist()
        if len(labels) == 1:
            yield part, f"{which} all have the {_label_text(data.task, labels[0])}"
        elif part == "train" and len(labels) < len(data.task.labels):
            lack = len(data.task.labels) - len(labels)
            yield part, f"{which} have {lack} of its {len(data.task.labels)} labels not once; use more of them"


def _is_empty(texts: pa.ChunkedArray) -> bool:
    return bool(pc.max(pc.utf8_length(pc.utf8_trim_whitespace(texts))).as_py() == 0)


def _label_text(task: Task, label: Any) -> str:
    if task.generation:
        return "same target"
    return f"score {label:g}" if task.is_regression else f"label {shown(task.labels[int(label)])}"
