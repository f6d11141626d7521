"""Completes a task's run at the end: its trials as a table, its best scores, a description and its files."""

import logging
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from krona_tune.adapters.files.adapter_card import CARD, AdapterCard, read_card
from krona_tune.record.mlflow_mirror import mlflow_names as words
from krona_tune.record.mlflow_mirror.mlflow_runs import StudyRuns, metric_points
from krona_tune.refusal import Refusal

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

logger = logging.getLogger(__name__)

OF_A_TASK = {"adapters": "adapter"}
"""Folders of a study that hold one folder per task, and the name of the task's folder in its run."""


def summarise(
    runs: StudyRuns, task: str, everyone: "Sequence[Run]", texts: Mapping[str, str], artifacts: Sequence[Path]
) -> None:
    """Completes a task's run; a second call with the same input changes nothing. `texts` are more files by name."""
    run_id = runs.tasks[task]
    children = [run for run in everyone if run.data.tags.get(words.PARENT) == run_id]
    lines = [words.trial_line(run.info.run_name, run.data.tags, run.data.params, run.data.metrics) for run in children]
    for name, text in {**texts, **_table(lines)}.items():
        runs.client.log_text(run_id, text, name)
    for path in artifacts:
        if _concerns(path, task):
            _keep(runs, run_id, path)
    adapter = adapter_of(task, artifacts)
    if rising := _best_so_far(children):
        runs.log(run_id, rising, {}, {})
    _describe(runs, task, lines, read_card(adapter) if adapter else None)


def adapter_of(task: str, artifacts: Sequence[Path]) -> Path | None:
    """Returns the task's adapter among the artifacts, if there is one that can be read."""
    for path in artifacts:
        if path.name == task and (path / CARD).exists():
            try:
                read_card(path)
            except Refusal as refusal:
                logger.warning("%s", refusal)
            else:
                return path
    return None


def _concerns(path: Path, task: str) -> bool:
    return path.parent.name not in OF_A_TASK or path.name == task


def _keep(runs: StudyRuns, run_id: str, path: Path) -> None:
    if not path.exists():
        logger.warning("%s is not there and was not kept", path)
    elif path.is_dir():
        runs.client.log_artifacts(run_id, str(path), OF_A_TASK.get(path.parent.name, path.name))
    else:
        runs.client.log_artifact(run_id, str(path))


def _table(lines: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {"trials.csv": words.table_text(lines)} if lines else {}


def _best_so_far(children: "Sequence[Run]") -> "list[Metric]":
    """Returns the search's progress as a curve: after each trial that came to its end, the best score until then.

    Steps count trials and times are their ends, so a second call adds nothing.
    """
    searched = [run for run in children if run.data.tags.get(words.KIND) == "search"]
    ended = [run for run in searched if run.info.status == "FINISHED" and "score" in run.data.metrics]
    ended.sort(key=lambda run: (run.info.end_time, run.info.run_name))
    best = accumulate((run.data.metrics["score"] for run in ended), max)
    told = zip(ended, best, strict=True)
    return [
        point
        for step, (run, score) in enumerate(told, start=1)
        for point in metric_points({"best_so_far": score}, run.info.end_time, step)
    ]


def _describe(runs: StudyRuns, task: str, lines: Sequence[Mapping[str, Any]], card: AdapterCard | None) -> None:
    """Ends the task's run, and adds its results if they are new."""
    run_id = runs.tasks[task]
    run = runs.client.get_run(run_id)
    values = words.task_metrics(lines, card)
    changed = {name: value for name, value in values.items() if run.data.metrics.get(name) != value}
    tags = {words.NOTE: words.task_note(values, card), **({words.WINNER: card.trial_id} if card else {})}
    new = {name: value for name, value in tags.items() if run.data.tags.get(name) != value}
    if changed or new:
        runs.log(run_id, metric_points(changed, words.now_ms(), 0), {}, new)
    if run.info.status != "FINISHED":
        runs.client.set_terminated(run_id, "FINISHED")
