"""Generates splits of synthetic examples: balanced, without repeats, and with no text in common."""

from itertools import cycle, islice
from random import Random
from typing import NamedTuple

import pyarrow as pa

from krona_tune.data.mini_glue import cola, mnli, mrpc, qnli, qqp, rte, sst2, stsb, wnli
from krona_tune.data.mini_grammar import Example, Writer
from krona_tune.data.tasks import Task
from krona_tune.refusal import Refusal, unknown

ATTEMPTS = 500
"""The number of drafts in a row that may repeat used texts before a task counts as exhausted."""


class Builder(NamedTuple):
    """The way in which one task is written: `write(rng, level)` drafts an example; all levels are equally frequent.

    The level is the label, or in a regression how many parts agree.
    """

    write: Writer
    levels: int


BUILDERS: dict[str, Builder] = {
    "cola": Builder(cola, 2),
    "sst2": Builder(sst2, 2),
    "mrpc": Builder(mrpc, 2),
    "qqp": Builder(qqp, 2),
    "stsb": Builder(stsb, 6),
    "mnli": Builder(mnli, 3),
    "qnli": Builder(qnli, 2),
    "rte": Builder(rte, 2),
    "wnli": Builder(wnli, 2),
}


def generate(
    task: Task, *, train: int = 512, validation: int = 256, test: int = 512, seed: int = 0
) -> dict[str, pa.Table]:
    """Returns tables `train`, `validation` and `test` with the columns `*task.inputs` and `label`.

    The same arguments give the same tables, in every process and on every machine. No example occurs twice in a split,
    and no text of one split occurs in another. Train is written last, so that a larger one does not change the others.
    Raises a Refusal for more examples than the vocabulary allows.
    """
    if task.name not in BUILDERS:
        raise unknown("mini-GLUE", "task", task.name, BUILDERS)
    taken: set[str] = set()
    tables: dict[str, pa.Table] = {}
    for split, size in {"validation": validation, "test": test, "train": train}.items():
        rng = Random(f"mini-GLUE {task.name} {split} {seed}")
        examples = _write(task.name, split, size, rng, taken)
        taken.update(text for example in examples for text in example.texts)
        tables[split] = _table(task, examples)
    return {split: tables[split] for split in ("train", "validation", "test")}


def _write(name: str, split: str, size: int, rng: Random, taken: set[str]) -> list[Example]:
    """Returns `size` examples with different texts, balanced over the levels, with no text from `taken`."""
    write, levels = BUILDERS[name]
    order = list(islice(cycle(range(levels)), size))
    rng.shuffle(order)
    written: dict[tuple[str, ...], Example] = {}
    for level in order:
        drafts = (write(rng, level) for _ in range(ATTEMPTS))
        fresh = next((draft for draft in drafts if draft.texts not in written and taken.isdisjoint(draft.texts)), None)
        if fresh is None:
            raise Refusal(
                f"mini-GLUE {name}",
                f"the vocabulary gave {len(written)} distinct examples for {split}, {size} were asked for",
                "ask for smaller splits",
            )
        written[fresh.texts] = fresh
    return list(written.values())


def _table(task: Task, examples: list[Example]) -> pa.Table:
    texts = {name: pa.array([e.texts[i] for e in examples], pa.string()) for i, name in enumerate(task.inputs)}
    labels = pa.array([e.label for e in examples], pa.float64() if task.is_regression else pa.int64())
    return pa.table({**texts, "label": labels})
