"""Makes AdamW with a linear warm-up and a linear decay to zero over the full budget."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from krona_tune.study.request.trial import TrainingConfig


@dataclass(frozen=True)
class Optimiser:
    """The optimiser and its schedule as one object that steps, saves and loads."""

    adamw: torch.optim.AdamW
    decay: torch.optim.lr_scheduler.LambdaLR
    parameters: tuple[nn.Parameter, ...]
    clip_norm: float

    def step(self) -> None:
        """Makes one update from the present gradients, with their norm clipped, then clears the gradients."""
        nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.adamw.step()
        self.decay.step()
        self.adamw.zero_grad()

    def state(self) -> dict[str, Any]:
        return {"adamw": self.adamw.state_dict(), "decay": self.decay.state_dict()}

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
