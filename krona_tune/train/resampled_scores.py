"""Evaluates a finished trial once on the test half, and how much its score would vary with other examples."""

import pyarrow as pa

from krona_tune.data.batches import target_lengths
from krona_tune.data.metrics import Values, measure, resampled_scores
from krona_tune.data.tasks import Task
from krona_tune.study.result import ScoreOnTest
from krona_tune.train.device import Device
from krona_tune.train.evaluate import Enter, nothing, predict, target_losses
from krona_tune.train.task_heads import Answer


def evaluate_on_test(
    answer: Answer, task: Task, table: pa.Table, pad_token_id: int, device: Device, enter: Enter = nothing
) -> ScoreOnTest:
    """Returns the task's metrics over the whole table, in evaluation mode, and its scores on resampled examples."""
    if task.has_perplexity:
        predictions: Values = target_losses(answer, table, pad_token_id, device, enter)
        labels: Values = target_lengths(table)
    else:
        predictions, labels = predict(answer, task, table, pad_token_id, device, enter), table["label"].to_numpy()
    metrics = measure(task, predictions, labels)
    scores, note = resampled_scores(task, predictions, labels)
    return ScoreOnTest(score=metrics.pop("score"), metrics=metrics, examples=len(labels), resampled=scores, note=note)
