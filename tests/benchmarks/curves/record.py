"""Records a block of learning curves on real tasks and writes it as a Parquet file.

python -m tests.benchmarks.curves.record GLUE TEXTS STORAGE BLOCK...

GLUE holds GLUE's official folders, TEXTS what `tests.benchmarks.curves.texts` writes, STORAGE keeps the studies,
outside the checkout. A BLOCK is FIRST-LAST, such as 32-63, for these points of the design on all tasks;
controls-FIRST-LAST for the same points on tasks that this encoder hardly learns; further-FIRST-LAST on the tasks that
`tests.benchmarks.curves.held_out_tasks` writes, which stay among the benchmarks; or repeats, for the first 12 points
with 3 more seeds. NAME/BLOCK records a block on another backbone, from the folder STORAGE/backbones/NAME, which
`tests.benchmarks.curves.backbones` writes. A block whose study was interrupted is resumed. A row is one report of one
trial: scores and losses, no text.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from krona_tune.api.study import open_study
from krona_tune.record.recorded_curves import FOLDER, curves
from tests.benchmarks.curves import held_out_tasks, texts

CONTROLS, FURTHER, REPEATS = "controls-", "further-", "repeats"
OF_GLUE, OF_CONTROLS = ("sst2", "stsb"), ("cola", "mrpc", "rte", "wnli")
SIZES = {CONTROLS: 600, FURTHER: held_out_tasks.TRAIN}
"""The training examples of each task of a block whose name begins so; the design has those of the others."""
PACKAGED = "minilm"
"""The packaged encoder's folder among the other backbones', with its further tasks."""
OF_REPEATS = ["search.trials=12", "search.repeats={points: 12, seeds: 3}", "search.baseline_learning_rates=[]"]
DESIGN = Path(__file__).with_name("design.yaml")
OTHERS = Path(__file__).parent / "results"
"""The folder with a folder for each other backbone's blocks."""
REPORTED = ["epochs", "examples", "step", "score", "train_loss"]
KNOBS = [
    "a_out", "a_in", "terms", "scaling", "scale", "roles", "layers", "layer_norms", "learning_rate", "batch_size",
    "dropout", "warmup",
]  # fmt: skip
TRIAL = ["task", "kind", "number", "seed", "status", "adapter_parameters", "norm_parameters", *KNOBS]


@dataclass(frozen=True, kw_only=True)
class Block:
    """Holds what a block records: points `first` to `last` of the design, or `repeats` of the best.

    `backbone` names a folder of STORAGE/backbones; empty: the packaged encoder. `prefix` says on which tasks; empty: on
    those that the packaged encoder learns.
    """

    name: str
    backbone: str
    prefix: str
    repeats: bool
    first: int = 0
    last: int = 0

    @classmethod
    def named(cls, text: str) -> "Block":
        """Returns the block that is named so on the command line."""
        backbone, _, name = text.rpartition("/")
        prefix, repeats = next((each for each in SIZES if name.startswith(each)), ""), name == REPEATS
        first, last = (0, 0) if repeats else map(int, name.removeprefix(prefix).split("-"))
        return cls(name=name, backbone=backbone, prefix=prefix, repeats=repeats, first=first, last=last)

    @property
    def study(self) -> str:
        """Returns the name of the block's study."""
        return "-".join(filter(None, ("curves", self.backbone, self.name)))

    @property
    def path(self) -> Path:
        """Returns the file that holds the block."""
        outside = self.backbone or (PACKAGED if self.prefix == FURTHER else "")
        folder = OTHERS / outside if outside else FOLDER
        return folder / (f"{self.name}.parquet" if self.prefix or self.repeats else f"points-{self.name}.parquet")

    def settings(self, texts_folder: Path) -> list[str]:
        """Returns what the block's study changes of the design."""
        settings = [f"tasks={json.dumps(tasks_of(self.prefix, texts_folder))}"]
        if self.prefix:  # in place of sizes by task, of tasks that are not there
            settings.append(f"examples.train={SIZES[self.prefix]}")
        if self.repeats:
            return [*settings, *OF_REPEATS]
        heads = "[]" if self.first else "[0.01, 0.001]"
        points = [f"search.trials={self.last - self.first + 1}", f"search.first_point={self.first}"]
        return [*settings, *points, f"search.baseline_learning_rates={heads}"]

    def rows(self, study: Path) -> pd.DataFrame:
        """Returns one row per report of each trial of its study, with the trial's knobs; a trial without a report has
        one row."""
        opened = open_study(study)
        trials = opened.trials.set_index("trial_id").reindex(columns=TRIAL)
        trials = trials[trials.kind.isin(["repeat"] if self.repeats else ["search", "baseline"])]
        trials.loc[trials.kind == "search", "number"] += self.first
        if self.backbone:
            trials = in_design(trials)
        trials["layer_norms"] = trials.layer_norms.map(lambda value: str(value).lower(), na_action="ignore")
        found = trials.join(opened.reports.set_index("trial_id")[REPORTED])
        return found.sort_values(["number", "task", "kind", "seed", "epochs"]).reset_index(drop=True)


def in_design(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns a backbone's trials with the numbers that their points have in the recorded design.

    A point that its maps do not allow, or that is another's there, is passed over, and those after it come one earlier.
    A point's learning rate tells which it is; one that nobody has recorded keeps its number.
    """
    points = curves().query("kind == 'search'").drop_duplicates("number").set_index("learning_rate").number
    found = trials.learning_rate.map(points).where(trials.kind == "search").fillna(trials.number).astype(int)
    return trials.assign(number=found)


def record(block: Block, glue: Path, texts_folder: Path, storage: Path) -> Path:
    """Runs or resumes the study of one block; returns its folder."""
    words = [sys.executable, "run_study.py", "--storage", str(storage), "--quiet"]
    if (storage / block.study / "study.yaml").exists():
        words += ["--resume", block.study]
    else:
        words += ["--space", str(DESIGN), "--data", str(glue), "--name", block.study]
        words += ["--model", str(storage / "backbones" / block.backbone)] if block.backbone else []
        words += [word for setting in block.settings(texts_folder) for word in ("--set", setting)]
    subprocess.run(words, check=True, cwd=DESIGN.parents[3])
    return storage / block.study


def tasks_of(prefix: str, texts_folder: Path) -> dict[str, Any]:
    """Returns the tasks of a block whose name begins so, as YAML describes them."""
    if prefix == FURTHER:
        return held_out_tasks.tasks(texts_folder)
    return dict.fromkeys(OF_CONTROLS, "glue") if prefix == CONTROLS else learned_tasks(texts_folder)


def learned_tasks(texts_folder: Path) -> dict[str, Any]:
    """Returns the tasks that the encoder learns, as YAML describes them."""
    return dict.fromkeys(OF_GLUE, "glue") | texts.tasks(texts_folder)


def main(glue: str, texts_folder: str, storage: str, *blocks: str) -> None:
    """Records and writes the blocks one after the other."""
    for block in map(Block.named, blocks):
        study = record(block, Path(glue).resolve(), Path(texts_folder).resolve(), Path(storage).resolve())
        found, path = block.rows(study), block.path
        path.parent.mkdir(parents=True, exist_ok=True)
        found.to_parquet(path, compression="zstd")
        print(f"wrote {path}: {len(found)} rows, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
