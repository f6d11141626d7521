"""Tests if bfloat16 and float32 give the same scores: python -m tests.benchmarks.peer.precision DATA [TASK] [SEEDS]

Runs the same trial with the same seeds in both; prints the paired differences, their mean and its standard error.
"""

import statistics
import sys

from krona_tune.study.request.study_spec import Precision
from krona_tune.study.request.trial import check_trial
from krona_tune.study.result import Report
from krona_tune.train.backbone import Backbone, load_backbone
from krona_tune.train.device import this_device
from krona_tune.train.loop import TaskWork, train_trial
from tests.benchmarks.peer.case import MINILM
from tests.benchmarks.peer.workers import work_of

KNOBS = {"method": "krona", "a_out": 16, "a_in": 16, "scale": 4.0, "learning_rate": 5e-3, "batch_size": 32}
PRECISIONS: tuple[Precision, ...] = ("bf16", "fp32")


def last(task: str, seed: int, work: TaskWork, backbone: Backbone) -> Report:
    """Returns the last report of one trial."""
    reports: list[Report] = []
    train_trial(f"{task}-{seed}", check_trial(task, seed, {**KNOBS, "dropout": 0.0}), work, backbone, reports.append)
    return reports[-1]


def main(data: str, task: str = "sst2", seeds: str = "6") -> None:
    """Prints a line per seed and the mean difference."""
    work = work_of(task, data, train=1000, validation=500)
    backbones = {p: load_backbone(str(MINILM), this_device(p, gpu=False)) for p in PRECISIONS}
    differences = []
    for seed in range(int(seeds)):
        low, full = (last(task, seed, work, backbones[precision]) for precision in PRECISIONS)
        differences.append(low.score - full.score)
        losses = f"loss {low.train_loss:.4f} and {full.train_loss:.4f}"
        print(f"{task} seed {seed}: bf16 {low.score:.4f}, fp32 {full.score:.4f}; {losses}", flush=True)
    error = statistics.stdev(differences) / len(differences) ** 0.5
    print(f"bf16 less fp32: {statistics.mean(differences):+.4f}, standard error {error:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
