"""Describes a trial to MLflow: its few, stable tags, parameters and metrics as plain values."""

import csv
import io
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from krona_tune.adapters.adapter_card import AdapterCard
from krona_tune.study.formatting import format_answer
from krona_tune.study.kinds import TrialKind
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.order import Order
from krona_tune.study.proposer import Proposer
from krona_tune.study.result import TEST_METRIC, Curve, Report, Status, TrialResult, metric_columns

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

DIGEST_LENGTH = 16
STUDY = "krona.study"
BEGUN = "krona.begun"
SHARED = "krona.shared"
"""Marks an experiment that holds the runs of several studies."""
TASK = "krona.task"
TRIAL = "krona.trial_id"
METHOD = "krona.method"
STATUS = "krona.status"
ERROR = "krona.error"
FINGERPRINT = "krona.fingerprint"
PROPOSED_BY = "krona.proposed_by"
KIND = "krona.kind"
OF = "krona.of"
SYNTHETIC = "krona.synthetic"
SEARCHED = "krona.searched"
"""Names, at a task's run, the parameters that differ between its searched trials."""
WINNER = "krona.winner"
CHOSEN = "krona.chosen"
DIGEST = "krona.adapter_sha256"
PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
SOURCE, COMMIT = "mlflow.source.name", "mlflow.source.git.commit"
EXPERIMENT_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""MLflow shows such an experiment as model training, not as an agent's traces."""
TASK_KIND = "task"
"""The `krona.kind` of a task's run, the parent of its trials' runs."""

MODEL_TRAINING = "workflowType=machine_learning"
"""The end of a page's address that makes MLflow show it as model training, whatever was shown before."""

RUN_STATUS: dict[Status, str] = {
    Status.COMPLETED: "FINISHED",
    Status.STOPPED_EARLY: "FINISHED",
    Status.STOPPED_BY_USER: "FINISHED",
    Status.DIVERGED: "FAILED",
    Status.OUT_OF_MEMORY: "FAILED",
    Status.FAILED: "FAILED",
    Status.INTERRUPTED: "KILLED",
}

AT_THE_END = (
    "trainable_parameters",
    "trainable_percent",
    "train_seconds",
    "evaluation_seconds",
    "peak_memory_bytes",
    "epochs",
)
"""The metrics that a trial's end adds."""


def dataset_input(facts: TaskFacts) -> "DatasetInput":
    """Returns a task's data as MLflow's column "Dataset" shows them: name, fingerprint, origin and sizes, no texts."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    sizes = {"train_examples": facts.train_examples, "validation_examples": facts.validation_examples}
    dataset = Dataset(
        name=facts.title,
        digest=facts.fingerprint[:DIGEST_LENGTH],
        source_type="generated" if facts.synthetic else "own files" if facts.own else "glue",
        source=json.dumps({"provenance": facts.provenance}),
        profile=json.dumps(sizes),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def trial_tags(result: TrialResult) -> dict[str, str]:
    more = {
        ERROR: result.error[:5000],
        PROPOSED_BY: result.proposed_by,
        OF: result.of,
        METHOD: str(result.params.get("method", "")),
    }
    given = {name: value for name, value in more.items() if value}
    return {STATUS: str(result.status), KIND: result.kind, FINGERPRINT: result.fingerprint, **given}


def order_tag(order: Order) -> dict[str, str]:
    """Returns who gave an order, what it asked and what became of it, under the order's own name."""
    end = f": {order.outcome}" if order.outcome else ""
    return {f"krona.order.{order.id}": f"{order.by}: {order.text}: {order.state}{end}"[:5000]}


def trials_of(order: Order) -> list[str]:
    """Returns the trials that an order is about: the one that it names, and the one that it made."""
    return [trial_id for trial_id in (order.trial, order.made) if trial_id]


def trial_params(result: TrialResult) -> dict[str, str]:
    """Returns the task, the seed and every knob under its own name."""
    return {name: str(value) for name, value in {"task": result.task, "seed": result.seed, **result.params}.items()}


def curve_metrics(curve: Curve) -> dict[int, dict[str, float]]:
    """Returns the metrics of a training curve by the training examples of its points."""
    return {each.examples: {"train_loss": each.loss, "learning_rate": each.learning_rate} for each in curve}


def report_metrics(report: Report) -> dict[int, dict[str, float]]:
    """Returns a report's metrics by training examples: those of its curve, or else its mean training loss, and at the
    report itself its scores."""
    found = curve_metrics(report.curve) or {report.examples: {"train_loss": report.train_loss}}
    scores = {"score": report.score, **metric_columns(report.metrics)}
    return found | {report.examples: {**found.get(report.examples, {}), **scores}}


def end_metrics(result: TrialResult, *, with_score: bool) -> dict[str, float]:
    """Returns what is known at the end, with a finalist's test scores, and with the score if no report came before."""
    values: dict[str, float] = {name: float(getattr(result, name)) for name in AT_THE_END}
    expected = {name: getattr(result, name) for name in ("expected_score", "expected_deviation")}
    values.update({name: value for name, value in expected.items() if value is not None})
    if result.test_score is not None:
        values["test_score"] = result.test_score
        values.update(metric_columns(result.test_metrics, TEST_METRIC))
    if with_score and result.score is not None:
        values["score"] = result.score
        values.update(metric_columns(result.metrics))
    return values


