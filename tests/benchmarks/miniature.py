"""Compares two ways to search on the miniature, seed by seed.

`python -m tests.benchmarks.miniature warm --earlier STUDY --storage DIR`

Prints, for each task, the best validation score after each number of trials (a mean over seeds), and how many trials
each way needed to reach the score with which the plain search ended. The data are synthetic.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from krona_tune.record.parquet_reader import read_trials
from krona_tune.study.folder import StudyFolder

WAYS: dict[str, tuple[str, list[str]]] = {
    "warm": ("mini.yaml", ["search.warm_start={earlier}"]),
}
"""The ways that are compared with the plain search: their space and their settings. A warm start learns from the study
that `--earlier` names."""
PLAIN = "finalists={top: 0}"


def main() -> None:
    """Runs missing studies, then prints the comparison."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("way", choices=WAYS)
    words.add_argument("--storage", type=Path, required=True)
    words.add_argument("--tasks", default="cola,mrpc,rte")
    words.add_argument("--trials", type=int, default=8)
    words.add_argument("--seeds", type=int, default=3)
    words.add_argument("--earlier", type=Path, help="a study, for `warm`; of other tasks, or it knows the answer")
    asked = words.parse_args()
    space, wanted = WAYS[asked.way]
    other = [setting.format(earlier=asked.earlier) if "{earlier}" in setting else setting for setting in wanted]
    best: dict[str, list[dict[str, list[float]]]] = {"plain": [], asked.way: []}
    for seed in range(asked.seeds):
        for name, settings in (("plain", []), (asked.way, other)):
            folder = StudyFolder(asked.storage / f"{asked.way}-{name}-{seed}")
            if not folder.page.exists():
                _run(folder, space, asked.tasks, asked.trials, seed, [PLAIN, *settings])
            best[name].append(_best_so_far(folder, asked.trials))
    for task in asked.tasks.split(","):
        _print(task, {name: [study[task] for study in studies] for name, studies in best.items()})


def _run(folder: StudyFolder, space: str, tasks: str, trials: int, seed: int, settings: Sequence[str]) -> None:
    sets = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "run_study.py", "--space", f"search_spaces/{space}", "--tasks", tasks, "--quiet"]
    command += ["--trials", str(trials), "--seed", str(seed), "--storage", str(folder.root.parent)]
    subprocess.run([*command, "--name", folder.name, *sets], check=True, stdout=subprocess.DEVNULL)


def _best_so_far(folder: StudyFolder, trials: int) -> dict[str, list[float]]:
    """Returns, by task, the best score after one, two, … trials; a trial without a score adds nothing."""
    rows = [row for row in read_trials(folder.results) if row.kind == "search"]
    found: dict[str, list[float]] = {}
    for task in {row.task for row in rows}:
        scores = {row.number: row.score for row in rows if row.task == task}
        known = [scores.get(number) for number in range(trials)]
        values = [-1.0 if score is None or not np.isfinite(score) else score for score in known]
        found[task] = list(np.maximum.accumulate(values))
    return found


def _print(task: str, ways: dict[str, list[list[float]]]) -> None:
    print(f"{task} (synthetic): best validation score after trial 1, 2, …")
    goals = [study[-1] for study in ways["plain"]]
    for name, studies in ways.items():
        mean = np.mean(studies, axis=0)
        needed = [_first(study, goal) for study, goal in zip(studies, goals, strict=True)]
        print(f"  {name:<9}" + " ".join(f"{score:.3f}" for score in mean) + f"   trials to the plain end: {needed}")


def _first(study: Sequence[float], goal: float) -> int | None:
    """Returns the number of trials after which the goal was reached; None if it was not."""
    return next((number for number, score in enumerate(study, start=1) if score >= goal), None)


if __name__ == "__main__":
    main()
