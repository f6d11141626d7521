"""Compares the finalists of the two arms of `near_or_tall.yaml`, seed by seed, on the test half.

python -m tests.benchmarks.kron.near_or_tall STUDY...

A task answers only if some arm beats the head alone by two standard errors. The difference that a task can show is the
one that a paired t test over its seeds finds with 80 % probability (Cohen, 1988).
"""

import sys
from collections.abc import Mapping
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev

from scipy.stats import nct, t

from krona_tune.record.parquet_reader import read_trials
from krona_tune.study.finals import Finalist, rank_finals
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest

NEAR, TALL = "krona", "cdka"
POWER, LEVEL = 0.8, 0.05


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> list[float]:
    """Returns first - second for every seed that both have."""
    return [score - second[seed] for seed, score in first.items() if seed in second]


def interval(differences: list[float]) -> float:
    """Returns half the width of the 95 % interval of the mean difference."""
    count = len(differences)
    return float(t.ppf(1 - LEVEL / 2, count - 1)) * stdev(differences) / sqrt(count)


def detectable(deviation: float, count: int) -> float:
    """Returns the difference that a paired t test over `count` seeds finds with 80 % probability."""
    critical, step = float(t.ppf(1 - LEVEL / 2, count - 1)), 0.01
    shift = 0.0
    while 1 - nct.cdf(critical, count - 1, shift) < POWER:
        shift += step
    return shift * deviation / sqrt(count)


def _described(arm: Finalist) -> str:
    knobs = arm.params
    size = f"{knobs['a_out']}x{knobs['a_in']}, scale {knobs['scale']:g}, rate {knobs['learning_rate']:.2g}"
    return f"{arm.test.mean:.3f}±{arm.test.deviation or 0:.3f} ({size})"


def main(*studies: str) -> None:
    """Prints a line per task and the mean over the tasks that answer."""
    means = []
    for folder in (StudyFolder(Path(study)) for study in studies):
        facts, rows = read_manifest(folder.manifest).tasks, read_trials(folder.results)
        for task, fact in facts.items():
            finals = rank_finals(row for row in rows if row.task == task)
            arms = {each.method: each for each in finals.finalists}
            head = finals.head_only
            if head is None or not {NEAR, TALL} <= arms.keys():
                print(f"{fact.title}: an arm or the head alone has no finalist")
                continue
            gains = {name: paired(arm.test_by_seed(), head.test_by_seed()) for name, arm in arms.items()}
            answers = any(fmean(gain) > 2 * stdev(gain) / sqrt(len(gain)) for gain in gains.values())
            difference = paired(arms[TALL].test_by_seed(), arms[NEAR].test_by_seed())
            means += [fmean(difference)] if answers else []
            print(
                f"{fact.title}{' (synthetic)' if fact.synthetic else ''}: head {head.test.mean:.3f}, "
                f"near square {_described(arms[NEAR])}, tall {_described(arms[TALL])}; tall - near square "
                f"{fmean(difference):+.3f} ± {interval(difference):.3f}, detectable "
                f"{detectable(stdev(difference), len(difference)):.3f}"
                f"{'' if answers else '; answers nothing: no arm beats the head by two standard errors'}"
            )
    if len(means) > 1:
        spread = interval(means)
        print(f"{len(means)} tasks that answer: mean {fmean(means):+.3f} ± {spread:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
