"""Trains one trial in one process from rung to rung, and evaluates it at each, whoever uses the reports."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, is_grad_enabled, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedTokenizerBase

from krona_tune.adapters.first_token_maps import SHORTENED_ON, first_token_maps
from krona_tune.adapters.inject import Adapters
from krona_tune.adapters.method_table import method_named
from krona_tune.adapters.placement import adapted_layers
from krona_tune.data.batches import Batch, training_batches
from krona_tune.data.metrics import Values
from krona_tune.data.tasks import Task
from krona_tune.study.randomness import stream
from krona_tune.study.request.schedule import Schedule
from krona_tune.study.request.trial import TrainingConfig, TrialConfig
from krona_tune.study.result import Report, ScoreOnTest, is_score
from krona_tune.train.backbone import Backbone, assign_dropouts, dropouts, set_dropout
from krona_tune.train.evaluate import (
    Diverged,
    evaluate_on_test,
    judged,
    measured,
    noting_batch_shape,
    resampled,
    to_device,
)
from krona_tune.train.first_token import FirstTokenOnly
from krona_tune.train.hidden_states import FrozenPrefix, HiddenStates, HiddenStateStore, open_states, skipped_layers
from krona_tune.train.task_heads import make_answer
from krona_tune.train.training_curve import TrainingCurve


class RecomputedLayers:
    """The layers' forwards under torch's activation checkpointing, until `close`. Their hooks are recomputed too."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        self._layers = list(layers)
        for layer in self._layers:
            layer.forward = partial(_recomputed, layer.forward)

    def close(self) -> None:
        """Restores the forward of each layer's class. A second call does nothing."""
        for layer in self._layers:
            vars(layer).pop("forward", None)
        self._layers = []


def _recomputed(forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    if not is_grad_enabled():
        return forward(*inputs, **named)
    return checkpoint(forward, *inputs, use_reentrant=False, **named)


@dataclass(frozen=True)
class Optimiser:
    """The optimiser and its schedule as one object that steps, saves and loads."""

    adamw: torch.optim.AdamW
    decay: torch.optim.lr_scheduler.LambdaLR
    parameters: tuple[nn.Parameter, ...]
    clip_norm: float

    @property
    def learning_rate(self) -> float:
        """Returns that of the next update."""
        return float(self.adamw.param_groups[0]["lr"])

    def step(self) -> None:
        """Makes one update from the present gradients, with their norm clipped, then clears the gradients."""
        nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.adamw.step()
        self.decay.step()
        self.adamw.zero_grad()

    def state(self) -> dict[str, Any]:
        return {"adamw": self.adamw.state_dict(), "decay": self.decay.state_dict()}

    def refuse_other(self, state: dict[str, Any]) -> None:
        """Raises a ValueError, or what reading it raises, if `state` is not one of these parameters after its steps."""
        groups, moments = state["adamw"]["param_groups"], state["adamw"]["state"]
        own = [parameter for group in self.adamw.param_groups for parameter in group["params"]]
        if [len(group["params"]) for group in groups] != [len(group["params"]) for group in self.adamw.param_groups]:
            raise ValueError("the optimiser's groups are of other sizes")
        if state["decay"]["last_epoch"] and not moments:
            raise ValueError("the optimiser has made steps but has no moments")
        for number, kept in moments.items():
            if not kept["exp_avg"].shape == kept["exp_avg_sq"].shape == own[number].shape:
                raise ValueError(f"the optimiser's moments of parameter {number} are not {tuple(own[number].shape)}")

    def load_state(self, state: dict[str, Any]) -> None:
        """Loads a state of the same parameters; the learning rate and the weight decay stay this optimiser's own."""
        own = [(group["initial_lr"], group["weight_decay"]) for group in self.adamw.param_groups]
        self.adamw.load_state_dict(state["adamw"])
        self.decay.load_state_dict(state["decay"])
        for group, (rate, decay) in zip(self.adamw.param_groups, own, strict=True):
            group["weight_decay"] = decay
            if group["initial_lr"] != rate:
                group["lr"], group["initial_lr"] = group["lr"] / group["initial_lr"] * rate, rate
        self.decay.base_lrs = [rate for rate, _ in own]


def optimiser(parameters: Iterable[nn.Parameter], training: TrainingConfig, total_steps: int) -> Optimiser | None:
    """Returns the optimiser of everything trained; None if nothing is. Scalars and vectors get no weight decay."""
    trained = tuple(parameters)
    if not trained:
        return None
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW([group for group in groups if group["params"]], lr=training.learning_rate, fused=True)
    decay = torch.optim.lr_scheduler.LambdaLR(adamw, share(round(training.warmup * total_steps), total_steps))
    return Optimiser(adamw=adamw, decay=decay, parameters=trained, clip_norm=training.clip_norm)


def share(warmup_steps: int, total_steps: int) -> Callable[[int], float]:
    """Returns the learning rate's share by step: from zero to one over the warm-up, then to zero at the end."""

    def at(step: int) -> float:
        if step < warmup_steps:
            return step / warmup_steps
        return max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))

    return at


