"""Refuses labels of one's own files that no classifier can learn, or that mean different things in two files."""

from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc

from krona_tune.data.own.examples import LABEL, MIXED, Examples, first_row, kind_of, sorted_labels
from krona_tune.refusal import Refusal, shown
from krona_tune.study.spec.task_spec import TaskSpec

MOST_LABELS = 1_000
FIX = "correct it, add training examples of it, or hold others out with split.seed"
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


def refuse_unseen(parts: dict[str, pa.Table], files: Files, spec: TaskSpec) -> None:
    """Refuses a label of validation or test that no training example has."""
    seen = parts["train"][LABEL].unique()
    if len(seen) == 1:
        place = f"{files['train'][0].place}: {spec.label}"
        raise Refusal(place, f"every training example has the label {shown(seen[0].as_py())}", "divide them otherwise")
    for part, table in parts.items():
        unseen = pc.invert(pc.is_in(table[LABEL], value_set=seen))
        if not pc.any(unseen).as_py():
            continue
        label = table[LABEL][first_row(unseen) - 1]
        where = next(each for each in files.get(part, files["train"]) if pc.is_in(label, each.table[LABEL].unique()))
        row = first_row(pc.equal(where.table[LABEL], label))
        problem = f"the label {shown(label.as_py())} of a {part} example is that of no training example"
        raise Refusal(f"{where.place}: {spec.label}: row {row}", problem, FIX)
