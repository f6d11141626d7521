"""Compares the finalists of `search_spaces/peft.yaml`: each method less KronA on the test half, seed by seed.

python -m tests.benchmarks.rivals STUDY...

The six comparisons of a task are adjusted for being six (Holm, 1979). A task answers only if some method beats the head
alone by two standard errors.
"""

import sys
from collections.abc import Mapping
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev

from scipy.stats import ttest_1samp

from krona_tune.record.parquet_reader import read_trials
from krona_tune.study.finals import rank_finals
from krona_tune.study.folder import StudyFolder
from krona_tune.study.formatting import describe_adapter
from krona_tune.study.manifest import read_manifest
from tests.benchmarks.kron.near_or_tall import detectable, interval, paired

OURS = "krona"


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """Returns the p values adjusted for their number."""
    adjusted, least = {}, 0.0
    for rank, (name, p) in enumerate(sorted(values.items(), key=lambda each: each[1])):
        least = max(least, min(1.0, (len(values) - rank) * p))
        adjusted[name] = least
    return adjusted


def main(*studies: str) -> None:
    """Prints a table per task, and the mean difference of each method over the tasks that answer."""
    over_tasks: dict[str, list[float]] = {}
    for folder in (StudyFolder(Path(study)) for study in studies):
        facts, rows = read_manifest(folder.manifest).tasks, read_trials(folder.results)
        for task, fact in facts.items():
            finals = rank_finals(row for row in rows if row.task == task)
            arms = {each.method: each for each in finals.finalists}
            assert finals.head_only, f"{task} has no finalist of the head alone"
            head, ours = finals.head_only.test_by_seed(), arms[OURS].test_by_seed()
            gains = [paired(arm.test_by_seed(), head) for arm in arms.values()]
            answers = any(fmean(gain) > 2 * stdev(gain) / sqrt(len(gain)) for gain in gains)
            less = {name: paired(arm.test_by_seed(), ours) for name, arm in arms.items() if name != OURS}
            p = holm({name: float(ttest_1samp(each, 0).pvalue) for name, each in less.items()})
            synthetic = " (synthetic)" if fact.synthetic else ""
            print(
                f"\n{fact.title}{synthetic}: head alone {finals.head_only.test.mean:.3f}"
                + " answers nothing" * (not answers)
            )
            for name, arm in sorted(arms.items(), key=lambda each: -each[1].test.mean):
                size, spread = arm.rows[0].trainable_percent, arm.test.deviation or 0
                line = f"  {name:10} {size:.3f} % {arm.test.mean:.3f}±{spread:.3f}"
                if name in less:
                    each = less[name]
                    line += f"  {fmean(each):+.3f} ± {interval(each):.3f}, p {p[name]:.2f}"
                    line += f", detectable {detectable(stdev(each), len(each)):.3f}"
                    over_tasks.setdefault(name, []).extend([fmean(each)] if answers else [])
                print(f"{line}  ({describe_adapter(arm.params)})")
    for name, means in over_tasks.items():
        if len(means) > 1:
            print(f"{name} less {OURS} over {len(means)} tasks: {fmean(means):+.3f} ± {interval(means):.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
