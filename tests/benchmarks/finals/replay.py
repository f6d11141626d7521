"""`python -m tests.benchmarks.finals.replay [--studies N]`: how far a choice among real finalists holds.

Each replayed study has tried SEARCHED of a task's twelve recorded configurations, among them the default one, as each
search does; beside the default configuration and the head alone the TOP of the others with the best scores in the
search enter the finals. The recorded seeds come in a new order in each study: the first SEEDS decide, those up to MOST
too where the rule asks for more (a new study gives up to seven), and the last REPORTED report. Compared are

- the winner, the best validation mean of the best TOP + 1 of all that were tried, which costs as much;
- what is chosen of three seeds, and of three to five;
- the same where the default configuration counts as one of the TOP if it is one of the best;
- the default configuration itself, and the one that is best on average, which nobody can know.

The figures that count: how often what is used is worth less than the default by more than HARM (aimed at is 1 % of all
studies), and its regret against the best of the finals, as a share of the winner's (aimed at is .9). They are of two
kinds. By the reports, a configuration is worth the mean test score of the last REPORTED seeds, as was written before
any of these finals was recorded. On average, it is worth that of all its recorded seeds; this was added when three
tasks were recorded, because three seeds of the best configuration are often worse than three of another. Beside them:
the trainings, and how often a reporting seed of what is used did not learn. Where a seed diverged, it is worth the
constant answer. Intervals are over tasks, by t. Other confidences were added when one task was recorded, that of .99
where the default counts when four were, and two on a second backbone; the last two rules, of which new studies follow
the second, when all eight were. A first version let the default configuration, which is one of the twelve, take the
place of a finalist; mended after three.
"""

import argparse
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from krona_tune.study.chosen_finalist import choose, contenders
from krona_tune.study.finals import DEFAULT, HEAD, Finals, rank_finals
from krona_tune.study.intervals import student_quantile
from krona_tune.study.kinds import TrialKind
from krona_tune.study.learning import unlearned
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.request.study_spec import EARLIER_CONFIDENCE
from krona_tune.study.result import Status, TrialResult
from tests.benchmarks.curves.record import PACKAGED
from tests.benchmarks.finals.record import RESULTS
from tests.study.final_rows import row as final_row

SEARCHED, TOP, SEEDS, MOST, REPORTED = 6, 2, 3, 5, 3
HARM = 0.01
WINNER, DEFAULT_ITSELF, BEST = "the winner", "the default", "the best on average"
COUNTED = "chosen of three to five, the default counts"


class Rule(NamedTuple):
    """Holds how many seeds a configuration may have, the confidence of the choice, whether the default counts, and what
    `TaskFacts` has of `steady` and `means_decide`."""

    most: int = MOST
    confidence: float = EARLIER_CONFIDENCE
    counted: bool = False
    steady: bool = False
    means_decide: bool = False


RULES = {
    WINNER: Rule(SEEDS),
    "chosen of three seeds": Rule(SEEDS),
    "chosen of three to five": Rule(),
    "chosen of three to five, .9": Rule(confidence=0.9),
    "chosen of three to five, .99": Rule(confidence=0.99),
    COUNTED: Rule(counted=True),
    f"{COUNTED}, .99": Rule(confidence=0.99, counted=True),
    f"{COUNTED}, .99, steady": Rule(confidence=0.99, counted=True, steady=True),
    f"{COUNTED}, .99, steady, means decide": Rule(confidence=0.99, counted=True, steady=True, means_decide=True),
    DEFAULT_ITSELF: Rule(),
    BEST: Rule(),
}


class Replayed(NamedTuple):
    """Holds what one rule uses in one study: whether it harms and its regret, by the reports and on average, the
    trainings, and whether a reporting seed did not learn."""

    harms: bool
    regret: float
    harms_on_average: bool
    average_regret: float
    trainings: int
    fails: bool


@dataclass(frozen=True, kw_only=True)
class RecordedFinals:
    """A task's recorded finals.

    `rows` are finalists by their number and seed, `searched` the score of each number in the search, and the default
    configuration's too, `failed` the seeds by number that did not learn.
    """

    facts: TaskFacts
    rows: dict[int, dict[int, TrialResult]]
    searched: dict[int, float]
    failed: dict[int, frozenset[int]]

    def average(self, number: int) -> float:
        """Returns the mean test score of a configuration over all its seeds."""
        return self.worth(number, self.rows[number])

    @property
    def seeds(self) -> list[int]:
        """Returns the seeds that all configurations were trained with."""
        return sorted(set.intersection(*map(set, self.rows.values())))

    def judged(self, rule: Rule) -> "RecordedFinals":
        """Returns the same finals, where it is chosen by this rule."""
        told = {name: getattr(rule, name) for name in ("confidence", "steady", "means_decide")}
        return replace(self, facts=self.facts.model_copy(update=told))

    def worth(self, number: int, seeds: Collection[int]) -> float:
        """Returns the mean test score of a configuration over these seeds."""
        scores = [self.rows[number][seed].test_score for seed in seeds]
        return fmean(self.facts.constant_score if score is None else score for score in scores)