class TrialStopped(Exception):
    """Somebody asked the trial to stop."""


@dataclass(frozen=True, kw_only=True)
class TaskWork:
    """Holds what a worker needs of a task: its encoded parts, its rungs, and for a text-to-text model the label words
    as token ids, or the tokenizer that turns generated ids into text.

    Only finalists and full trainings have `test`; with an empty `validation` there is no score.
    """

    task: Task
    train: pa.Table
    validation: pa.Table
    pad_token_id: int
    schedule: Schedule
    candidates: tuple[tuple[int, ...], ...] = field(default=())
    tokenizer: PreTrainedTokenizerBase | None = None
    test: pa.Table | None = None


def train_trial(
    trial_id: str,
    trial: TrialConfig,
    work: TaskWork,
    backbone: Backbone,
    report: Callable[[Report], None],
    store: HiddenStateStore | None = None,
) -> None:
    """Trains one trial to its full budget and passes each rung's report to `report`.

    Raises:
        Diverged: the loss, a trained parameter, an output or a score is not finite.
    """
    run = TrialRun(trial_id, trial, work, backbone, store)
    try:
        while not run.finished:
            report(run.advance())
    finally:
        run.close()


class TrialRun:
    """A running trial. `advance` trains to the next rung; `close` restores the backbone; `curve` is its training curve.

    With a `store`, layers that no trained parameter precedes are computed once and their states are read from there.
    """

    def __init__(
        self,
        trial_id: str,
        trial: TrialConfig,
        work: TaskWork,
        backbone: Backbone,
        store: HiddenStateStore | None = None,
    ) -> None:
        self.trial_id, self.trial, self.work, self.backbone = trial_id, trial, work, backbone
        self.rung, self.step = 0, 0
        self.last_report: Report | None = None
        self._judged: Values | None = None
        backbone.device.start_measuring()
        batch_size = trial.training.batch_size
        self._steps = [work.schedule.step_at(examples, batch_size) for examples in work.schedule.reports]
        self.curve = TrainingCurve(work.schedule, batch_size)
        self._own_dropouts = dropouts(backbone.whole)
        states = self._stored_states(store) if store else None
        self._prefix: FrozenPrefix | None = None
        self._recomputed, self._shortened = RecomputedLayers(()), FirstTokenOnly(backbone.base, {})
        generator = torch.Generator().manual_seed(stream(trial.seed, "adapter"))
        self.adapters = Adapters(backbone.base, backbone.geometry, trial.adapter, generator, backbone.whole)
        try:
            self._complete(states)
        except BaseException:
            self.close()
            raise

    def _complete(self, states: tuple[int, dict[int, HiddenStates]] | None) -> None:
        """Makes what needs the adapters in the model: the answer, its dropout, the optimiser, the prefix."""
        trial, work = self.trial, self.work
        seed = stream(trial.seed, "head")
        self.answer = make_answer(self.backbone, work.task, seed, work.candidates, work.pad_token_id, work.tokenizer)
        trained_layers = adapted_layers(self.backbone.geometry, trial.adapter)
        set_dropout(self.answer.model, self.backbone.base, trial.training, trained_layers)
        trained = [*self.adapters.parameters(), *(parameter for _, parameter in self.answer.head())]
        self.optimiser = optimiser(trained, trial.training, total_steps=self._steps[-1])
        if trial.training.gradient_checkpointing:
            self._recomputed = RecomputedLayers(map(self.backbone.base.get_submodule, self.backbone.geometry.layers))
        if self.backbone.device.kind in SHORTENED_ON:
            config = self.backbone.config.to_dict()
            maps = first_token_maps(self.backbone.geometry, config, trial.adapter.method)
            self._shortened = FirstTokenOnly(self.backbone.base, maps)
        self._prefix = FrozenPrefix(self.backbone, *states) if states else None

    def _stored_states(self, store: HiddenStateStore) -> tuple[int, dict[int, HiddenStates]] | None:
        """Returns the number of layers that can be left out and what they gave; None if there is nothing to gain."""
        work, depth = self.work, skipped_layers(self.backbone, self.trial)
        if not depth or work.schedule.total_examples < work.schedule.examples_per_epoch:
            return None
        trains = not (method_named(self.trial.adapter.method).trains_head_alone and self.backbone.geometry.text_to_text)
        used = (work.train if trains else None, work.validation, work.test)
        tables = [table for table in used if table is not None and len(table)]
        states = open_states(self.backbone, depth, tables, work.pad_token_id, store)
        return None if states is None else (depth, states)

    def _enter(self, table: pa.Table, batch: Batch) -> None:
        if self._prefix:
            self._prefix.enter(table, batch)

    @property
    def finished(self) -> bool:
        return self.rung == len(self._steps)

    @property
    def share_done(self) -> float:
        """Returns the share of the full budget's steps that are done."""
        return self.step / self._steps[-1] if self._steps[-1] else 1.0

    def advance(self, stop_asked: Callable[[], bool] = lambda: False) -> Report:
        """Trains to the next rung and evaluates there.

        Raises:
            Diverged: the loss, a trained parameter, an output or the score is not finite.
            TrialStopped: `stop_asked` returned true before a step.
        """
        started = time.perf_counter()
        self.curve.begin_report()
        if self.optimiser:
            self._train_until(self._steps[self.rung], stop_asked)
        loss = self.curve.mean_loss()
        if loss is None:  # nothing is trained, or the last rung was within the same step
            loss = self.last_report.train_loss if self.last_report else 0.0
        self._refuse_no_number(loss)
        self._refuse_parameters()
        self.step = self._steps[self.rung]
        trained = time.perf_counter()
        work, device = self.work, self.backbone.device
        metrics = {"score": math.nan}
        if len(work.validation):
            self._judged = self._judge()
            metrics = measured(work.task, work.validation, self._judged)
        examples = work.schedule.reports[self.rung]
        self.rung += 1
        self.last_report = Report(
            trial_id=self.trial_id,
            task=work.task.name,
            rung=self.rung - 1,
            examples=examples,
            epochs=examples / work.schedule.examples_per_epoch,
            step=self.step,
            score=metrics.pop("score"),
            metrics=metrics,
            train_loss=loss,
            train_seconds=trained - started,
            evaluation_seconds=time.perf_counter() - trained,
            peak_memory_bytes=device.peak_memory_bytes(),
            curve=self.curve.unreported,
        )
        return self.checked(self.last_report)

    def checked(self, report: Report) -> Report:
        """Returns a report of this run. Raises Diverged if its score is not finite though examples were held out."""
        if len(self.work.validation) and not report.scored:
            raise Diverged(f"the score on validation is {report.score} at step {report.step}")
        return report

    def evaluate_on_test(self) -> ScoreOnTest:
        """Evaluates the finished trial on the test half, and a finalist on draws of the validation half.

        Raises:
            Diverged: an output or the score is not finite.
            ValueError: the trial has not ended, or has no test half.
        """
        if not self.finished or self.work.test is None:
            raise ValueError(f"{self.trial_id}: it has not ended or has no test half")
        task, pad, device = self.work.task, self.work.pad_token_id, self.backbone.device
        found = evaluate_on_test(self.answer, task, self.work.test, pad, device, self._enter)
        if not is_score(found.score):
            raise Diverged(f"the score on test is {found.score}")
        if not self.trial.kind.facts.resampled:
            return found
        answers = self._judge() if self._judged is None else self._judged
        return replace(found, validation=resampled(task, self.work.validation, answers))

    def _judge(self) -> Values:
        """Returns what is found on the rows of the validation half."""
        work, device = self.work, self.backbone.device
        return judged(self.answer, work.task, work.validation, work.pad_token_id, device, self._enter)

    def _train_until(self, last_step: int, stop_asked: Callable[[], bool]) -> None:
        """Trains up to `last_step`. A loss that is no number ends it at the next point of the curve."""
        assert self.optimiser is not None
        self.answer.model.train()
        while self.step < last_step:
            for batch in self._rest_of_epoch(last_step):
                if stop_asked():
                    raise TrialStopped(f"{self.trial_id} is asked to stop before step {self.step}")
                torch.manual_seed(stream(self.trial.seed, "dropout", self.step))  # whenever a trial reports or resumes
                rate = self.optimiser.learning_rate
                with noting_batch_shape(batch):
                    loss = self.train_on(batch)
                self.step += 1
                if point := self.curve.add(self.step, loss, rate):
                    self._refuse_no_number(point.loss)

    def _refuse_no_number(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise Diverged(f"the training loss is {loss} before step {self.step}")

    def _refuse_parameters(self) -> None:
        """Refuses what the last steps left, of which no loss is computed any more."""
        if self.optimiser and not torch.stack([each.isfinite().all() for each in self.optimiser.parameters]).all():
            raise Diverged(f"a trained parameter is not finite after step {self.step}")

    def train_on(self, batch: Batch) -> Tensor:
        """Makes one optimiser step; returns its loss, which the device may still be computing."""
        assert self.optimiser is not None
        device, losses = self.backbone.device, []
        whole = self.answer.counted(torch.from_numpy(batch.labels).to(device.kind))
        for part in batch.parts(self.trial.training.accumulation):
            self._enter(self.work.train, part)
            inputs, labels = to_device(part, device)
            with device.autocast():
                loss = self.answer.loss(inputs, labels) * (self.answer.counted(labels) / whole)
            torch.autograd.backward(loss)
            losses.append(loss.detach())
        self.optimiser.step()
        return torch.stack(losses).sum()

    def _rest_of_epoch(self, last_step: int) -> Iterator[Batch]:
        """Returns the remaining batches of the present epoch, up to `last_step`."""
        batch_size = self.trial.training.batch_size
        epoch, done = divmod(self.step, self.work.schedule.steps_per_epoch(batch_size))
        order = np.random.default_rng(stream(self.trial.seed, "data order", epoch))
        batches = training_batches(self.work.train, batch_size, order, self.work.pad_token_id, at=done)
        return islice(batches, last_step - self.step)

    def state(self) -> dict[str, torch.Tensor]:
        """Returns everything trained, on the CPU: the adapters' tensors and the head's, `head.<parameter>`."""
        head = {f"head.{name}": p.detach().cpu().clone() for name, p in self.answer.head()}
        return self.adapters.state() | head

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Takes tensors as `state` gives them. Raises ValueError if a name or a shape differs; nothing was changed."""
        head = {f"head.{name}": parameter for name, parameter in self.answer.head()}
        for name, parameter in head.items():
            if name not in state or state[name].shape != parameter.shape:
                raise ValueError(f"{name} is missing or is not {tuple(parameter.shape)}")
        self.adapters.load_state({name: t for name, t in state.items() if not name.startswith("head.")})
        with torch.no_grad():
            for name, parameter in head.items():
                parameter.copy_(state[name])

    def close(self) -> None:
        """Detaches the adapters and restores the backbone's layers and dropouts. A second call does nothing."""
        if self._prefix:
            self._prefix.close()
        self._recomputed.close()
        self._shortened.close()
        self.adapters.detach()
        assign_dropouts(self.backbone.whole, self._own_dropouts)
