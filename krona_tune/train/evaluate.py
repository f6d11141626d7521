"""Evaluates a model in one pass over data: predictions or losses, the task's metrics, and once the test half."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from krona_tune.data.batches import Batch, evaluation_batches, target_lengths
from krona_tune.data.metrics import Values, measure, measure_losses, resampled_losses, resampled_scores
from krona_tune.data.tasks import Task
from krona_tune.study.result import ScoreOnTest
from krona_tune.train.backbone import Inputs
from krona_tune.train.device import Device, lacks_memory
from krona_tune.train.task_heads import MOST_LOGITS, Answer, Head, TextAnswer, VerbalizedAnswer


class Diverged(ArithmeticError):
    """The training loss, a trained parameter, what the model answers with or a score is no longer a finite number."""


@contextmanager
def noting_batch_shape(batch: Batch) -> Iterator[None]:
    """Adds a note such as `in a batch of 16 × 40 tokens` to any error inside."""
    try:
        yield
    except Exception as error:
        rows, length = batch.inputs["input_ids"].shape
        error.add_note(f"in a batch of {rows} × {length} tokens")
        raise


Result = TypeVar("Result")


def in_parts(batch: Batch, compute: Callable[[Batch], Result]) -> Iterator[tuple[Batch, Result]]:
    """Yields a batch and what `compute` gives for it; where memory does not hold that, its halves and what it gives for
    them, and so on. Raises the error of a single row."""
    try:
        found = compute(batch)
    except Exception as error:
        if len(batch.rows) == 1 or not lacks_memory(error):
            raise
    else:
        yield batch, found
        return
    for half in batch.parts(2):  # outside the clause above, in which the error holds what was computed
        yield from in_parts(half, compute)


EVALUATION_TOKENS = {"cpu": 2048, "cuda": 65536}
"""Padded tokens in one evaluation batch: on a CPU as many as fit in its caches, on a GPU as many as fill it; `in_parts`
halves what its memory does not hold."""


Enter = Callable[[pa.Table, Batch], None]
"""Is told of a table's batch before the model computes it."""


def nothing(table: pa.Table, batch: Batch) -> None:
    """Ignores the batch: what `Enter` is for a model that computes all its layers."""


def to_device(batch: Batch, device: Device) -> tuple[Inputs, torch.Tensor]:
    """Returns a batch's inputs and labels as tensors on the device."""
    inputs = {name: torch.from_numpy(array).to(device.kind) for name, array in batch.inputs.items()}
    return inputs, torch.from_numpy(batch.labels).to(device.kind)


def evaluate(
    answer: Answer, task: Task, table: pa.Table, pad_token_id: int, device: Device, enter: Enter = nothing
) -> dict[str, float]:
    """Returns what trials are compared by, over the whole table and in evaluation mode: the task's metrics or the loss
    of its targets, and `score`. Raises Diverged as `predict` does."""
    return measured(task, table, judged(answer, task, table, pad_token_id, device, enter))


def judged(
    answer: Answer, task: Task, table: pa.Table, pad_token_id: int, device: Device, enter: Enter = nothing
) -> Values:
    """Returns (n,) what a trial is judged by on each row: the loss of its target, or what the model answers."""
    if task.judged_by_loss:
        return target_losses(answer, table, pad_token_id, device, enter)
    return predict(answer, task, table, pad_token_id, device, enter)


def measured(task: Task, table: pa.Table, found: Values) -> dict[str, float]:
    """Returns the metrics and the score of what was found on each row of a table."""
    if task.judged_by_loss:
        return measure_losses(task, found, target_lengths(table))
    return measure(task, found, table.column("label").to_numpy())


def resampled(task: Task, table: pa.Table, found: Values) -> tuple[float, ...]:
    """Returns the scores of `measured` on resampled rows; none if the task's own function is too slow.

    The draws are the same for all trials of a task, so that their differences are paired.
    """
    if task.judged_by_loss:
        return resampled_losses(task, found, target_lengths(table))
    return resampled_scores(task, found, table["label"].to_numpy())[0]


@torch.no_grad()
def predict(
    answer: Answer, task: Task, table: pa.Table, pad_token_id: int, device: Device, enter: Enter = nothing
) -> npt.NDArray[np.generic]:
    """Returns (n,): label indices, numbers of a regression, or texts, in the table's order; `enter` is told of each
    batch. Raises Diverged if what they are chosen from is not finite."""
    predictions = np.zeros(len(table), dtype=np.float64 if task.generation is None else object)
    new = task.generation.max_new_tokens if task.generation else None
    batches = evaluation_batches(table, EVALUATION_TOKENS[device.kind], pad_token_id, new)

    def answers(inputs: Inputs, _: torch.Tensor) -> Any:
        match answer:
            case Head() | VerbalizedAnswer():
                outputs = answer.outputs(inputs)
                _refuse_not_finite(outputs)
                return answer.chosen(outputs).double().cpu().numpy()
        return answer.predict(inputs)

    _fill(predictions, answers, answer, table, batches, device, enter)
    return predictions.astype(np.int64) if task.labels else predictions


@torch.no_grad()
def target_losses(
    answer: Answer, table: pa.Table, pad_token_id: int, device: Device, enter: Enter = nothing
) -> npt.NDArray[np.float64]:
    """Returns the summed loss of each row's target in nats, (n,), for an answer that is text."""
    assert isinstance(answer, TextAnswer)
    found = np.zeros(len(table))
    most = min(EVALUATION_TOKENS[device.kind], MOST_LOGITS // answer.vocabulary)
    batches = evaluation_batches(table, most, pad_token_id)

    def losses(inputs: Inputs, targets: torch.Tensor) -> Any:
        return answer.losses(inputs, targets).double().sum(1).cpu().numpy()

    _fill(found, losses, answer, table, batches, device, enter)
    return found


def _refuse_not_finite(outputs: torch.Tensor) -> None:
    """Raises Diverged if a logit or likelihood is not finite: the label of the largest would mean nothing."""
    if not outputs.isfinite().all():
        raise Diverged("what the model answers with is not finite")


def _fill(
    found: npt.NDArray[Any],
    compute: Callable[[Inputs, torch.Tensor], Any],
    answer: Answer,
    table: pa.Table,
    batches: Iterable[Batch],
    device: Device,
    enter: Enter,
) -> None:
    """Puts what `compute` gives for each batch in its rows of `found`, with the model in evaluation mode."""

    def computed(part: Batch) -> Any:
        with noting_batch_shape(part):
            enter(table, part)
            return compute(*to_device(part, device))

    answer.model.eval()
    with device.autocast():
        for batch in batches:
            for part, values in in_parts(batch, computed):
                found[part.rows] = values


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
