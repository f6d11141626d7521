"""Prepares a task's data for trials in one process, without Ray: the other benchmarks here train on it."""

from pathlib import Path

import platformdirs
import torch

from krona_tune.data.corpus import load
from krona_tune.data.encode import encode
from krona_tune.data.tasks import TASKS
from krona_tune.study.request.schedule import Schedule, make_schedule
from krona_tune.train.backbone import open_tokenizer
from krona_tune.train.loop import TaskWork
from tests.benchmarks.peer.case import MINILM

CACHE = Path(platformdirs.user_cache_dir("krona_tune")) / "encoded"


def work_of(
    task: str, data: str, *, train: int | None, validation: int | None, seed: int = 0, rungs: Schedule | None = None
) -> TaskWork:
    """Returns a task's examples, at most `train` and `validation` of them, tokenised for MiniLM at length 128; without
    `rungs` there are three epochs, with a rung after each."""
    torch.set_num_threads(1)
    rows = load(TASKS[task], data, train_examples=train, validation_examples=validation, seed=seed)
    tokenizer = open_tokenizer(str(MINILM), 30522)
    encoded = encode(rows, tokenizer, prompts=False, max_length=128, cache=CACHE)
    each = make_schedule(examples_per_epoch=len(encoded.train), epochs=3, grace_epochs=1, reduction=2)
    return TaskWork(
        task=TASKS[task],
        train=encoded.train,
        validation=encoded.validation,
        pad_token_id=encoded.pad_token_id,
        schedule=rungs or each,
    )
