"""Simulates finals: models whose true scores are known, their answers on test examples, and draws of these.

All numbers are synthetic. Each seed has a level, drawn around its configuration's; each example is as hard for all
models by a share of ALIKE, and for the rest as chance has it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, gamma, norm, rankdata

Array = npt.NDArray[np.float64]
ALIKE = 0.6
DRAWS = 200
"""Draws of the test examples; a study has 500."""
LEVELS = (np.arange(20_000) + 0.5) / 20_000
"""Where a distribution of levels is evaluated for its mean."""


@cache
def weights(examples: int) -> npt.NDArray[np.float32]:
    """Returns how often each example is in the whole table, and in each draw: (examples, 1 + DRAWS)."""
    drawn = np.random.default_rng(7).multinomial(examples, np.full(examples, 1 / examples), size=DRAWS)
    return np.concatenate([np.ones((1, examples)), drawn]).astype(np.float32).T.copy()


def _weighted(values: npt.NDArray[np.generic], examples: int) -> Array:
    """Returns sums over the examples, (..., examples) → (..., 1 + DRAWS)."""
    sums = values.reshape(-1, examples).astype(np.float32) @ weights(examples)
    return sums.reshape(*values.shape[:-1], -1).astype(np.float64)


def _hardness(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Returns (studies, configurations, seeds, examples), standard normal, alike within a study."""
    common = rng.standard_normal((shape[0], 1, 1, shape[-1]))
    found: Array = np.sqrt(ALIKE) * common + np.sqrt(1 - ALIKE) * rng.standard_normal(shape)
    return found


def _accuracy(levels: Array, examples: int, rng: np.random.Generator) -> Array:
    right = _hardness((*levels.shape, examples), rng) < norm.ppf(levels)[..., None]
    return _weighted(right, examples) / examples


def _loss(levels: Array, examples: int, rng: np.random.Generator) -> Array:
    losses = levels[..., None] * np.exp(_hardness((*levels.shape, examples), rng) - 0.5)
    return -_weighted(losses, examples) / examples


THREE, TWO = np.array([0.5, 0.3, 0.2]), np.array([0.7, 0.3])
"""The shares of the classes for macro F1 and for Matthews' correlation; a wrong answer is any other class."""


def _counts(shares: Array, levels: Array, examples: int, rng: np.random.Generator) -> tuple[list[Array], ...]:
    """Returns by class how many are found, answered and labelled."""
    right = _hardness((*levels.shape, examples), rng) < norm.ppf(levels)[..., None]
    labels = rng.choice(len(shares), size=(len(levels), 1, 1, examples), p=shares)
    answers = np.where(right, labels, (labels + rng.integers(1, len(shares), size=right.shape)) % len(shares))
    classes = range(len(shares))
    return (
        [_weighted((answers == c) & (labels == c), examples) for c in classes],
        [_weighted(answers == c, examples) for c in classes],
        [_weighted(labels == c, examples) for c in classes],
    )


def _shares(shares: Array, levels: Array) -> tuple[list[Array], ...]:
    """Returns what `_counts` are shares of, for a model whose answers are right with these levels."""
    classes = range(len(shares))
    wrong = (1 - levels) / (len(shares) - 1)
    answered = [shares[c] * levels + (1 - shares[c]) * wrong for c in classes]
    return [shares[c] * levels for c in classes], answered, [np.full_like(levels, shares[c]) for c in classes]


def _f1(found: list[Array], answered: list[Array], labelled: list[Array]) -> Array:
    parts = [2 * a / np.maximum(b + c, 1e-9) for a, b, c in zip(found, answered, labelled, strict=True)]
    return np.asarray(np.mean(parts, axis=0))


def _phi(found: list[Array], answered: list[Array], labelled: list[Array]) -> Array:
    total = answered[0] + answered[1]
    scale = np.sqrt(answered[0] * answered[1] * labelled[0] * labelled[1])
    return np.asarray(np.where(scale > 0, (total * found[1] - answered[1] * labelled[1]) / np.maximum(scale, 1e-9), 0))


def _spearman(levels: Array, examples: int, rng: np.random.Generator) -> Array:
    found = np.empty((*levels.shape, 1 + DRAWS))
    for study, own in enumerate(levels):
        labels, common = rng.standard_normal((2, examples))
        of_labels = _ranks(labels)
        for place in np.ndindex(own.shape):
            noise = np.sqrt(ALIKE) * common + np.sqrt(1 - ALIKE) * rng.standard_normal(examples)
            answers = own[place] * labels + np.sqrt(1 - own[place] ** 2) * noise
            found[(study, *place)] = _correlation(_ranks(answers), of_labels, examples)
    return found


def _ranks(values: Array) -> Array:
    """Returns the ranks of one model's values in each draw, less their mean: (examples, 1 + DRAWS)."""
    order = rankdata(values, method="ordinal") - 1
    many = weights(len(values))[np.argsort(values)]
    ranks: Array = (np.cumsum(many, axis=0) - (many - 1) / 2)[order] - (len(values) + 1) / 2
    return ranks


def _correlation(first: Array, second: Array, examples: int) -> Array:
    many = weights(examples)
    products = [np.einsum("ed,ed,ed->d", many, a, b) for a, b in ((first, second), (first, first), (second, second))]
    return np.asarray(products[0] / np.sqrt(products[1] * products[2]))


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """A metric: a usual level of a seed, the score that a level has on endless examples, and scores on few."""

    level: float
    truth: Callable[[Array], Array]
    scores: Callable[[Array, int, np.random.Generator], Array]
    bounds: tuple[float, float] | None

    def levels(self, mean: float, deviation: float, at: Array) -> Array:
        """Returns the levels of seeds at these shares of their distribution; their scores have about the deviation."""
        slope = abs(float(self.truth(np.array(mean + 1e-4)) - self.truth(np.array(mean - 1e-4)))) / 2e-4
        spread = deviation / slope
        if self.bounds is None:
            return np.asarray(gamma.ppf(at, (mean / spread) ** 2, scale=spread**2 / mean))
        size = mean * (1 - mean) / spread**2 - 1
        return np.asarray(beta.ppf(at, mean * size, (1 - mean) * size))

    def mean(self, level: float, deviation: float) -> float:
        """Returns the true mean score of a configuration over endless seeds and examples."""
        return float(self.truth(self.levels(level, deviation, LEVELS)).mean())


METRICS = {
    "accuracy": Simulated(level=0.8, truth=lambda p: p, scores=_accuracy, bounds=(0, 1)),
    "macro F1": Simulated(
        level=0.8,
        truth=lambda p: _f1(*_shares(THREE, p)),
        scores=lambda p, m, rng: _f1(*_counts(THREE, p, m, rng)),
        bounds=(0, 1),
    ),
    "Matthews": Simulated(
        level=0.85,
        truth=lambda p: _phi(*_shares(TWO, p)),
        scores=lambda p, m, rng: _phi(*_counts(TWO, p, m, rng)),
        bounds=(-1, 1),
    ),
    "Spearman": Simulated(
        level=0.7, truth=lambda r: np.asarray(6 / np.pi * np.arcsin(r / 2)), scores=_spearman, bounds=(-1, 1)
    ),
    "loss": Simulated(level=0.7, truth=lambda loss: -loss, scores=_loss, bounds=None),
}
