"""Times trials of MiniLM over stored hidden states, over the same trials that compute them, on the miniature.

python -m tests.benchmarks.stored_states [TASK] [ROUNDS] [float32 | bfloat16]

`first` fills the store, `later` finds it. Each round runs every case once; times are of the computing thread.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from krona_tune.search.planning.plan import make_plan
from krona_tune.search.startup.task_data import prepare_data
from krona_tune.study.request.trial import check_trial
from krona_tune.train.backbone import Backbone, load_backbone
from krona_tune.train.device import Device
from krona_tune.train.hidden_states import HiddenStateStore
from krona_tune.train.loop import TaskWork, train_trial
from tests.benchmarks.kron.step import MINILM
from tests.benchmarks.kron.timing import conditions
from tests.study.request.written_specs import load_changed

ADAPTER = {"a_out": 16, "a_in": 24, "scale": 4.0, "roles": "query+value", "learning_rate": 5e-3, "dropout": 0.0}
TRIALS: dict[str, dict[str, Any]] = {
    "head alone": {"method": "head_only", "learning_rate": 1e-2, "dropout": 0.0},
    "last 3 layers": {**ADAPTER, "layers": "last 3"},
    "all layers": {**ADAPTER, "layers": "all"},
}


def mini_work(task: str, precision: str) -> tuple[TaskWork, Backbone]:
    """Returns a task of the miniature as its space prepares it, and MiniLM."""
    spec = load_changed(Path("search_spaces/mini.yaml"), (), {"tasks": (task,), "model": MINILM})
    work = prepare_data(make_plan(spec, "benchmark"), MINILM).works[task]
    return work, load_backbone(MINILM, Device(kind="cpu", dtype=getattr(torch, precision)))


def seconds(work: TaskWork, backbone: Backbone, knobs: dict[str, Any], store: HiddenStateStore | None) -> float:
    began = time.thread_time()
    train_trial("t", check_trial(work.task.name, 0, knobs), work, backbone, lambda report: None, store)
    return time.thread_time() - began


def main(task: str = "rte", rounds: str = "5", precision: str = "bfloat16") -> None:
    """Prints, for each trial, what the first and a later one over stored states take of one that computes all."""
    print(f"{conditions()}, {precision}, {task} of the miniature (synthetic), median of {rounds} rounds")
    work, backbone = mini_work(task, precision)
    for name, knobs in TRIALS.items():
        first, later, computed = [], [], []
        for _ in range(int(rounds)):
            with tempfile.TemporaryDirectory() as folder:
                store = HiddenStateStore(Path(folder), 10**9)
                computed.append(seconds(work, backbone, knobs, None))
                first.append(seconds(work, backbone, knobs, store) / computed[-1])
                later.append(seconds(work, backbone, knobs, store) / computed[-1])
        print(
            f"{name:14} computed {statistics.median(computed):6.2f} s, "
            f"first {statistics.median(first):.2f}, later {statistics.median(later):.2f}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
