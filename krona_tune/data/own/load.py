"""Makes a task and its three parts from the files that a request names."""

from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from krona_tune.data.own.data_files import File, read
from krona_tune.data.own.examples import GROUP, LABEL, Answers, Examples, columns_of, examples, inputs_of
from krona_tune.data.own.held_out import by_column, divide, doubt_sizes, overlaps
from krona_tune.data.own.labels import doubt_labels, doubt_rare, known_labels, refuse_odd_labels, refuse_unseen
from krona_tune.data.own.make_task import (
    answers_of,
    compared_parts,
    make_task,
    refuse_odd_functions,
    refuse_unmatched,
    try_draws,
)
from krona_tune.data.own.own_data import OwnData
from krona_tune.data.tasks import Task
from krona_tune.refusal import Refusal, shown
from krona_tune.study.spec.task_spec import PartSpec, TaskSpec


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
    whole = {part: pa.concat_tables([each.table for each in some]) for part, some in files.items()}
    unused: list[str] = []
    if spec.split.column:
        whole = _by_column(whole, spec, place)
        unused = [part for part in whole if isinstance(getattr(spec.split, part, None), int | float)]
    parts = divide(whole, spec.split, place, by_label=labelled)
    if labelled:
        refuse_unseen(parts, files, spec)
    train = parts["train"]
    task = make_task(name, spec, place, train[LABEL], answers)
    for part in compared_parts(task):
        refuse_unmatched(task, parts[part][LABEL], place, part)
    counts = Counter(train[LABEL].to_pylist()) if labelled else Counter()
    encoded = {part: _encoded(table, task) for part, table in parts.items()}
    refuse_odd_functions(task, encoded["train"][LABEL].to_numpy(), place)
    tried = try_draws(task, encoded["validation"][LABEL].to_numpy())
    return OwnData(
        task=task,
        parts=encoded,
        provenance=spec.data,
        shares=tuple(counts[label] / train.num_rows for label in task.labels),
        warnings=(*_doubts(task, spec, parts, unused), *tried),
    )


def _doubts(task: Task, spec: TaskSpec, parts: dict[str, pa.Table], unused: Sequence[str]) -> Iterator[str]:
    """Yields what a person should know about the parts before training."""
    yield from doubt_sizes(parts, task.title)
    if task.labels:
        yield from doubt_labels(task.labels, task.title)
        yield from doubt_rare(parts, task.labels, task.title)
    for (part, earlier), count in overlaps(parts, inputs_of(spec)).items():
        yield _said(task, part, earlier, parts[part].num_rows, count)
    yield from (_unused(task, spec, part) for part in unused)
    for pair, count in (overlaps(parts, (GROUP,)) if spec.split.group else {}).items():
        yield _straddles(task, str(spec.split.group), *pair, count)


def _files(spec: TaskSpec, place: str, answers: Answers) -> dict[str, list[Examples]]:
    """Returns the checked rows of every file, by part."""
    columns = columns_of(spec)
    found = read(spec.data, columns)
    for part in ("validation", "test"):
        asked = getattr(spec.split, part)
        if isinstance(asked, str | PartSpec) and part in found:
            problem = f"the data have a {part} part: {found[part][0].place}"
            raise Refusal(f"{place}.split.{part}", problem, "leave one of them out")
        match asked:
            case PartSpec():
                found[part] = _elsewhere(asked, part, spec)
            case str():
                found[part] = _of_part(asked, part, columns)
            case int() | float():
                found.pop(part, None)  # another one is held out in its place
    if spec.split.column and len(found) > 1:
        problem = f"the files are parts already: {', '.join(found)}"
        raise Refusal(f"{place}.split.column", problem, "leave it out, or name one file")
    return {part: [examples(file, spec, answers) for file in some] for part, some in found.items()}


def _elsewhere(asked: PartSpec, part: str, spec: TaskSpec) -> list[File]:
    """Returns the files of a part that lies elsewhere, with the task's own names of columns."""
    theirs = (*(asked.text or spec.text), asked.answer or spec.answer)
    names = dict(zip(theirs, (*spec.text, spec.answer), strict=True))
    return [each.renamed(names) for each in _of_part(asked.data, part, theirs)]


def _of_part(data: str, part: str, columns: Sequence[str]) -> list[File]:
    """Returns the files of a part among data that may have several; all of them if they name no part."""
    files = read(data, columns)
    if part not in files and len(files) > 1:
        raise Refusal(data, f"has no {part} part; found {', '.join(files)}", "name a file, or hold examples out")
    return files.get(part, files["train"])


def _by_column(whole: dict[str, pa.Table], spec: TaskSpec, place: str) -> dict[str, pa.Table]:
    parts = by_column(whole["train"])
    if "train" not in parts:
        raise Refusal(f"{place}.split.column", f"{spec.split.column} says train in no row", "write it there")
    return parts


def _encoded(table: pa.Table, task: Task) -> pa.Table:
    """Returns a part with label indices in place of labels, and without the columns that only divided it."""
    labels = table[LABEL]
    if task.labels:
        labels = pc.index_in(labels, value_set=pa.array(task.labels)).cast(pa.int64())
    return table.select(list(task.inputs)).append_column(LABEL, labels)


def _said(task: Task, part: str, earlier: str, rows: int, count: int) -> str:
    those = f"{count} of the {rows} {part} examples of {task.title}"
    return f"{those} {'is' if count == 1 else 'are'} also in {earlier}, word for word"


def _unused(task: Task, spec: TaskSpec, part: str) -> str:
    asked = shown(getattr(spec.split, part))
    return f"split.{part} of {task.title}, {asked}, is not used: the column {spec.split.column} names {part} examples"


def _straddles(task: Task, group: str, part: str, earlier: str, count: int) -> str:
    return f"{count} {part} examples of {task.title} have a {group} that is also in {earlier}"
