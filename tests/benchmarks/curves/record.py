"""Records a block of learning curves on real GLUE and writes it as a Parquet file.

python -m tests.benchmarks.curves.record DIR STORAGE BLOCK...

DIR holds GLUE's official folders, STORAGE keeps the studies, outside the checkout. A BLOCK is FIRST-LAST, such as 0-15,
for these points of the design on every task, or repeats-TASK, for a task's first 12 points with 3 more seeds. A block
whose study was interrupted is resumed. A row is one report of one trial: scores and losses, no text of GLUE.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import AutoModel, AutoTokenizer

from krona_tune.record.recorded_curves import FOLDER
from krona_tune.report.notebook import open_study
from tests.benchmarks.kron.step import MINILM

LAYERS = 3
REPEATS = "repeats-"
OF_REPEATS = ["search.trials=12", "search.repeats={points: 12, seeds: 3}", "search.baseline_learning_rates=[]"]
DESIGN = Path(__file__).with_name("design.yaml")
REPORTED = ["epochs", "examples", "step", "score", "train_loss"]
KNOBS = [
    "a_out", "a_in", "terms", "scaling", "scale", "roles", "layers", "layer_norms", "learning_rate", "batch_size",
    "dropout", "warmup",
]  # fmt: skip
TRIAL = ["task", "kind", "number", "seed", "status", "adapter_parameters", "norm_parameters", *KNOBS]


def first_layers(folder: Path) -> Path:
    """Writes the first layers of the packaged encoder as a model of its own, unless it is there; returns its folder."""
    if not (folder / "config.json").exists():
        model: Any = AutoModel.from_pretrained(MINILM)
        model.encoder.layer = model.encoder.layer[:LAYERS]
        model.config.num_hidden_layers = LAYERS
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(MINILM).save_pretrained(folder)
    return folder


def record(block: str, data: Path, storage: Path) -> Path:
    """Runs or resumes the study of one block; returns its folder."""
    name = f"curves-{block}"
    words = [sys.executable, "run_study.py", "--storage", str(storage), "--quiet"]
    if (storage / name / "study.yaml").exists():
        words += ["--resume", name]
    else:
        model = first_layers(storage / "three_layers")
        words += ["--space", str(DESIGN), "--model", str(model), "--data", str(data), "--name", name]
        words += [word for setting in _settings(block) for word in ("--set", setting)]
    subprocess.run(words, check=True, cwd=DESIGN.parents[3])
    return storage / name


def _settings(block: str) -> list[str]:
    if block.startswith(REPEATS):
        return [f"tasks=[{block.removeprefix(REPEATS)}]", *OF_REPEATS]
    first, last = map(int, block.split("-"))
    heads = "[]" if first else "[0.01, 0.001]"
    points = [f"search.trials={last - first + 1}", f"search.first_point={first}"]
    return [*points, f"search.baseline_learning_rates={heads}"]


def rows(study: Path, block: str) -> pd.DataFrame:
    """Returns one row per report of each trial, with the trial's knobs; a trial without a report has one row."""
    opened = open_study(study)
    trials = opened.trials.set_index("trial_id").reindex(columns=TRIAL)
    again = block.startswith(REPEATS)
    trials = trials[trials.kind.isin(["repeat"] if again else ["search", "baseline"])]
    if not again:
        trials.loc[trials.kind == "search", "number"] += int(block.partition("-")[0])
    found = trials.join(opened.reports.set_index("trial_id")[REPORTED])
    return found.sort_values(["number", "task", "kind", "seed", "epochs"]).reset_index(drop=True)


def main(data: str, storage: str, *blocks: str) -> None:
    """Records and writes the blocks one after the other."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for block in blocks:
        found = rows(record(block, Path(data).resolve(), Path(storage).resolve()), block)
        path = FOLDER / f"{block if block.startswith(REPEATS) else f'points-{block}'}.parquet"
        found.to_parquet(path, compression="zstd")
        print(f"wrote {path}: {len(found)} rows, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
