"""Holds the GLUE tasks as one table: columns, labels, prompts, metrics, splits and file layouts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from krona_tune.refusal import Refusal, unknown


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
class Task:
    """One task. `labels` are T5's target words in the order of the hub's label indices; empty: a regression."""

    name: str
    title: str
    inputs: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    split: Split
    tsv: TsvLayout
    prompt_order: tuple[str, ...] = ()
    grid: tuple[float, ...] = field(default=())

    @property
    def is_regression(self) -> bool:
        return not self.labels

    @property
    def candidates(self) -> tuple[str, ...]:
        """Returns what a text-to-text model may answer: the label words, or the grid of scores as text."""
        return self.labels or tuple(f"{value:.1f}" for value in self.grid)

    def prompt(self, texts: Sequence[str]) -> str:
        """Returns the T5 paper's input for texts in the order of `inputs` (appendix D of arXiv 1910.10683)."""
        by_name = dict(zip(self.inputs, texts, strict=True))
        return " ".join([self.name, *(f"{name}: {by_name[name]}" for name in self.prompt_order or self.inputs)])

    def target(self, label: float) -> int:
        """Returns a label's index among `candidates`; a regression's score is rounded to the grid."""
        if not self.is_regression:
            return int(label)
        return min(range(len(self.grid)), key=lambda i: abs(self.grid[i] - label))


_ENTAILMENT = {"entailment": 0, "not_entailment": 1}
_PAIR = ("sentence1", "sentence2")
_PAIR_COLUMNS: dict[str, str | int] = {"sentence1": "sentence1", "sentence2": "sentence2", "label": "label"}

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="cola",
            title="CoLA",
            inputs=("sentence",),
            labels=("unacceptable", "acceptable"),
            metrics=("matthews",),
            split=Split.HALVED,
            tsv=TsvLayout(columns={"sentence": 3, "label": 1}, header=False),
        ),
        Task(
            name="sst2",
            title="SST-2",
            inputs=("sentence",),
            labels=("negative", "positive"),
            metrics=("accuracy",),
            split=Split.HELD_OUT,
            tsv=TsvLayout(columns={"sentence": "sentence", "label": "label"}),
        ),
        Task(
            name="mrpc",
            title="MRPC",
            inputs=_PAIR,
            labels=("not_equivalent", "equivalent"),
            metrics=("accuracy", "f1"),
            split=Split.HALVED,
            tsv=TsvLayout(columns={"sentence1": "#1 String", "sentence2": "#2 String", "label": "Quality"}),
        ),
        Task(
            name="qqp",
            title="QQP",
            inputs=("question1", "question2"),
            labels=("not_duplicate", "duplicate"),
            metrics=("accuracy", "f1"),
            split=Split.HELD_OUT,
            tsv=TsvLayout(columns={"question1": "question1", "question2": "question2", "label": "is_duplicate"}),
        ),
        Task(
            name="stsb",
            title="STS-B",
            inputs=_PAIR,
            labels=(),
            metrics=("pearson", "spearman"),
            split=Split.HALVED,
            tsv=TsvLayout(columns={**_PAIR_COLUMNS, "label": "score"}),
            grid=tuple(i / 5 for i in range(26)),
        ),
        Task(
            name="mnli",
            title="MNLI",
            inputs=("premise", "hypothesis"),
            prompt_order=("hypothesis", "premise"),
            labels=("entailment", "neutral", "contradiction"),
            metrics=("accuracy",),
            split=Split.TWO_DEV,
            tsv=TsvLayout(
                columns={"premise": "sentence1", "hypothesis": "sentence2", "label": "gold_label"},
                label_words={"entailment": 0, "neutral": 1, "contradiction": 2},
                unlabelled="-",
                dev=("dev_mismatched", "dev_matched"),
            ),
        ),
        Task(
            name="qnli",
            title="QNLI",
            inputs=("question", "sentence"),
            labels=("entailment", "not_entailment"),
            metrics=("accuracy",),
            split=Split.HELD_OUT,
            tsv=TsvLayout(
                columns={"question": "question", "sentence": "sentence", "label": "label"}, label_words=_ENTAILMENT
            ),
        ),
        Task(
            name="rte",
            title="RTE",
            inputs=_PAIR,
            labels=("entailment", "not_entailment"),
            metrics=("accuracy",),
            split=Split.HALVED,
            tsv=TsvLayout(columns=_PAIR_COLUMNS, label_words=_ENTAILMENT),
        ),
        Task(
            name="wnli",
            title="WNLI",
            inputs=_PAIR,
            labels=("not_entailment", "entailment"),
            metrics=("accuracy",),
            split=Split.HALVED,
            tsv=TsvLayout(columns=_PAIR_COLUMNS),
        ),
    )
}

GLUE = ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte")
"""The eight tasks that `--tasks glue` means; WNLI must be named."""


def parse_tasks(text: str) -> tuple[str, ...]:
    """Returns the tasks of `glue`, or of names separated by commas, in the order given and without repeats."""
    names: dict[str, None] = {}
    for word in (part.strip().lower() for part in text.split(",")):
        if word == "glue":
            names.update(dict.fromkeys(GLUE))
        elif word.replace("-", "") in TASKS:
            names[word.replace("-", "")] = None
        elif word:
            raise unknown("--tasks", "task", word, [*TASKS, "glue"])
    if not names:
        raise Refusal("--tasks", f"no task in {text!r}", f"known: glue, {', '.join(TASKS)}")
    return tuple(names)
