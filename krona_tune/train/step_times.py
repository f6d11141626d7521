"""Measures what a step costs on this device: it times a few batches before any trial."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from krona_tune.data.batches import TARGET, Batch, input_lengths, lengths, target_lengths, training_batches
from krona_tune.data.tasks import Task
from krona_tune.data.user_code import NoValue
from krona_tune.study.request.trial import HEAD_ONLY, AdapterConfig, TrialConfig
from krona_tune.train.backbone import Backbone
from krona_tune.train.evaluate import evaluate, to_device
from krona_tune.train.hidden_states import HiddenStates, HiddenStateStore, skipped_layers
from krona_tune.train.loop import TaskWork, TrialRun
from krona_tune.train.shortest_time import shortest_time

SHORT, LONG = 16, 96
FEW, SOME, MANY = 2, 8, 32
SIZES = ((FEW, SHORT), (MANY, SHORT), (SOME, LONG))
"""(rows, tokens per row): each shows one of a step's fixed cost, the cost of tokens, and that of long sequences."""
TYPICAL, MOST_TOKENS = 90, 2_048
"""The percentile of the training texts' lengths that is timed where it is above LONG; and the tokens of such a step."""
REPEATS, PATIENCE_SECONDS = 5, 0.3


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """The `seconds` of a training step on `rows` sequences of `length` tokens."""

    rows: int
    length: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """Timed training steps, and for each task the time of a prediction as a share of a step of the same size.

    `test_shares` are the same for tasks that are tested otherwise than they are judged: by what they write.
    `pass_share` is the share of such a step that its pass forward takes, `usual_share` that of another trial's step,
    `head_share` that of the head alone over stored states; None if it can't use them.
    """

    steps: tuple[StepTime, ...]
    forward_shares: Mapping[str, float]
    test_shares: Mapping[str, float] = field(default_factory=dict)
    pass_share: float = 1 / 3
    usual_share: float = 1.0
    head_share: float | None = None


def time_steps(
    backbone: Backbone, works: Mapping[str, TaskWork], trial: TrialConfig, usual: TrialConfig | None = None
) -> StepTimes:
    """Times a trial's steps on the first task, and a prediction on each task; a head costs about the same on all.
    Of a `usual` trial, if it is another one, one step is timed.

    Costs about ten small steps; what is built at the first step of a size is not counted. Sequences that are longer
    than the backbone can read are cut.
    """
    sizes = [(rows, min(length, backbone.geometry.positions or length)) for rows, length in sizes_of(works)]
    first = next(iter(works))
    steps: list[StepTime] = []
    passed = 0.0
    shares: dict[str, float] = {}
    tested: dict[str, float] = {}
    for task, work in works.items():
        if task != first and not backbone.geometry.text_to_text:
            shares[task] = shares[first]
            continue
        run = TrialRun(f"{task}-probe", trial.model_copy(update={"task": task}), work, backbone)
        try:
            if task == first:
                steps = [StepTime(rows=n, length=length, seconds=_step(run, n, length)) for n, length in sizes]
                passed = _forward(run, *sizes[1])
            shares[task] = _prediction(run, work.task, *sizes[1]) / steps[1].seconds
            if work.task.tested_by_other_scores:
                tested[task] = _prediction(run, generating(work.task), *sizes[1]) / steps[1].seconds
        finally:
            run.close()
    head = _head_alone(backbone, works[first], trial.model_copy(update={"task": first}), *sizes[1])
    other = steps[1].seconds
    if usual and usual.adapter != trial.adapter:
        run = TrialRun("usual-probe", usual.model_copy(update={"task": first}), works[first], backbone)
        try:
            other = _step(run, *sizes[1])
        finally:
            run.close()
    return StepTimes(
        steps=tuple(steps),
        forward_shares=shares,
        test_shares=tested,
        pass_share=passed / steps[1].seconds,
        usual_share=other / steps[1].seconds,
        head_share=None if head is None else head / steps[1].seconds,
    )


