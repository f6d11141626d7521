"""Computes how long a trial trains and where it is evaluated, counted in training examples seen."""

from dataclasses import dataclass
from math import ceil
from typing import Annotated, Literal

from pydantic import Field

from krona_tune.study.frozen_value import FrozenValue
from krona_tune.study.request.field_types import MOST, ByTaskEpochs, for_task


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A task's full budget and its rungs, in examples; the last rung is the full budget.

    A trial is evaluated at its rungs, and with `every_epoch` also at the end of each epoch.
    """

    examples_per_epoch: int
    rungs: tuple[int, ...]
    reduction: int
    every_epoch: bool = False

    @property
    def reports(self) -> tuple[int, ...]:
        """Returns when a trial is evaluated, in examples."""
        epochs = range(self.examples_per_epoch, self.total_examples, self.examples_per_epoch)
        return tuple(sorted({*self.rungs, *(epochs if self.every_epoch else ())}))

    @property
    def total_examples(self) -> int:
        return self.rungs[-1]

    @property
    def epochs(self) -> float:
        return self.total_examples / self.examples_per_epoch

    def steps_per_epoch(self, batch_size: int) -> int:
        return ceil(self.examples_per_epoch / batch_size)

    def step_at(self, examples: int, batch_size: int) -> int:
        """Returns the number of optimiser steps after which at least that many examples were seen."""
        epochs, rest = divmod(examples, self.examples_per_epoch)
        return epochs * self.steps_per_epoch(batch_size) + ceil(rest / batch_size)

    def examples_at(self, step: int, batch_size: int) -> int:
        """Returns the training examples that were seen after so many optimiser steps."""
        epochs, rest = divmod(step, self.steps_per_epoch(batch_size))
        return epochs * self.examples_per_epoch + rest * batch_size


def make_schedule(
    *, examples_per_epoch: int, epochs: float, grace_epochs: float, reduction: int, every_epoch: bool = False
) -> Schedule:
    """Returns a schedule with rungs at grace·ηᵏ below the full budget, and the full budget itself."""
    total = max(1, round(epochs * examples_per_epoch))
    rung = max(1, round(grace_epochs * examples_per_epoch))
    rungs = []
    while rung < total:
        rungs.append(rung)
        rung *= reduction
    return Schedule(
        examples_per_epoch=examples_per_epoch, rungs=(*rungs, total), reduction=reduction, every_epoch=every_epoch
    )


class ScheduleSpec(FrozenValue):
    """Says how long a trial trains, and where it is judged: at rungs at grace·ηᵏ epochs, where η is `reduction`."""

    epochs: ByTaskEpochs = 6.0
    """A trial's full budget in epochs; one number, or one per task with `default` for the others."""
    grace_epochs: ByTaskEpochs = 1.0
    """The first rung in epochs; one number, or one per task with `default` for the others."""
    reduction: Annotated[int, Field(ge=2, le=MOST)] = 3
    """How many times further each rung is, and the share of trials, 1/η, that goes on from it."""
    report_every: Literal["rung", "epoch"] = "rung"
    """When a trial is evaluated: at each rung, or also after each epoch."""

    def of(self, task: str, train_examples: int) -> Schedule:
        return make_schedule(
            examples_per_epoch=train_examples,
            epochs=for_task(self.epochs, task),
            grace_epochs=min(for_task(self.grace_epochs, task), for_task(self.epochs, task)),
            reduction=self.reduction,
            every_epoch=self.report_every == "epoch",
        )
