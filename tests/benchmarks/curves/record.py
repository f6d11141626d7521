"""Records a block of learning curves on real GLUE and writes it as a Parquet file.

python -m tests.benchmarks.curves.record DIR STORAGE BLOCK...

DIR holds GLUE's official folders, STORAGE keeps the studies, outside the checkout. A BLOCK is FIRST-LAST, such as 0-15,
for these points of the design on the design's tasks, controls-FIRST-LAST for the same points on the tasks that this
encoder hardly learns, or repeats-TASK, for a task's first 12 points with 3 more seeds. A block whose study was
interrupted is resumed. A row is one report of one trial: scores and losses, no text of GLUE.
"""

import subprocess
import sys
from pathlib import Path

import pandas as pd

from krona_tune.api.study import open_study
from krona_tune.record.recorded_curves import FOLDER

CONTROLS, REPEATS = "controls-", "repeats-"
OF_CONTROLS = "tasks=[cola, rte, wnli]"
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
        words += [word for setting in _settings(block) for word in ("--set", setting)]
    subprocess.run(words, check=True, cwd=DESIGN.parents[3])
    return storage / name


def _settings(block: str) -> list[str]:
    if block.startswith(REPEATS):
        return [f"tasks=[{block.removeprefix(REPEATS)}]", *OF_REPEATS]
    first, last = map(int, block.removeprefix(CONTROLS).split("-"))
    tasks = [OF_CONTROLS] if block.startswith(CONTROLS) else []
    heads = "[]" if first else "[0.01, 0.001]"
    points = [f"search.trials={last - first + 1}", f"search.first_point={first}"]
    return [*tasks, *points, f"search.baseline_learning_rates={heads}"]


def rows(study: Path, block: str) -> pd.DataFrame:
    """Returns one row per report of each trial, with the trial's knobs; a trial without a report has one row."""
    opened = open_study(study)
    trials = opened.trials.set_index("trial_id").reindex(columns=TRIAL)
    again = block.startswith(REPEATS)
    trials = trials[trials.kind.isin(["repeat"] if again else ["search", "baseline"])]
    if not again:
        trials.loc[trials.kind == "search", "number"] += int(block.removeprefix(CONTROLS).partition("-")[0])
    found = trials.join(opened.reports.set_index("trial_id")[REPORTED])
    return found.sort_values(["number", "task", "kind", "seed", "epochs"]).reset_index(drop=True)


def main(data: str, storage: str, *blocks: str) -> None:
    """Records and writes the blocks one after the other."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for block in blocks:
        found = rows(record(block, Path(data).resolve(), Path(storage).resolve()), block)
        named = block if block.startswith((CONTROLS, REPEATS)) else f"points-{block}"
        path = FOLDER / f"{named}.parquet"
        found.to_parquet(path, compression="zstd")
        print(f"wrote {path}: {len(found)} rows, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
