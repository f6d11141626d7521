"""Makes a task and its three parts from the files that a request names."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from krona_tune.data.own.data_files import read, read_file
from krona_tune.data.own.examples import LABEL, Examples, columns_of, examples, inputs_of
from krona_tune.data.own.held_out import by_column, divide, overlaps
from krona_tune.data.own.labels import known_labels, refuse_odd_labels, refuse_unseen
from krona_tune.data.own.make_task import is_regression, make_task, try_functions
from krona_tune.data.own.own_data import OwnData
from krona_tune.data.tasks import Task
from krona_tune.refusal import Refusal
from krona_tune.study.spec.task_spec import TaskSpec


def load_own(name: str, spec: TaskSpec, place: str) -> OwnData:
    """Reads all of a task's examples.

    Args:
        name: the task's.
        spec: what the request says of it, with absolute paths.
        place: the task's place in the request, for messages.

    Raises:
        Refusal: with the file, column, row or key that is wrong.
    """
    regression = is_regression(spec, place)
    files = _files(spec, place, regression=regression)
    known = known_labels(files) if not regression else []
    refuse_odd_labels(files, known, spec)
    whole = {part: pa.concat_tables([each.table for each in some]) for part, some in files.items()}
    if spec.split.column:
        whole = _by_column(whole, spec, place)
    parts = divide(whole, spec.split, place, by_label=not regression)
    refuse_unseen(parts, files, spec, regression=regression)
    train = parts["train"]
    task = make_task(name, spec, place, train[LABEL], regression=regression)
    found = overlaps(parts, inputs_of(spec))
    warnings = [_said(task, *pair, parts[pair[0]].num_rows, count) for pair, count in found.items()]
    if spec.split.group:
        straddling = overlaps(parts, ("group",))
        warnings += [_straddles(task, spec.split.group, *pair, count) for pair, count in straddling.items()]
    counts = Counter(train[LABEL].to_pylist()) if not regression else Counter()
    encoded = {part: _encoded(table, task) for part, table in parts.items()}
    try_functions(task, encoded["train"][LABEL].to_numpy(), place)
    return OwnData(
        task=task,
        parts=encoded,
        provenance=spec.data,
        shares=tuple(counts[label] / train.num_rows for label in task.labels),
        warnings=tuple(warnings),
    )


def _files(spec: TaskSpec, place: str, *, regression: bool) -> dict[str, list[Examples]]:
    """Returns the checked rows of every file, by part."""
    columns = columns_of(spec)
    found = read(spec.data, columns)
    for part in ("validation", "test"):
        if isinstance(path := getattr(spec.split, part), str):
            if part in found:
                problem = f"the data have a {part} part: {found[part][0].place}"
                raise Refusal(f"{place}.split.{part}", problem, "leave one of them out")
            found[part] = [read_file(Path(path), columns)]
        elif path is not None:
            found.pop(part, None)  # another one is held out in its place
    if spec.split.column and len(found) > 1:
        problem = f"the files are parts already: {', '.join(found)}"
        raise Refusal(f"{place}.split.column", problem, "leave it out, or name one file")
    return {part: [examples(file, spec, regression=regression) for file in some] for part, some in found.items()}


def _by_column(whole: dict[str, pa.Table], spec: TaskSpec, place: str) -> dict[str, pa.Table]:
    parts = by_column(whole["train"])
    if "train" not in parts:
        raise Refusal(f"{place}.split.column", f"{spec.split.column} says train in no row", "write it there")
    return parts


def _encoded(table: pa.Table, task: Task) -> pa.Table:
    """Returns a part with label indices in place of labels, and without the columns that only divided it."""
    labels = table[LABEL]
    if not task.is_regression:
        labels = pc.index_in(labels, value_set=pa.array(task.labels)).cast(pa.int64())
    return table.select(list(task.inputs)).append_column(LABEL, labels)


def _said(task: Task, part: str, earlier: str, rows: int, count: int) -> str:
    those = f"{count} of the {rows} {part} examples of {task.title}"
    return f"{those} {'is' if count == 1 else 'are'} also in {earlier}, word for word"


def _straddles(task: Task, group: str, part: str, earlier: str, count: int) -> str:
    return f"{count} {part} examples of {task.title} have a {group} that is also in {earlier}"