def read(path: Path) -> RecordedFinals:
    """Returns what one file holds."""
    frame = pd.read_parquet(path)
    told = frame.attrs
    facts = TaskFacts(
        title=told["title"], metrics=tuple(told["metrics"]), provenance="", synthetic=False, fingerprint="",
        train_examples=told["train_examples"], validation_examples=told["validation_examples"],
        constant_score=told["constant_score"], rungs=(1,), final_seeds=SEEDS,
    )  # fmt: skip
    rows: dict[int, dict[int, TrialResult]] = {}
    for found in frame[frame.kind == TrialKind.FINALIST].to_dict("records"):
        rows.setdefault(int(found["number"]), {})[int(found["seed"])] = _row(found, facts)
    searched = frame[frame.kind == TrialKind.SEARCH].set_index("trial_id").score.fillna(-np.inf)
    of = {number: next(iter(own.values())).of for number, own in rows.items()}
    return RecordedFinals(
        facts=facts,
        rows=rows,
        searched={number: float(searched[name]) for number, name in of.items() if name in searched.index},
        failed={
            number: frozenset(row.seed for row in own.values() if row.score is None)
            | {row.seed for row in unlearned([row for row in own.values() if row.score is not None], facts)}
            for number, own in rows.items()
        },
    )


def _row(found: Mapping[Any, Any], facts: TaskFacts) -> TrialResult:
    """Returns a finalist."""
    diverged = found["status"] == Status.DIVERGED
    scores: dict[str, Any] = {"status": Status.DIVERGED} if diverged else {
        "metrics": dict.fromkeys(facts.metrics, found["score"]),
        "test_score": found["test_score"],
        "test_examples": int(found["test_examples"]),
        "test_metrics": dict.fromkeys(facts.metrics, found["test_score"]),
        "validation_resampled": tuple(found["validation_resampled"]),
        "test_resampled": tuple(found["test_resampled"]),
    }  # fmt: skip
    return final_row(
        f"{found['number']}-s{found['seed']}",
        TrialKind.FINALIST,
        None if diverged else found["score"],
        number=int(found["number"]),
        of=found["of"],
        seed=int(found["seed"]),
        params={"method": found["method"]},
        **scores,
    )


def decided(finals: RecordedFinals, numbers: Sequence[int], seeds: Sequence[int], most: int) -> tuple[Finals, int]:
    """Returns the finals of these configurations when they are over, and how many trainings they took.

    Args:
        seeds: in the order in which each configuration gets them, SEEDS at least.
        most: how many of them a configuration may have.
    """
    counts = dict.fromkeys(numbers, SEEDS)
    while True:
        ranked = rank_finals(
            [finals.rows[number][seed] for number, many in counts.items() for seed in seeds[:many]], finals.facts
        )
        asked = [each.number for each in contenders(ranked)]
        if not asked or min(counts[number] for number in asked) == most:
            return ranked, sum(counts.values())
        fewest = min(counts[number] for number in asked)
        counts |= {number: fewest + 1 for number in asked if counts[number] == fewest}


class Drawn(NamedTuple):
    """Holds one study: the order of the seeds, and which numbers enter its finals.

    `entered` has TOP others beside the default and the head alone, `counted` one less where the default is one of the
    best, and `best` the best of all that were tried.
    """

    seeds: list[int]
    entered: list[int]
    counted: list[int]
    best: list[int]

    @property
    def all(self) -> set[int]:
        """Returns every number that enters under one of the rules."""
        return {*self.entered, *self.best}


def draw(finals: RecordedFinals, studies: int) -> Iterator[Drawn]:
    """Yields so many studies of a task, the same ones each time."""
    rng = np.random.default_rng(43)
    others = [number for number in finals.searched if number != DEFAULT]
    for _ in range(studies):
        tried = [DEFAULT, *rng.permutation(others)[: SEARCHED - 1].tolist()]
        best = sorted(tried, key=lambda number: -finals.searched[number])
        beside = [number for number in best if number != DEFAULT][:TOP]
        yield Drawn(
            seeds=rng.permutation(finals.seeds).tolist(),
            entered=[HEAD, DEFAULT, *beside],
            counted=[HEAD, DEFAULT, *[number for number in beside if number in best[:TOP]]],
            best=best[: TOP + 1],
        )