def sizes_of(works: Mapping[str, TaskWork]) -> list[tuple[int, int]]:
    """Returns the sizes that are timed, the last one with texts as long as the longest task's typically are."""
    typical = max(int(np.percentile(lengths(work.train), TYPICAL)) for work in works.values())
    *short, (rows, length) = SIZES
    length = max(length, typical)
    return [*short, (max(1, min(rows, MOST_TOKENS // length)), length)]


def _head_alone(backbone: Backbone, work: TaskWork, trial: TrialConfig, rows: int, length: int) -> float | None:
    """Returns the seconds of a step of the head alone over states of zeros; None if it is computed as ever."""
    alone = trial.model_copy(update={"adapter": AdapterConfig(method=HEAD_ONLY)})
    if backbone.geometry.text_to_text or not skipped_layers(backbone, alone):
        return None
    table = sequences(work, rows, length)
    blank = _BlankStates(Path(), 0)
    run = TrialRun("head-probe", alone, replace(work, train=table, validation=table, test=None), backbone, blank)
    try:
        batch = _batch(table, work)
        run.answer.model.train()
        return _seconds(lambda: run.train_on(batch).item(), run)
    finally:
        run.close()


class _BlankStates(HiddenStateStore):
    """States of zeros, which nothing computes."""

    def get(
        self, key: str, tables: Sequence[pa.Table], width: int, dtype: torch.dtype, compute: object
    ) -> list[HiddenStates]:
        counts = [input_lengths(table) for table in tables]
        return [HiddenStates(torch.zeros(int(n.sum()), width, dtype=dtype), np.cumsum(n) - n) for n in counts]


def _step(run: TrialRun, rows: int, length: int) -> float:
    batch = _batch(sequences(run.work, rows, length), run.work)
    run.answer.model.train()
    return _seconds(lambda: run.train_on(batch).item(), run)


def _forward(run: TrialRun, rows: int, length: int) -> float:
    inputs, labels = to_device(_batch(sequences(run.work, rows, length), run.work), run.backbone.device)
    run.answer.model.train()

    def once() -> None:
        with torch.no_grad(), run.backbone.device.autocast():
            run.answer.loss(inputs, labels).item()

    return _seconds(once, run)


def _prediction(run: TrialRun, task: Task, rows: int, length: int) -> float:
    work, table = run.work, sequences(run.work, rows, length)

    def once() -> None:
        with suppress(NoValue):  # of a metric that a few rows can't have
            evaluate(run.answer, task, table, work.pad_token_id, run.backbone.device)

    return _seconds(once, run)


def generating(task: Task) -> Task:
    """Returns the task as one that is judged by what is generated."""
    assert task.generation
    return replace(task, generation=replace(task.generation, evaluate="generate"))


def _seconds(once: Callable[[], object], run: TrialRun) -> float:
    """Returns the shortest time of several.

    What one thread computes is timed by the thread's own clock, which stands while others have its processor; but code
    of the task's own runs in another process.
    """
    task, computing = run.work.task, run.backbone.device.kind == "cpu" and torch.get_num_threads() == 1
    own_code = bool(task.functions or (task.generation and task.generation.extract))
    clock = time.thread_time if computing and not own_code else time.perf_counter
    return shortest_time(once, repeats=REPEATS, patience=PATIENCE_SECONDS, clock=clock)


def sequences(work: TaskWork, rows: int, length: int) -> pa.Table:
    """Returns a table like the task's own: its first rows over and over, each made `length` tokens long, with the
    target if it has one."""
    taken = work.train.take(np.arange(rows) % len(work.train))
    targets = target_lengths(taken) if TARGET in taken.column_names else np.zeros(rows, np.int64)
    for index, name in enumerate(taken.column_names):
        if name != TARGET and pa.types.is_list(taken.schema.field(name).type):
            values = zip(taken[name].to_pylist(), np.maximum(1, length - targets), strict=True)
            lists = [np.resize(ids or [work.pad_token_id], left) for ids, left in values]
            taken = taken.set_column(index, name, pa.array(lists, taken.schema.field(name).type))
    return taken


def _batch(table: pa.Table, work: TaskWork) -> Batch:
    return next(training_batches(table, len(table), np.random.default_rng(0), work.pad_token_id))
