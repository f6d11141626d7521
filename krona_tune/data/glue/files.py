"""Holds how GLUE keeps each task: its official TSV columns, and how its splits become train, validation and test."""

from dataclasses import dataclass
from enum import StrEnum


class Split(StrEnum):
    """The way from labelled data to train, validation and test (the hidden official test set is never used).

    This is the convention of the Compacter code base, with the permutation seed 42.
    """

    HALVED = "halved"  # the official validation set is halved into validation and test
    HELD_OUT = "held_out"  # validation is 1,000 training examples, test the official validation set
    TWO_DEV = "two_dev"  # validation is validation_mismatched, test validation_matched


@dataclass(frozen=True, kw_only=True)
class TsvLayout:
    """The columns of a task in the official TSV files. Quoting is off in all of them.

    `columns` maps our column names (the hub's) to header names, or to positions if there is no header. `label_words`
    maps the file's label texts to label indices; None: the text is already a number. A row with the label `unlabelled`
    has none (annotators disagreed) and is left out. `dev` are the official validation files; two of them are in the
    order validation, test.
    """

    columns: dict[str, str | int]
    header: bool = True
    label_words: dict[str, int] | None = None
    unlabelled: str | None = None
    dev: tuple[str, ...] = ("dev",)


@dataclass(frozen=True, kw_only=True)
class GlueFiles:
    """Says how one task is kept and divided."""

    split: Split
    tsv: TsvLayout


_ENTAILMENT = {"entailment": 0, "not_entailment": 1}
_PAIR_COLUMNS: dict[str, str | int] = {"sentence1": "sentence1", "sentence2": "sentence2", "label": "label"}
FILES: dict[str, GlueFiles] = {
    "cola": GlueFiles(split=Split.HALVED, tsv=TsvLayout(columns={"sentence": 3, "label": 1}, header=False)),
    "sst2": GlueFiles(split=Split.HELD_OUT, tsv=TsvLayout(columns={"sentence": "sentence", "label": "label"})),
    "mrpc": GlueFiles(
        split=Split.HALVED,
        tsv=TsvLayout(columns={"sentence1": "#1 String", "sentence2": "#2 String", "label": "Quality"}),
    ),
    "qqp": GlueFiles(
        split=Split.HELD_OUT,
        tsv=TsvLayout(columns={"question1": "question1", "question2": "question2", "label": "is_duplicate"}),
    ),
    "stsb": GlueFiles(split=Split.HALVED, tsv=TsvLayout(columns={**_PAIR_COLUMNS, "label": "score"})),
    "mnli": GlueFiles(
        split=Split.TWO_DEV,
        tsv=TsvLayout(
            columns={"premise": "sentence1", "hypothesis": "sentence2", "label": "gold_label"},
            label_words={"entailment": 0, "neutral": 1, "contradiction": 2},
            unlabelled="-",
            dev=("dev_mismatched", "dev_matched"),
        ),
    ),
    "qnli": GlueFiles(
        split=Split.HELD_OUT,
        tsv=TsvLayout(
            columns={"question": "question", "sentence": "sentence", "label": "label"}, label_words=_ENTAILMENT
        ),
    ),
    "rte": GlueFiles(split=Split.HALVED, tsv=TsvLayout(columns=_PAIR_COLUMNS, label_words=_ENTAILMENT)),
    "wnli": GlueFiles(split=Split.HALVED, tsv=TsvLayout(columns=_PAIR_COLUMNS)),
}
