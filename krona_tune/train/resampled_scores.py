"""Evaluates a finished trial once on the test half, and how much its score would vary with other examples."""

import numpy as np
import pyarrow as pa

from krona_tune.data.batches import target_lengths
from krona_tune.data.metrics import Values, measure
from krona_tune.data.tasks import Task
from krona_tune.study.randomness import stream
from krona_tune.study.result import ScoreOnTest
from krona_tune.train.device import Device
from krona_tune.train.evaluate import Enter, nothing, predict, target_losses
from krona_tune.train.task_heads import Answer

RESAMPLES = 500
"""How often the examples are drawn again."""


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
    draw = np.random.default_rng(stream(0, "resampled examples", task.name))
    rows = [draw.integers(0, len(labels), len(labels)) for _ in range(RESAMPLES)]
    resampled = tuple(measure(task, predictions[drawn], labels[drawn])["score"] for drawn in rows)
    return ScoreOnTest(score=metrics.pop("score"), metrics=metrics, examples=len(labels), resampled=resampled)
