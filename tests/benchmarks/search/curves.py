"""Holds stub tasks on T5-base's space of Kronecker adapters: every point's learning curve, and the best, is known.

Nothing here is measured on GLUE: the shapes of the curves are assumed, the numbers are synthetic.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from krona_tune.kron.factors import divisors
from krona_tune.search.planning.space import Params
from krona_tune.study.randomness import stream
from krona_tune.study.request.schedule import Schedule
from tests.benchmarks.search.search_points import LAYERS, ROLES, WIDTH, Array, Place, in_arrays


@dataclass(frozen=True, kw_only=True)
class Task:
    """The properties of a stub task. All but the last four are scores.

    `span`: how much the worst learning rate loses. `gap`: how far an average learner is from its end at rate 1.
    `width`: the ridge's half width, in powers of ten of learning rate × scale. `slow`: how much more slowly small
    steps learn.
    """

    name: str
    ceiling: float
    chance: float
    span: float
    noise: float
    gap: float
    exponent: float
    width: float
    slow: float


TASKS = (
    Task(name="easy", ceiling=0.945, chance=0.51, span=0.12, noise=0.008, gap=0.010, exponent=0.5, width=0.7, slow=0.6),
    Task(name="hard", ceiling=0.62, chance=0.0, span=0.60, noise=0.035, gap=0.13, exponent=0.5, width=0.5, slow=0.9),
    Task(name="noisy", ceiling=0.79, chance=0.53, span=0.22, noise=0.020, gap=0.03, exponent=0.4, width=0.5, slow=0.8),
)
"""Similar to SST-2 (872 validation examples), CoLA (521, Matthews) and RTE (500)."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One report. `score` is NaN if the training diverged; `examples` counts the examples really trained on."""

    examples: int
    score: float
    train_loss: float

    @property
    def diverged(self) -> bool:
        return self.score != self.score


@dataclass(frozen=True)
class Trainer:
    """One of a stub task's many instances: the seed moves the optimum and decides which placements are good."""

    task: Task
    seed: int

    def _rng(self, *address: str) -> np.random.Generator:
        return np.random.default_rng(stream(self.seed, "stub", self.task.name, *address))

    @cached_property
    def _moved(self) -> Mapping[str, float]:
        rng = self._rng("instance")
        return {
            "product": rng.uniform(-2.2, -1.7),
            "scale": rng.uniform(0.0, 0.8),
            "tilt": rng.uniform(-0.4, 0.4),
            "size": rng.uniform(0.7, 1.3),
            "leaning": rng.uniform(-0.5, 0.5),
        }

    @cached_property
    def _bonuses(self) -> dict[tuple[str, str], float]:
        """Returns what each placement adds to the score: its roles, its layers, and their combination."""
        rng = self._rng("places")
        by_roles, by_layers = rng.normal(0, 0.6, len(ROLES)), rng.normal(0, 0.6, len(LAYERS))
        both = rng.normal(0, 0.4, (len(ROLES), len(LAYERS))) + by_roles[:, None] + by_layers
        drawn = dict(zip(product(ROLES, LAYERS), map(float, both.ravel()), strict=True))
        most = max(drawn.values())
        return {place: value - most for place, value in drawn.items()}

    def _placed(self, params: Params) -> Place:
        """Returns one point as arrays of one element."""
        return in_arrays(
            product=np.log10(np.array([params["learning_rate"] * params["scale"]])),
            scale=np.log10(np.array([params["scale"]])),
            a_out=np.array([params["a_out"]]),
            a_in=np.array([params["a_in"]]),
            places=[(params["roles"], params["layers"])],
            bonuses=self._bonuses,
        )

    def _off(self, at: Place) -> Array:
        """Returns the distance from the ridge's top in half widths: positive for larger steps than the best."""
        middle = self._moved["product"] + self._moved["tilt"] * (at.reach - 0.7) - 0.3 * np.log10(at.sites / 36)
        return (at.product - middle) / self.task.width

    def _finals(self, at: Place) -> Array:
        off, moved = self._off(at), self._moved
        steep = np.where(off > 0, 1.6 * off, off) ** 2
        lost = steep / (1 + steep)  # broad at the top, flat far away
        lost = lost + 0.05 * (at.scale - moved["scale"]) ** 2
        lost = lost + 0.6 * np.exp(-4 * at.reach)
        lost = lost + 0.25 * np.exp(-1.5 * np.maximum(at.size - 4.2, 0)) + 0.1 * np.maximum(at.size - 5.7, 0) ** 2
        lost = lost + 0.03 * (at.leaning - moved["leaning"]) ** 2 + 0.10 * moved["size"] * -at.bonus
        score: Array = np.maximum(self.task.ceiling - self.task.span * lost, self.task.chance)
        return score

    def final(self, params: Params) -> float:
        """Returns the score of the point on unlimited validation data, averaged over seeds."""
        return float(self._finals(self._placed(params))[0])

    def divergence(self, params: Params) -> float:
        """Returns the probability that the training diverges."""
        return float(self._risk(self._placed(params))[0])

    def _risk(self, at: Place) -> Array:
        risk: Array = 1 / (1 + np.exp(-(self._off(at) * self.task.width - 0.6) / 0.07))
        return risk

    @cached_property
    def best(self) -> float:
        """Returns the highest final score of points that rarely diverge: every choice, on a fine grid of the rest."""
        shapes = list(product(divisors(WIDTH), repeat=2))
        choices = [(shape, place) for shape in shapes for place in self._bonuses]
        steps = np.linspace(-3.2, -1.0, 56)
        scale = np.array([min(max(self._moved["scale"], np.log10(0.25)), np.log10(16))])
        grid = [array.ravel() for array in np.meshgrid(steps, np.arange(len(choices)), scale, indexing="ij")]
        index = grid[1].astype(int)
        at = in_arrays(
            product=grid[0],
            scale=grid[2],
            a_out=np.array([shape[0] for shape, _ in choices])[index],
            a_in=np.array([shape[1] for shape, _ in choices])[index],
            places=[place for _, place in choices],
            bonuses=self._bonuses,
            which=index,
        )
        return float(np.max(self._finals(at), where=self._risk(at) < 0.05, initial=-np.inf))

    def curve(self, params: Params, at: Schedule) -> tuple[Seen, ...]:
        """Returns the reports of one training, one per rung; the last one is NaN if it diverged."""
        place = self._placed(params)
        off, final, risk = (float(a[0]) for a in (self._off(place), self._finals(place), self._risk(place)))
        rng = self._rng("trial", repr(sorted(params.items())))
        fate, when = rng.uniform(), rng.uniform(0.02, 0.5)
        of_trial, of_loss, speed = rng.normal(size=3)
        gap = self.task.gap * float(np.clip(np.exp(-self.task.slow * off), 0.3, 6)) * float(np.exp(0.25 * speed))
        exponent = self.task.exponent * (1 + 0.2 * float(np.tanh(off)))
        seen: list[Seen] = []
        for examples in at.rungs:
            share = examples / at.total_examples
            if fate < risk and when <= share:
                return (*seen, Seen(examples=round(when * at.total_examples), score=np.nan, train_loss=np.nan))
            learned = final - gap * (share**-exponent - 1)
            noise = self.task.noise * (0.7 * of_trial + 0.714 * rng.normal())
            score = learned + noise if learned > self.task.chance else self.task.chance
            loss = (self.task.ceiling - learned) / self.task.span + 0.15 * of_loss + 0.05 * rng.normal()
            seen.append(Seen(examples=examples, score=score, train_loss=loss))
        return tuple(seen)
