"""Fits a small LoRA to what an adapter makes of training texts: the same hidden states and logits."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from math import cos, pi
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional

from krona_tune.data.batches import NO_TOKEN, Batch, evaluation_batches, training_batches
from krona_tune.study.randomness import stream
from krona_tune.train.backbone import Inputs
from krona_tune.train.evaluate import EVALUATION_TOKENS, to_device
from krona_tune.train.loop import TaskWork
from krona_tune.train.predict import AdaptedModel
from krona_tune.train.task_heads import Head, TextAnswer, VerbalizedAnswer

STEPS, ROWS, LEARNING_RATE = 60, 32, 1e-3
"""The steps of the fit, the texts of each, and Adam's first learning rate, which falls to zero."""
LOOKS = 6
"""How often the fit is measured on texts that it does not see; the best is kept, the start among them."""
ALIKE = 1e-5
"""The share of their mean by which answers in float32 differ that are the same."""
MOST_TEXTS, HELD_OUT, MOST_HELD_OUT = 4096, 0.1, 256
"""The most training texts that are read, and of them the share and the most that are held out."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Says how far two models are apart on held-out texts, `before` and `after` a fit on so many other `texts`."""

    before: float
    after: float
    texts: int


def fit(parameters: Sequence[nn.Parameter], student: AdaptedModel, teacher: AdaptedModel, work: TaskWork) -> Fit:
    """Changes these parameters of a student so that it computes what the teacher does; nothing else of it changes.

    Args:
        parameters: those of the student's LoRA, near the teacher's adapter already.
        student, teacher: two models of the same backbone and task, both in evaluation mode.
        work: its train half has the texts; no label of it is read, but targets of an answer that is text are.
    """
    rng = np.random.default_rng(stream(teacher.card.seed, "distil"))
    rows = rng.permutation(len(work.train))[:MOST_TEXTS]
    held = max(1, min(MOST_HELD_OUT, int(HELD_OUT * len(rows))))
    seen, unseen = (work.train.take(pa.array(part)).combine_chunks() for part in (rows[held:], rows[:held]))
    seen = seen if len(seen) else unseen

    def held_out() -> Iterator[Batch]:
        return evaluation_batches(unseen, EVALUATION_TOKENS[device.kind], work.pad_token_id)

    def look() -> float:
        with torch.no_grad():
            apart = [(len(batch.rows), distance(student, teacher, batch, spread).item()) for batch in held_out()]
        return sum(n * each for n, each in apart) / sum(n for n, _ in apart)

    device = teacher.backbone.device
    of_numbers = teacher.task.is_regression and isinstance(teacher.answer, Head)
    spread = _spread(teacher, held_out()) if of_numbers else None
    optimiser = torch.optim.Adam(parameters, lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: (1 + cos(pi * step / STEPS)) / 2)
    before = best = look()
    kept = [parameter.detach().clone() for parameter in parameters]
    batches = (batch for _ in count() for batch in training_batches(seen, ROWS, rng, work.pad_token_id))
    for step, batch in zip(range(1, STEPS + 1), batches, strict=False):
        optimiser.zero_grad()
        distance(student, teacher, batch, spread).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if step % (STEPS // LOOKS) == 0 and (now := look()) < best:
            best, kept = now, [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)
    return Fit(before=before, after=best, texts=len(seen))


def _spread(teacher: AdaptedModel, batches: Iterable[Batch]) -> float | None:
    """Returns the standard deviation of what a regression answers; None if it answers all texts alike."""
    device, found = teacher.backbone.device, []
    with torch.no_grad():
        for batch in batches:
            found.append(_outputs(teacher, *to_device(batch, device))[-1].flatten())
    answers = torch.cat(found)
    spread = answers.std(correction=0).item()
    return spread if spread > ALIKE * max(1.0, answers.mean().abs().item()) else None


def distance(student: AdaptedModel, teacher: AdaptedModel, batch: Batch, spread: float | None = None) -> Tensor:
    """Returns how far the student's outputs are from the teacher's, a number, 0 if they are the same.

    With a head it is the squared error of the last hidden states and of the logits, each as a share of the teacher's
    square, or of the square of a regression's `spread`, whose numbers may lie far from 0; with label words that of
    their log-likelihoods; with text the Kullback-Leibler divergence of the next token, in nats, over the target's.
    """
    inputs, labels = to_device(batch, teacher.backbone.device)
    with torch.no_grad():
        expected = _outputs(teacher, inputs, labels)
    found = _outputs(student, inputs, labels)
    if isinstance(teacher.answer, TextAnswer):
        [theirs], [ours] = expected, found
        return functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    squares = [other.square().sum().clamp(min=1e-12) for other in expected]
    if spread:
        squares[-1] = torch.full_like(squares[-1], expected[-1].numel() * spread**2)
    shares = [
        (one - other).square().sum() / square for one, other, square in zip(found, expected, squares, strict=True)
    ]
    return torch.stack(shares).sum()


def _outputs(whole: AdaptedModel, inputs: Inputs, labels: Tensor) -> list[Tensor]:
    match whole.answer:
        case Head() as answer:
            with _last_states(whole.backbone.base) as states:
                logits = answer.model(**inputs).logits.float()
            last, mask = states[-1].float(), inputs["attention_mask"]
            pooled = last.shape[1] != mask.shape[1]  # a Funnel's states are fewer than its tokens
            return [last if pooled else last * mask[:, :, None], logits]
        case VerbalizedAnswer() as answer:
            return [answer.outputs(inputs)]
        case TextAnswer() as answer:
            return [answer.logits(inputs, labels).float()[labels != NO_TOKEN].log_softmax(-1)]
    raise TypeError(type(whole.answer).__name__)


@contextmanager
def _last_states(base: nn.Module) -> Iterator[list[Tensor]]:
    """Yields a list that gets the last hidden states (n, length, width) of each call of a base model."""
    found: list[Tensor] = []

    def keep(module: nn.Module, given: Any, output: Any) -> None:
        found.append(output[0])

    handle = base.register_forward_hook(keep)
    try:
        yield found
    finally:
        handle.remove()
