"""A trial in MLflow's words: its few, stable tags, parameters and metrics as plain values."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from krona_tune.study.result import Report, Status, TrialResult

STUDY, BEGUN, TASK, TRIAL, STATUS, KIND, OF, SYNTHETIC = (
    f"krona.{word}" for word in ("study", "begun", "task", "trial_id", "status", "kind", "of", "synthetic")
)
PARENT = "mlflow.parentRunId"
TASK_KIND = "task"
"""The `krona.kind` of a task's run, the parent of its trials' runs."""

RUN_STATUS: dict[Status, str] = {
    Status.COMPLETED: "FINISHED",
    Status.STOPPED_EARLY: "FINISHED",
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
"""What a trial's end adds to its metrics."""


def trial_tags(result: TrialResult) -> dict[str, str]:
    more = {"krona.error": result.error[:5000], OF: result.of}
    given = {name: value for name, value in more.items() if value}
    return {STATUS: str(result.status), KIND: result.kind, "krona.fingerprint": result.fingerprint, **given}


def trial_params(result: TrialResult) -> dict[str, str]:
    """Every knob under its own name, and the shape of A as one column such as `24x16`."""
    values = {"task": result.task, "seed": result.seed, **result.params}
    if "a_out" in values and "a_in" in values:
        values["factor_shape"] = f"{values['a_out']}x{values['a_in']}"
    return {name: str(value) for name, value in values.items()}


def report_metrics(report: Report) -> dict[str, float]:
    metrics = {f"metric_{name}": value for name, value in report.metrics.items()}
    return {"score": report.score, "train_loss": report.train_loss, **metrics}


def end_metrics(result: TrialResult, *, with_score: bool) -> dict[str, float]:
    """What is known at the end, a finalist's test scores among it; with the score too where no report came before."""
    values: dict[str, float] = {name: float(getattr(result, name)) for name in AT_THE_END}
    if result.test_score is not None:
        values["test_score"] = result.test_score
        values.update({f"test_metric_{name}": value for name, value in result.test_metrics.items()})
    if with_score and result.score is not None:
        values["score"] = result.score
        values.update({f"metric_{name}": value for name, value in result.metrics.items()})
    return values


def trial_line(
    name: str, tags: Mapping[str, str], params: Mapping[str, str], metrics: Mapping[str, float]
) -> dict[str, Any]:
    """One trial's run as a line of its task's table; a run without a score has NaN."""
    score = metrics.get("score", math.nan)
    return {"trial_id": name, "kind": tags.get(KIND), "status": tags.get(STATUS), **params, **metrics, "score": score}


def table_text(lines: Sequence[Mapping[str, Any]]) -> str:
    """Lines as CSV, the best score first; a line lacks what other lines have."""
    ordered = sorted(lines, key=lambda line: (math.isnan(line["score"]), -line["score"]))
    columns = list(dict.fromkeys(name for line in ordered for name in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows(ordered)
    return text.getvalue()
