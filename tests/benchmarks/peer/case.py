"""Holds what both sides train: the same sentences, the same six configurations, the same three epochs."""

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from krona_tune.train.backbone_source import find_backbone

MINILM = Path(find_backbone("sentence-transformers/all-MiniLM-L6-v2").location)
LAYERS, TRIALS_AT_ONCE = 6, 2


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A near-square Kronecker adapter: LoKr's decompose factor is KronA's a_out and a_in, and the sizes are equal.

    It adapts the layers from `first_layer` on; without a factor the head is trained alone.
    """

    factor: int | None
    scale: float
    learning_rate: float
    first_layer: int = 0


@dataclass(frozen=True, kw_only=True)
class Case:
    """One task and its budget: `trials` configurations on at most `train_examples`, judged after each epoch."""

    task: str
    train_examples: int
    trials: int = 6
    epochs: int = 3
    batch_size: int = 32
    max_length: int = 128
    seed: int = 7
    warmup: float = 0.06
    configurations: tuple[Configuration, ...] = ()

    def __post_init__(self) -> None:
        if not self.configurations:
            object.__setattr__(self, "configurations", CONFIGURATIONS[: self.trials])


CONFIGURATIONS = (
    Configuration(factor=16, scale=4.0, learning_rate=5e-3),
    Configuration(factor=12, scale=4.0, learning_rate=3e-3),
    Configuration(factor=8, scale=2.0, learning_rate=5e-3),
    Configuration(factor=16, scale=8.0, learning_rate=2e-3),
    Configuration(factor=12, scale=2.0, learning_rate=8e-3),
    Configuration(factor=8, scale=4.0, learning_rate=2e-3),
)
"""384 = 16·24 = 12·32 = 8·48: shapes that both sides support."""
FROZEN = (
    *(Configuration(factor=None, scale=1.0, learning_rate=rate) for rate in (1e-2, 5e-3, 2e-3, 1e-3)),
    *(replace(each, first_layer=3) for each in CONFIGURATIONS[:4]),
)
"""Heads alone, and adapters in the last three of six layers: most of their work is the same in every trial."""
CASES = {
    "rte": Case(task="rte", train_examples=512),
    "cola": Case(task="cola", train_examples=2000),
    "small": Case(task="rte", train_examples=128, trials=2),
    "frozen": Case(task="rte", train_examples=512, trials=len(FROZEN), configurations=FROZEN),
    "small frozen": Case(task="rte", train_examples=128, trials=2, configurations=FROZEN[3:5]),
}


@dataclass(frozen=True, kw_only=True)
class Side:
    """What a side measured about itself.

    `scores` has a list per configuration, one score per epoch. `first_trial_seconds` runs from the program's start to
    that of the first trial; `trial_seconds` from a trial's start to its end; `foretold_seconds` is the forecast for a
    trial, if there was one.
    """

    scores: list[list[float]]
    trainable: list[int]
    first_trial_seconds: float
    trial_seconds: list[float]
    foretold_seconds: float = math.nan

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_side(path: Path) -> Side:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Side(**values)


def process_start() -> float:
    """Returns when this process was started, in seconds since 1970."""
    return float(psutil.Process().create_time())