def replay(finals: RecordedFinals, studies: int) -> dict[str, list[Replayed]]:
    """Returns what each rule uses in each of so many studies."""
    found: dict[str, list[Replayed]] = {name: [] for name in RULES}
    average = {number: finals.average(number) for number in finals.rows}
    for study in draw(finals, studies):
        reports = study.seeds[-REPORTED:]
        worths = {number: finals.worth(number, reports) for number in study.all}
        for name, rule in RULES.items():
            took = 0
            if name == DEFAULT_ITSELF:
                used = DEFAULT
            elif name == BEST:
                used = max(worths, key=average.__getitem__)
            elif name == WINNER:
                ranked, took = decided(finals, [HEAD, *study.best], study.seeds, rule.most)
                used = ranked.finalists[0].number
            else:
                numbers = study.counted if rule.counted else study.entered
                ranked, took = decided(finals.judged(rule), numbers, study.seeds, rule.most)
                chosen = choose(ranked)
                assert chosen is not None, "a recorded configuration has a score"
                used = chosen.finalist.number
            found[name].append(
                Replayed(
                    *_held(used, worths),
                    *_held(used, {number: average[number] for number in worths}),
                    trainings=took,
                    fails=bool(finals.failed[used] & set(reports)),
                )
            )
    return found


def _held(used: int, worths: Mapping[int, float]) -> tuple[bool, float]:
    """Returns whether a configuration is worse than the default by more than HARM, and its regret."""
    return worths[used] < worths[DEFAULT] - HARM, max(worths.values()) - worths[used]


def table(found: Mapping[str, Mapping[str, Sequence[Replayed]]]) -> list[str]:
    """Returns a Markdown table of what the rules use: a row for each task and rule, then one over all tasks.

    Args:
        found: by task, then by rule, a row for each study.
    """
    lines = [
        "| task | rule | worse than the default by the reports | on average | regret by the reports | of the winner's "
        "| on average | of the winner's | trainings | a seed fails |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    means = {
        task: {name: Means(*np.mean(np.array(studies, float), axis=0)) for name, studies in rules.items()}
        for task, rules in found.items()
    }
    overall = {name: [each[name] for each in means.values()] for name in RULES}
    for task, rules in means.items():
        lines += [_line(task, name, values, rules[WINNER]) for name, values in rules.items()]
    together = {name: Means(*np.mean(each, axis=0)) for name, each in overall.items()}
    lines += [_line("all", name, values, together[WINNER]) for name, values in together.items()]
    for name, values in overall.items() if len(means) > 1 else ():
        cells = [_range([each[place] for each in values]) for place in (0, 2)]
        lines.append(f"| all, 95 % over {len(values)} tasks | {name} | {' | '.join(cells)} | | | | | | |")
    return lines


class Means(NamedTuple):
    """Holds the means over studies of what `Replayed` holds."""

    harms: float
    regret: float
    harms_on_average: float
    average_regret: float
    trainings: float
    fails: float


def _line(task: str, name: str, own: Means, winner: Means) -> str:
    return (
        f"| {task} | {name} | {own.harms:.3f} | {own.harms_on_average:.3f} "
        f"| {own.regret:.4f} | {_share(own.regret, winner.regret)} "
        f"| {own.average_regret:.4f} | {_share(own.average_regret, winner.average_regret)} "
        f"| {own.trainings:.1f} | {own.fails:.3f} |"
    )


def _share(regret: float, of: float) -> str:
    return f"{regret / of:.2f}" if of else "–"


def _range(values: Sequence[float]) -> str:
    low, high = interval(np.array(values))
    return f"{low:.3f} to {high:.3f}"


def interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Returns the 95 % interval of the mean of these values, by t."""
    reach = student_quantile(len(values) - 1, 0.975) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - reach), float(values.mean() + reach)


def main() -> None:
    """Prints a table of the recorded tasks of each backbone."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--studies", type=int, default=1000, help="how many studies of each task")
    studies = flags.parse_args().studies
    for folder in [RESULTS, *sorted(path for path in RESULTS.iterdir() if path.is_dir())]:
        print(f"{PACKAGED if folder == RESULTS else folder.name}:\n")
        print("\n".join(table({path.stem: replay(read(path), studies) for path in sorted(folder.glob("*.parquet"))})))


if __name__ == "__main__":
    main()
