"""Simulates whether intervals cover and differences are true: `python -m tests.benchmarks.intervals`.

Prints tables in Markdown, each cell with the share of simulated finals by the earlier rule and by today's. The earlier
interval is the percentile bootstrap over seeds and examples; the earlier difference a paired t-test over the seeds of
each pair. All numbers are synthetic. 1,000 finals a cell take about half an hour on one core.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import sqrt

import numpy as np
from scipy.stats import ttest_1samp

from krona_tune.study.finals import rank_finals
from krona_tune.study.intervals import comparisons_of, difference, estimate, unpaired_difference
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.result import TrialResult
from tests.benchmarks.simulated_finals import METRICS, Array, Simulated
from tests.rows import row

SEEDS, EXAMPLES, DEVIATIONS = (3, 5), (200, 2_000), (0.008, 0.03, 0.08, 0.15)
FINALISTS = (2, 3, 5)
BATCH = 20
CONSTANT = 0.5
FAILING = 0.25
"""The probability that a seed learns nothing, where some do."""


def main() -> None:
    """Prints what `--parts` names."""
    parts: dict[str, Callable[[int], None]] = {
        "coverage": print_coverage,
        "alarms": print_alarms,
        "seen": print_seen,
        "unpaired": print_unpaired,
        "failing": print_failing,
    }
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--finals", type=int, default=1_000, help="simulated finals a cell")
    words.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    asked = words.parse_args()
    for part in asked.parts:
        parts[part](asked.finals)


def _table(title: str, head: Sequence[str]) -> None:
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)


def _row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def _pair(before: float, after: float) -> str:
    return f"{before:.2f} → {after:.3f}".replace("0.", ".")


def _finals(
    metric: Simulated, levels: Callable[[np.random.Generator], Array], examples: int, number: int
) -> Iterator[tuple[Array, Array]]:
    """Yields each study's levels (configurations, seeds) and scores (configurations, seeds, 1 + draws)."""
    rng = np.random.default_rng(5)
    for _ in range(number // BATCH):
        drawn = levels(rng)
        yield from zip(drawn, metric.scores(drawn, examples, rng), strict=True)


def _levels(
    metric: Simulated, means: Sequence[float], seeds: int, spread: float
) -> Callable[[np.random.Generator], Array]:
    def drawn(rng: np.random.Generator) -> Array:
        return np.stack([metric.levels(mean, spread, rng.random((BATCH, seeds))) for mean in means], axis=1)

    return drawn


def percentile_bootstrap(scores: Array, rng: np.random.Generator) -> tuple[float, float]:
    """Returns the earlier interval of scores (seeds, 1 + draws)."""
    seeds = len(scores)
    drawn = scores[rng.integers(0, seeds, (2_000, seeds)), 1 + (np.arange(2_000) % (scores.shape[1] - 1))[:, None]]
    low, high = np.percentile(drawn.mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def print_coverage(number: int) -> None:
    """Prints how often the 95 % interval of one configuration's mean covers the true one."""
    _table("Coverage of the 95 % interval", ("metric", "seeds", "examples", *(f"σ {x}" for x in DEVIATIONS)))
    rng = np.random.default_rng(0)
    for (name, metric), seeds, examples in product(METRICS.items(), SEEDS, EXAMPLES):
        cells = []
        for spread in DEVIATIONS:
            true, before, after = metric.mean(metric.level, spread), 0, 0
            for _, (scores,) in _finals(metric, _levels(metric, [metric.level], seeds, spread), examples, number):
                low, high = percentile_bootstrap(scores, rng)
                before += low <= true <= high
                low, high = estimate(scores[:, 0].tolist(), scores[:, 1:].tolist(), examples).interval(
                    metric.bounds
                ) or (1, 0)
                after += low <= true <= high
            cells.append(_pair(before / number, after / number))
        _row(name, seeds, f"{examples:,}", *cells)


def _seen(
    levels: Array, scores: Array, metric: Simulated, examples: int, rng: np.random.Generator
) -> tuple[bool, bool, float]:
    """Returns whether some finalist differs from the winner, by the earlier rule and by today's, and the detectable
    difference. The winner has the highest mean on validation: of the same models on as many other examples."""
    noise = rng.standard_normal(levels.shape) * 0.4 / sqrt(examples)
    winner = int((metric.truth(levels) + noise).mean(axis=1).argmax())
    before, after, detectable = False, False, 0.0
    by_seed = [{seed: (float(own[0]), own[1:].tolist()) for seed, own in enumerate(each)} for each in scores]
    for other in range(len(scores)):
        if other != winner:
            found = difference(by_seed[winner], by_seed[other], examples, comparisons_of(len(scores)))
            before |= bool(ttest_1samp(scores[winner, :, 0] - scores[other, :, 0], 0.0).pvalue < 0.05)
            after, detectable = after or bool(found.apart), found.detectable or 0.0
    return before, after, detectable


def _alarms(
    means: Sequence[float], seeds: int, examples: int, spread: float, number: int
) -> tuple[float, float, float]:
    metric, rng = METRICS["accuracy"], np.random.default_rng(6)
    finals = _finals(metric, _levels(metric, means, seeds, spread), examples, number)
    found = [_seen(levels, scores, metric, examples, rng) for levels, scores in finals]
    before, after, detectable = zip(*found, strict=True)
    return float(np.mean(before)), float(np.mean(after)), float(np.median(detectable))


def print_alarms(number: int) -> None:
    """Prints how often some finalist is told apart from the winner where all are equal in truth."""
    _table("False alarms among equal finalists", ("finalists", "seeds", "examples", *(f"σ {x}" for x in DEVIATIONS)))
    for finalists, seeds, examples in product(FINALISTS, SEEDS, EXAMPLES):
        means = [METRICS["accuracy"].level] * finalists
        found = [_alarms(means, seeds, examples, spread, number) for spread in DEVIATIONS]
        _row(finalists, seeds, f"{examples:,}", *(_pair(before, after) for before, after, _ in found))


def print_unpaired(number: int) -> None:
    """Prints how often two equal winners of studies with other seeds are told apart: on the same test examples, and on
    others. The spread of the second is σ, or twice as large."""
    metric = METRICS["accuracy"]
    _table(
        "False alarms between studies with other seeds",
        ("test examples", "spread of the second", "seeds", "examples", *(f"σ {x}" for x in DEVIATIONS[:3])),
    )
    for same, factor, seeds, examples in product((True, False), (1, 2), SEEDS, EXAMPLES):
        cells = [_unpaired_alarms(metric, same, seeds, examples, (x, factor * x), number) for x in DEVIATIONS[:3]]
        _row("the same" if same else "others", f"{factor} σ", seeds, f"{examples:,}", *(f"{x:.3f}"[1:] for x in cells))


def _unpaired_alarms(
    metric: Simulated, same: bool, seeds: int, examples: int, spreads: tuple[float, float], number: int
) -> float:
    def drawn(rng: np.random.Generator) -> Array:
        return np.stack([metric.levels(metric.level, x, rng.random((BATCH, seeds))) for x in spreads], axis=1)

    found = [
        [[(float(own[0]), own[1:]) for own in each] for each in scores]
        for _, scores in _finals(metric, drawn, examples, number)
    ]
    by = 0 if same else 1
    pairs = [(one[0], found[(place + by) % len(found)][1]) for place, one in enumerate(found)]
    return float(np.mean([unpaired_difference(*each, (examples,) * 2, same_examples=same).apart for each in pairs]))


def print_seen(number: int) -> None:
    """Prints how often true differences between two finalists are seen: of .03, of .05, and of the detectable size."""
    level = METRICS["accuracy"].level
    _table(
        "Differences that are seen, of two finalists",
        ("seeds", "examples", "σ", ".03", ".05", "said to be detectable", "of that, seen"),
    )
    for seeds, examples, spread in product(SEEDS, EXAMPLES, DEVIATIONS[:2]):
        cells = [_alarms([level, level - by], seeds, examples, spread, number) for by in (0.03, 0.05)]
        size = cells[0][2]
        _, seen, _ = _alarms([level, level - size], seeds, examples, spread, number)
        _row(seeds, f"{examples:,}", spread, *(_pair(*each[:2]) for each in cells), f"{size:.3f}", f"{seen:.2f}")


def _rows(validation: Array, scores: Array, examples: int) -> list[TrialResult]:
    return [
        row(
            number=0,
            score=float(score),
            trial_id=f"rte-final-0-s{seed}",
            kind="finalist",
            of="rte-000",
            seed=seed,
            metrics={"accuracy": float(score)},
            test_score=float(own[0]),
            test_examples=examples,
            test_metrics={"accuracy": float(own[0])},
            test_resampled=tuple(own[1:].tolist()),
        )
        for seed, (score, own) in enumerate(zip(validation, scores, strict=True))
    ]


def print_failing(number: int) -> None:
    """Prints what is said where a quarter of the seeds learn nothing, and where none does but all learn little."""
    metric = METRICS["accuracy"]
    head = (
        "level",
        "fail",
        "seeds",
        "examples",
        "σ",
        "failed seeds that are named",
        "others that are named",
        "coverage",
    )
    _table("Seeds that learn nothing; the constant answer has .5", head)
    for (level, failing), seeds, examples, spread in product(
        ((0.8, FAILING), (0.6, 0.0), (0.55, 0.0)), SEEDS, EXAMPLES, (0.03, 0.08)
    ):
        facts = TaskFacts(
            title="RTE", metrics=("accuracy",), provenance="", synthetic=True, fingerprint="", train_examples=1,
            validation_examples=examples, constant_score=CONSTANT, rungs=(1,),
        )  # fmt: skip
        rng = np.random.default_rng(6)
        named, wrong, failed, learned, covered, judged = 0, 0, 0, 0, 0, 0
        for _ in range(number // BATCH):
            levels = metric.levels(level, spread, rng.random((BATCH, 1, seeds)))
            dead = rng.random(levels.shape) < failing
            levels = np.where(dead, CONSTANT, levels)
            both = zip(metric.scores(levels, examples, rng), metric.scores(levels, examples, rng), dead, strict=True)
            for (validation,), (scores,), (lost,) in both:
                final = rank_finals(_rows(validation[:, 0], scores, examples), facts).finalists[0]
                said = {each.seed for each in final.unlearned}
                named += sum(seed in said for seed in range(seeds) if lost[seed])
                wrong += sum(seed in said for seed in range(seeds) if not lost[seed])
                failed, learned = failed + int(lost.sum()), learned + int((~lost).sum())
                if (~lost).sum() > 1 and final.test.interval:
                    judged += 1
                    covered += final.test.interval[0] <= level <= final.test.interval[1]
        share = f"{named / failed:.3f}" if failed else "–"
        _row(level, failing, seeds, f"{examples:,}", spread, share, f"{wrong / learned:.3f}", f"{covered / judged:.3f}")


if __name__ == "__main__":
    main()