def trial_line(tags: Mapping[str, str], params: Mapping[str, str], metrics: Mapping[str, float]) -> dict[str, Any]:
    """Returns one trial's run as a line of its task's table: what it is, its scores, then its knobs and other metrics.

    A run without a score has NaN.
    """
    told = {"score": metrics.get("score", math.nan), "test_score": metrics.get("test_score", "")}
    last = {name: value for name, value in metrics.items() if name not in params}  # a learning rate is a curve, too
    known = {"trial_id": tags[TRIAL], "kind": tags.get(KIND), "status": tags.get(STATUS)}
    known |= {"proposed_by": tags.get(PROPOSED_BY, "")}
    return {**known, **told, **params, **last, **told}


@dataclass(frozen=True, kw_only=True)
class TriedKnobs:
    """The names of the knobs that differ between a task's searched trials, and the values of the others."""

    searched: tuple[str, ...] = ()
    same: Mapping[str, str] = field(default_factory=dict)


def tried_knobs(lines: Sequence[Mapping[str, Any]], names: Collection[str]) -> TriedKnobs:
    """Returns which of the named knobs differ between the searched trials of `lines`; nothing of fewer than two."""
    searched = [line for line in lines if line["kind"] == TrialKind.SEARCH]
    if len(searched) < 2:
        return TriedKnobs()
    values = {name: {line.get(name, "") for line in searched} for name in sorted(names)}
    return TriedKnobs(
        searched=tuple(name for name, found in values.items() if len(found) > 1),
        same={name: str(*found) for name, found in values.items() if len(found) == 1},
    )


def table_text(lines: Sequence[Mapping[str, Any]], last: Collection[str] = ()) -> str:
    """Returns lines as CSV, the best score first, with the columns of `last` behind the others; a line may lack columns
    that other lines have."""
    ordered = sorted(lines, key=lambda line: (math.isnan(line["score"]), -line["score"]))
    columns = sorted(dict.fromkeys(name for line in ordered for name in line), key=lambda name: name in last)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows(ordered)
    return text.getvalue()


def ranked_lines(lines: Sequence[Mapping[str, Any]], kind: TrialKind = TrialKind.SEARCH) -> list[Mapping[str, Any]]:
    """Returns the lines of the trials of a kind that may be the best: those with a score; where recorded curves teach,
    those that were trained to their end, if there are any, as everywhere."""
    scored = [line for line in lines if line["kind"] == kind and not math.isnan(line["score"])]
    taught = any(line["proposed_by"] == Proposer.RECORDED_CURVES for line in scored)
    whole = [line for line in scored if line["status"] == Status.COMPLETED] if taught else []
    return whole or scored


def task_metrics(lines: Sequence[Mapping[str, Any]], card: AdapterCard | None) -> dict[str, float]:
    """Returns a task's run in a few numbers; `chosen_…` are those of the adapter that is chosen, `winner_…` those of
    the trial that won, as a rule the same one. Both are always there, so that none of an earlier end is left."""
    values = {"trials": float(len(lines))}
    for name, kind in (("best_score", TrialKind.SEARCH), ("head_only_score", TrialKind.BASELINE)):
        scores = [line["score"] for line in ranked_lines(lines, kind)]
        values.update({name: max(scores)} if scores else {})
    if card:
        chosen = {"score": card.score, "test_score": card.test_score}
        won = next((line for line in lines if line["trial_id"] == card.winner), {}) if card.winner else chosen
        found = {f"{who}_{name}": of.get(name) for who, of in (("chosen", chosen), ("winner", won)) for name in chosen}
        values.update({name: score for name, score in found.items() if isinstance(score, float)})
    return values


def task_note(values: Mapping[str, float], card: AdapterCard | None, knobs: TriedKnobs) -> str:
    """Returns the description of a task's run, as Markdown."""
    rows = "".join(f"| {name.replace('_', ' ')} | {value:g} |\n" for name, value in values.items())
    winner = f"{model_note(card)}\n\n" if card else ""
    same = ", ".join(f"{name} {value}" for name, value in knobs.same.items())
    parts = {"Searched": ", ".join(knobs.searched), "The same in all searched trials": same}
    told = "".join(f"{name}: {text}.\n\n" for name, text in parts.items() if text)
    return f"{winner}{told}| | |\n|---|---|\n{rows}"


def model_note(card: AdapterCard) -> str:
    """Writes which adapter this is, what it scored and how it was chosen, in two sentences."""
    halves = {"validation": card.score, "test": card.test_score}
    scores = ", ".join(f"{format_answer(score)} on {half}" for half, score in halves.items() if score is not None)
    synthetic = " (synthetic data)" if card.synthetic else ""
    return (
        f"`{card.adapter.method}` on {card.backbone} for {card.task}, trial {card.trial_id}: "
        f"score {scores or 'unknown'}{synthetic}. Chosen by: {card.selected_by}."
    )


def model_tags(card: AdapterCard, digest: str) -> dict[str, str]:
    synthetic = str(card.synthetic).lower()
    return {
        STUDY: card.study,
        TASK: card.task,
        TRIAL: card.trial_id,
        METHOD: card.adapter.method,
        SYNTHETIC: synthetic,
        DIGEST: digest,
    }
