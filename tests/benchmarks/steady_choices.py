"""Simulates finals in which configurations fail with some seeds: what `finalists.steady` chooses, and what it costs.

python -m tests.benchmarks.steady_choices [STUDIES [HEAD]]

The head alone has an accuracy of HEAD; left out, it learns nothing. The default configuration has an accuracy of .8 and
fails with a share of its seeds, so do some of the OTHERS that a search tried with one seed each; a failed seed has the
constant answer's score. The default and the best other enter with three seeds, beside the head alone; with the key, the
next best joins while each has a failed seed and BUDGET pays. The rate of failure is that of what is chosen, the head's
is none; a true mean counts failures, and what is chosen harms if its own is lower than the default's by more than HARM.
All numbers are synthetic.
"""

import sys
from itertools import product
from typing import NamedTuple

import numpy as np

from krona_tune.study.chosen_finalist import choose
from krona_tune.study.finals import DEFAULT, HEAD, Finals
from krona_tune.study.request.study_spec import CONFIDENCE, EARLIER_CONFIDENCE
from tests.benchmarks.choices import CONSTANT, HARM, LEVEL, SEEDS, draw_scores, finals_of
from tests.benchmarks.simulated_finals import Array

OTHERS, BUDGET, SPREAD, DEVIATION, EXAMPLES = 5, 20, 0.03, 0.02, 500
FAILS = (0.1, 0.25, 0.5)
"""The share of the default's seeds that fail."""
OFTEN = (0.25, 1.0)
"""The share of the other configurations that fail as often as the default."""


class Rule(NamedTuple):
    """Holds what `TaskFacts` has of the choice: the confidence, whether the next best joins, and what gives way."""

    confidence: float = EARLIER_CONFIDENCE
    steady: bool = False
    means_decide: bool = False


RULES = {
    "without": Rule(),
    "with": Rule(steady=True),
    "with, .99": Rule(CONFIDENCE, steady=True),
    "means decide, .99": Rule(CONFIDENCE, steady=True, means_decide=True),
}


class Simulated(NamedTuple):
    """Holds of what is chosen the rate of failure and the true mean score, the trainings, and how often it harms."""

    fails: float
    mean: float
    trainings: float
    harms: float


def decide(scores: Array, order: list[int], rule: Rule) -> tuple[Finals, int, list[int]]:
    """Returns the finals when they are over, how many trainings they took, and which configurations are in them.

    Args:
        scores: (2 + OTHERS, SEEDS, 1 + draws), of the head alone, the default and the others.
        order: the others, the best in the search first.
        rule: says whether the next best joins.
    """
    entered, left = [0, 1, order[0]], list(order[1:])
    while True:
        numbers = [HEAD, DEFAULT, *range(1, len(entered) - 1)]
        finals = finals_of(
            scores[entered],
            numbers,
            [SEEDS] * len(entered),
            EXAMPLES,
            confidence=rule.confidence,
            steady=rule.steady,
            means_decide=rule.means_decide,
        )
        paid = (len(entered) + 1) * SEEDS <= BUDGET
        if not (rule.steady and left and paid) or any(each.reliable for each in finals.finalists):
            return finals, len(entered) * SEEDS, entered
        entered.append(left.pop(0))


def simulate(studies: int, fails: float, often: float, head: float = CONSTANT) -> dict[str, Simulated]:
    """Returns by rule what is chosen in the mean of so many studies."""
    rng = np.random.default_rng(8)
    found: dict[str, list[Simulated]] = {name: [] for name in RULES}
    for _ in range(studies):
        means = np.clip(LEVEL + SPREAD * rng.standard_normal(OTHERS), 0.55, 0.95)
        level = np.array([head, LEVEL, *means])
        rates = np.array([0.0, fails, *np.where(rng.random(OTHERS) < often, fails, 0.0)])
        scores = draw_scores(level, rates, DEVIATION, 1 + SEEDS, EXAMPLES, rng)
        true = level * (1 - rates) + CONSTANT * rates
        order = [2 + each for each in np.argsort(-scores[2:, 0, 0]).tolist()]
        for name, rule in RULES.items():
            finals, took, entered = decide(scores[:, 1:], order, rule)
            chosen = choose(finals)
            assert chosen is not None
            number = chosen.finalist.number
            used = {HEAD: 0, DEFAULT: 1}.get(number) if number < 1 else entered[1 + number]
            assert used is not None
            found[name].append(Simulated(rates[used], true[used], took, true[used] < true[1] - HARM))
    return {name: Simulated(*np.mean(rows, axis=0).tolist()) for name, rows in found.items()}


def main(studies: str = "300", head: str = str(CONSTANT)) -> None:
    """Prints one table row for each cell."""
    print(
        f"| the default fails with | others that do | rate of failure: {'; '.join(RULES)} | mean | trainings | harms |"
    )
    print("|---|---|---|---|---|---|")
    for fails, often in product(FAILS, OFTEN):
        columns = zip(*simulate(int(studies), fails, often, float(head)).values(), strict=True)
        cells = (
            "; ".join(f"{value:.{places}f}" for value in column)
            for places, column in zip((3, 3, 1, 3), columns, strict=True)
        )
        print(f"| {fails} | {often} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
