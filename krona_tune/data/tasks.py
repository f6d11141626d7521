"""Holds what a task is (texts, labels, prompts, metrics), and the GLUE tasks as one table."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from krona_tune.study.request.metric_table import rows_of

PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, kw_only=True)
class Generation:
    """Says how a model is asked for a text, and how its text is judged.

    `prompt` has a placeholder, `{name}`, for each input. An answer has at most `max_new_tokens` tokens. If there is an
    `extract`, only what this regular expression finds last in a target or an answer counts: its first group, or all of
    it. Trials are judged by the answers that they generate, or by the loss of the targets' tokens. If the tokenizer has
    a chat template, a prompt is a user's message in it, unless `chat_template` is false.
    """

    prompt: str
    max_new_tokens: int = 64
    extract: str = ""
    evaluate: Literal["generate", "loss"] = "generate"
    chat_template: bool = True


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of GLUE or of one's own.

    `labels` are the names of the label indices; empty: a regression, or with `generation` a task whose answers are
    texts. A text-to-text model answers with the labels, or with `words` in their place; a regression's words are its
    `grid` of numbers as text. `class_weights` weigh the labels in the training loss. A head learns a regression's
    numbers less `centre`, divided by `spread`. `functions` say where each metric that is no named one is found, as
    (name, MODULE:FUNCTION); of the metrics in `lower_is_better` the score takes the negative.
    """

    name: str
    title: str
    inputs: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    prompt_order: tuple[str, ...] = ()
    grid: tuple[float, ...] = ()
    words: tuple[str, ...] = ()
    class_weights: tuple[float, ...] = ()
    centre: float = 0.0
    spread: float = 1.0
    functions: tuple[tuple[str, str], ...] = ()
    lower_is_better: tuple[str, ...] = ()
    generation: Generation | None = None

    @property
    def is_regression(self) -> bool:
        return not self.labels and self.generation is None

    @property
    def has_perplexity(self) -> bool:
        """Returns whether the targets' likelihood is the metric, so that nothing is generated."""
        return any(metric.of_losses for metric in rows_of(self.metrics))

    @property
    def judged_by_loss(self) -> bool:
        """Returns whether trials are compared by the likelihood of their targets."""
        return self.has_perplexity or (self.generation is not None and self.generation.evaluate == "loss")

    @property
    def tested_by_other_scores(self) -> bool:
        """Returns whether trials are compared by the loss of targets, but tested by the answers that they generate."""
        return self.judged_by_loss and not self.has_perplexity

    @property
    def averages(self) -> bool:
        """Returns whether its metrics have a mean with those of other tasks: none of them counts negated."""
        return not self.lower_is_better

    @property
    def outputs(self) -> int:
        """Returns the number of outputs of a head: one per label, or one number."""
        return max(len(self.labels), 1)

    @property
    def candidates(self) -> tuple[str, ...]:
        """Returns what a text-to-text model may answer: words, the labels, or the grid of scores as text."""
        return self.words or self.labels or tuple(f"{value:.1f}" for value in self.grid)

    def prompt(self, texts: Sequence[str]) -> str:
        """Returns the prompt for texts in the order of `inputs`: the task's own, else the T5 paper's (appendix D of
        arXiv 1910.10683)."""
        by_name = dict(zip(self.inputs, texts, strict=True))
        if self.generation:
            return PLACEHOLDER.sub(lambda found: by_name.get(found[1], found[0]), self.generation.prompt)
        return " ".join([self.name, *(f"{name}: {by_name[name]}" for name in self.prompt_order or self.inputs)])

    def target(self, label: float) -> int:
        """Returns a label's index among `candidates`; a regression's score is rounded to the grid."""
        if not self.is_regression:
            return int(label)
        return min(range(len(self.grid)), key=lambda i: abs(self.grid[i] - label))


_PAIR = ("sentence1", "sentence2")


def _glue(
    title: str, inputs: tuple[str, ...], labels: tuple[str, ...], metrics: tuple[str, ...] = ("accuracy",)
) -> Task:
    """Returns a task that is named by its title in small letters, without hyphens."""
    return Task(name=title.lower().replace("-", ""), title=title, inputs=inputs, labels=labels, metrics=metrics)


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        _glue("CoLA", ("sentence",), ("unacceptable", "acceptable"), ("matthews",)),
        _glue("SST-2", ("sentence",), ("negative", "positive")),
        _glue("MRPC", _PAIR, ("not_equivalent", "equivalent"), ("accuracy", "f1")),
        _glue("QQP", ("question1", "question2"), ("not_duplicate", "duplicate"), ("accuracy", "f1")),
        replace(_glue("STS-B", _PAIR, (), ("pearson", "spearman")), grid=tuple(i / 5 for i in range(26))),
        replace(
            _glue("MNLI", ("premise", "hypothesis"), ("entailment", "neutral", "contradiction")),
            prompt_order=("hypothesis", "premise"),
        ),
        _glue("QNLI", ("question", "sentence"), ("entailment", "not_entailment")),
        _glue("RTE", _PAIR, ("entailment", "not_entailment")),
        _glue("WNLI", _PAIR, ("not_entailment", "entailment")),
    )
}

GLUE = ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte")
"""The eight tasks that `--tasks glue` means; WNLI must be named."""
TAKEN_NAMES = frozenset({*TASKS, "default", "glue"})
"""The names, in small letters, that no task of one's own has: they have a meaning already."""
