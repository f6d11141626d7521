"""Records finals with eight seeds of all that a default search tries on a task, and writes them as a Parquet file.

python -m tests.benchmarks.finals.record GLUE TEXTS STORAGE TASK...

GLUE holds GLUE's official folders, TEXTS what `tests.benchmarks.curves.texts` writes, STORAGE keeps the studies,
outside the checkout. NAME/TASK records a task on another backbone, from the folder STORAGE/backbones/NAME, which
`tests.benchmarks.curves.backbones` writes. The recorded curves of a task teach nothing in its study. A study that was
interrupted is resumed.
A row is one trial of the search or of the finals, with its scores and those on draws of the examples; no text.
"""

import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd

import krona_tune
from krona_tune.record.recorded_curves import LEARNED
from tests.benchmarks.curves.texts import METRICS, tasks

DESIGN = Path(__file__).with_name("finals.yaml")
RESULTS = Path(__file__).with_name("results")
TRAIN = {"sst2": 800, "reuters": 500}
"""The training examples of a task, where they are not the design's, as in its recorded curves."""
DRAWS = ["validation_resampled", "test_resampled"]
FACTS = ("title", "metrics", "train_examples", "validation_examples", "constant_score")
"""What the file's own description holds of the task."""
COLUMNS = [
    "trial_id", "task", "kind", "number", "of", "seed", "status", "method", "score", "test_score", "test_examples",
    "trainable_parameters", *DRAWS,
]  # fmt: skip


def record(task: str, backbone: str, glue: Path, texts: Path, storage: Path) -> krona_tune.Study:
    """Runs or resumes the study of one task; returns it.

    Args:
        backbone: a folder of STORAGE/backbones; empty: the packaged encoder.
    """
    asked: dict[str, Any] = {task: tasks(texts)[task]} if task in METRICS else {task: "glue"}
    settings: dict[str, Any] = {"examples.train": TRAIN[task]} if task in TRAIN else {}
    given: dict[str, Any] = {"model": str(storage / "backbones" / backbone)} if backbone else {}
    name = "-".join(filter(None, ("finals", backbone, task)))
    with patch.dict(LEARNED):
        LEARNED.pop(task, None)
        study = krona_tune.Study(
            space=DESIGN, tasks=asked, data=str(glue), name=name, storage=storage, settings=settings, **given
        )
        return study.run(quiet=True)


def rows(study: krona_tune.Study) -> pd.DataFrame:
    """Returns a row per trial of the search and of the finals, draws rounded to what tells scores apart."""
    found = study.trials[COLUMNS].sort_values(["kind", "number", "seed"]).reset_index(drop=True)
    for name in DRAWS:
        found[name] = [[round(float(score), 4) for score in draws] for draws in found[name]]
    return found


def main(glue: str, texts: str, storage: str, *names: str) -> None:
    """Records and writes the tasks one after the other."""
    for name in names:
        backbone, _, task = name.rpartition("/")
        study = record(task, backbone, Path(glue).resolve(), Path(texts).resolve(), Path(storage).resolve())
        found, path = rows(study), RESULTS / f"{name}.parquet"
        facts = study.manifest.tasks[task]
        found.attrs = {key: getattr(facts, key) for key in FACTS}
        path.parent.mkdir(parents=True, exist_ok=True)
        found.to_parquet(path, compression="zstd")
        print(f"wrote {path}: {len(found)} rows, {path.stat().st_size:,} bytes, {json.dumps(found.attrs)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
