"""Records a block of learning curves on real tasks and writes it as a Parquet file.

python -m tests.benchmarks.curves.record DIR STORAGE BLOCK...

DIR holds GLUE's official folders, STORAGE keeps the studies, outside the checkout. A BLOCK is FIRST-LAST, such as
32-47, for these points of the design on SST-2 and STS-B (the first 32 on MRPC too), controls-FIRST-LAST for the same
points on the tasks that this encoder hardly learns, or repeats-TASK, for a task's first 12 points with 3 more seeds.
For texts-FIRST-LAST, the points on other tasks than GLUE's, DIR holds what `tests.benchmarks.curves.texts` writes. A
block whose study was interrupted is resumed. A row is one report of one trial: scores and losses, no text.
"""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

from krona_tune.api.study import open_study
from krona_tune.record.recorded_curves import FOLDER
from tests.benchmarks.curves import texts

CONTROLS, REPEATS, TEXTS = "controls-", "repeats-", "texts-"
OF_CONTROLS = "tasks=[cola, rte, wnli]"
WITH_MRPC = 32
"""The number of points on MRPC: the encoder hardly learns it, and it takes more than half of the time."""
OF_TEXTS = ["examples.max_length=64", "examples.train={default: 1000, reuters: 600}"]
OF_REPEATS = ["search.trials=12", "search.repeats={points: 12, seeds: 3}", "search.baseline_learning_rates=[]"]
DESIGN = Path(__file__).with_name("design.yaml")
REPORTED = ["epochs", "examples", "step", "score", "train_loss"]
KNOBS = [
    "a_out", "a_in", "terms", "scaling", "scale", "roles", "layers", "layer_norms", "learning_rate", "batch_size",
    "dropout", "warmup",
]  # fmt: skip
TRIAL = ["task", "kind", "number", "seed", "status", "adapter_parameters", "norm_parameters", *KNOBS]


def record(block: str, data: Path, storage: Path) -> Path:
    """Runs or resumes the study of one block; returns its folder."""
    name = f"curves-{block}"
    words = [sys.executable, "run_study.py", "--storage", str(storage), "--quiet"]
    if (storage / name / "study.yaml").exists():
        words += ["--resume", name]
    else:
        words += ["--space", str(DESIGN), "--data", str(data), "--name", name]
        words += [word for setting in _settings(block, data) for word in ("--set", setting)]
    subprocess.run(words, check=True, cwd=DESIGN.parents[3])
    return storage / name


def _settings(block: str, data: Path) -> list[str]:
    if block.startswith(REPEATS):
        return [f"tasks=[{block.removeprefix(REPEATS)}]", *OF_REPEATS]
    first, last = _range(block)
    if block.startswith(TEXTS):
        tasks = [f"tasks={json.dumps(texts.tasks(data))}", *OF_TEXTS]
    elif block.startswith(CONTROLS):
        tasks = [OF_CONTROLS]
    else:
        tasks = [] if first < WITH_MRPC else ["tasks=[sst2, stsb]"]
    heads = "[]" if first else "[0.01, 0.001]"
    points = [f"search.trials={last - first + 1}", f"search.first_point={first}"]
    return [*tasks, *points, f"search.baseline_learning_rates={heads}"]


def _range(block: str) -> tuple[int, int]:
    """Returns the first and the last point of a block."""
    first, last = block.split("-")[-2:]
    return int(first), int(last)


def rows(study: Path, block: str) -> pd.DataFrame:
    """Returns one row per report of each trial, with the trial's knobs; a trial without a report has one row."""
    opened = open_study(study)
    trials = opened.trials.set_index("trial_id").reindex(columns=TRIAL)
    again = block.startswith(REPEATS)
    trials = trials[trials.kind.isin(["repeat"] if again else ["search", "baseline"])]
    if not again:
        trials.loc[trials.kind == "search", "number"] += _range(block)[0]
    found = trials.join(opened.reports.set_index("trial_id")[REPORTED])
    return found.sort_values(["number", "task", "kind", "seed", "epochs"]).reset_index(drop=True)


def main(data: str, storage: str, *blocks: str) -> None:
    """Records and writes the blocks one after the other."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for block in blocks:
        found = rows(record(block, Path(data).resolve(), Path(storage).resolve()), block)
        named = block if block.startswith((CONTROLS, REPEATS, TEXTS)) else f"points-{block}"
        path = FOLDER / f"{named}.parquet"
        found.to_parquet(path, compression="zstd")
        print(f"wrote {path}: {len(found)} rows, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
