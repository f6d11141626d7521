"""Simulates whole finals: how often what is chosen is worse than the default configuration, and what that costs.

python -m tests.benchmarks.choices [STUDIES [FAILS]]

In a study, the default configuration has an accuracy of .8, and twelve others are better or worse by chance; some learn
nothing with a quarter of their seeds, and the default one with a share FAILS of its own. One seed of each is judged on
the validation examples, the best TOP enter the finals, and the same validation examples judge these. Compared are the
winner, the rule of `study.chosen_finalist`, and the same with more seeds where it asks for them; also with other
confidences. All numbers are synthetic.
"""

import sys
from collections.abc import Sequence
from itertools import product

import numpy as np

from krona_tune.study.chosen_finalist import choose, contenders
from krona_tune.study.finals import DEFAULT, HEAD, Finals, rank_finals
from krona_tune.study.kinds import TrialKind
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.request.trial import HEAD_ONLY
from tests.benchmarks.simulated_finals import METRICS, Array
from tests.study.final_rows import row as final_row

OTHERS, TOP, SEEDS, MOST = 12, 2, 3, 5
"""Configurations beside the default one, finalists among them, the least and the most seeds of each finalist."""
LEVEL, OF_HEAD, CONSTANT = 0.8, 0.65, 0.5
SPREADS, SEED_DEVIATIONS, EXAMPLES = (0.0, 0.03), (0.01, 0.05), (200, 1000)
"""How much configurations differ, how much seeds do, and how many validation examples there are."""
FAIL, OFTEN = 0.25, 0.25
"""The share of configurations that fail, and of their seeds that then learn nothing."""
HARM = 0.01
"""A loss against the default that counts."""
RULES = {
    "the winner": (0.95, False), "chosen, .9": (0.9, False), "chosen, .95": (0.95, False),
    "chosen, .95, more seeds": (0.95, True), "chosen, .99, more seeds": (0.99, True),
}  # fmt: skip
"""By name: the confidence, and whether open choices get more seeds. The first has no default configuration."""


def finals_of(
    scores: Array,
    numbers: Sequence[int],
    seeds: Sequence[int],
    examples: int,
    *,
    confidence: float,
    steady: bool = False,
    means_decide: bool = False,
) -> Finals:
    """Returns the finals of one study.

    Args:
        scores: (configurations, MOST, 1 + draws), each seed's scores on the validation examples and on draws of them.
        numbers: (configurations,), their numbers in the finals.
        seeds: (configurations,), how many seeds each has.
        examples: how many validation examples there are.
        confidence: that with which one must be better than another.
        steady, means_decide: as `TaskFacts` has them.
    """
    facts = TaskFacts(
        title="RTE", metrics=("accuracy",), provenance="", synthetic=True, fingerprint="", train_examples=1,
        validation_examples=examples, constant_score=CONSTANT, rungs=(1,), final_seeds=SEEDS,
        confidence=confidence, steady=steady, means_decide=means_decide,
    )  # fmt: skip
    rows = [
        final_row(
            f"final-{number}-s{seed}",
            TrialKind.FINALIST,
            float(own[0]),
            number=number,
            of=f"rte-{number}",
            seed=seed,
            params={"method": HEAD_ONLY if number == HEAD else "krona"},
            metrics={"accuracy": float(own[0])},
            test_score=float(own[0]),
            test_examples=examples,
            test_metrics={"accuracy": float(own[0])},
            validation_resampled=tuple(own[1:].tolist()),
        )
        for number, many, each in zip(numbers, seeds, scores, strict=True)
        for seed, own in enumerate(each[:many])
    ]
    return rank_finals(rows, facts)


def draw_scores(
    level: Array, fails: Array, deviation: float, seeds: int, examples: int, rng: np.random.Generator
) -> Array:
    """Returns each seed's scores on the validation examples and on draws of them (configurations, seeds, 1 + draws).

    Args:
        level: (configurations,), the true accuracies.
        fails: (configurations,), the shares of their seeds that learn nothing.
        deviation: that of seeds.
        seeds: how many each has.
        examples: how many validation examples there are.
        rng: draws all.
    """
    metric = METRICS["accuracy"]
    levels = np.stack([metric.levels(each, deviation, rng.random(seeds)) for each in level])
    levels = np.where(rng.random(levels.shape) < fails[:, None], CONSTANT, levels)
    scores: Array = metric.scores(levels[None], examples, rng)[0]
    return scores


def decide(
    scores: Array, numbers: Sequence[int], examples: int, *, confidence: float, race: bool
) -> tuple[Finals, int]:
    """Returns the finals when they are over, and how many trainings they took."""
    seeds = [SEEDS] * len(numbers)
    while True:
        finals = finals_of(scores, numbers, seeds, examples, confidence=confidence)
        asked = [numbers.index(each.number) for each in contenders(finals)] if race else []
        if not asked or max(seeds) == MOST:
            return finals, sum(seeds)
        seeds = [many + (place in asked) for place, many in enumerate(seeds)]


def simulate(
    studies: int, spread: float, deviation: float, examples: int, default_fails: float = 0.0
) -> dict[str, tuple[float, float, float]]:
    """Returns by rule the share of studies that end worse than the default, the mean regret, and trainings a study."""
    rng = np.random.default_rng(8)
    found: dict[str, list[tuple[float, float, int]]] = {name: [] for name in RULES}
    for _ in range(studies):
        means = np.clip(LEVEL + spread * rng.standard_normal(OTHERS), 0.55, 0.95)
        level = np.array([OF_HEAD, LEVEL, *means])
        fails = np.array([0.0, default_fails, *np.where(rng.random(OTHERS) < FAIL, OFTEN, 0.0)])
        scores = draw_scores(level, fails, deviation, 1 + MOST, examples, rng)
        true = level * (1 - fails) + CONSTANT * fails
        best = 2 + np.argsort(-scores[2:, 0, 0])[:TOP]
        entered = [0, 1, *best.tolist()]
        numbers = [HEAD, DEFAULT, *range(1, TOP + 1)]
        for name, (confidence, race) in RULES.items():
            finals, took = decide(scores[entered, 1:], numbers, examples, confidence=confidence, race=race)
            chosen = choose(finals)
            assert chosen is not None
            used = chosen.finalist
            if name == "the winner":
                without = [each for each in finals.finalists if each.number != DEFAULT]
                used, took = without[0], took - SEEDS
            value = true[entered[numbers.index(used.number)]]
            found[name].append((float(value < true[1] - HARM), float(true.max() - value), took))
    return {name: tuple(np.mean(each, axis=0).tolist()) for name, each in found.items()}


def main(studies: str = "300", default_fails: str = "0") -> None:
    """Prints one table row for each rule and cell."""
    print("| configurations differ by | seeds by | examples | rule | worse than the default | regret | trainings |")
    print("|---|---|---|---|---|---|---|")
    for spread, deviation, examples in product(SPREADS, SEED_DEVIATIONS, EXAMPLES):
        for name, (harm, regret, took) in simulate(
            int(studies), spread, deviation, examples, float(default_fails)
        ).items():
            print(
                f"| {spread} | {deviation} | {examples:,} | {name} | {harm:.3f} | {regret:.4f} | {took:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
