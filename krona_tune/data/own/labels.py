"""Refuses labels of one's own files that no classifier can learn, or that mean different things in two files."""

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc

from krona_tune.data.own.examples import LABEL, MIXED, Examples, as_number, first_row, kind_of, sorted_labels
from krona_tune.refusal import Refusal, shown
from krona_tune.study.spec.task_spec import TaskSpec

MOST_LABELS = 1_000
LONGEST_LABEL = 200
"""The most characters of what is surely a label."""
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


def _as_written(label: str) -> object:
    number = as_number(label)
    return label if number is None else number


def _as_seen(label: str) -> str:
    shapes = unicodedata.normalize("NFKC", label)
    return " ".join("".join(each for each in shapes if unicodedata.category(each) != "Cf").split())


_ALIKE: dict[str, Callable[[str], object]] = {
    "in upper and lower case": str.casefold,
    "in how a number is written": _as_written,
    "in blanks, or in how their letters are encoded": _as_seen,
}
"""Ways in which labels may differ that are seldom meant, each with what is equal then."""


def doubt_labels(labels: Sequence[str], of: str) -> Iterator[str]:
    """Yields a warning about labels that may mean one thing, and about one that may be no label."""
    for how, same in _ALIKE.items():
        first: dict[object, str] = {}
        pairs = [(other, label) for label in labels if (other := first.setdefault(same(label), label)) != label]
        if pairs:
            more = f" (and {len(pairs) - 1} more)" if len(pairs) > 1 else ""
            differ = " and ".join(map(shown, pairs[0])) + f"{more} differ only {how}"
            yield f"the labels {differ}: if they mean one thing in {of}, write them alike"
    longest = max(labels, key=len)
    if len(longest) > LONGEST_LABEL:
        yield f"a label of {of} has {len(longest):,} characters, {shown(longest)}: it may be a text"


def doubt_rare(parts: dict[str, pa.Table], labels: Sequence[str], of: str) -> Iterator[str]:
    """Yields a warning about labels that a part has no example of, so that its score says nothing of them."""
    for part, table in parts.items():
        there = set(table[LABEL].unique().to_pylist())
        lacking = [label for label in labels if label not in there]
        if lacking:
            many = f"{len(lacking)} of the {len(labels)} labels, such as" if len(lacking) > 1 else "the label"
            yield f"no {part} example of {of} has {many} {shown(lacking[0])}"


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
