"""Measures how a study's time grows: `python -m tests.benchmarks.growth`, four curves in one figure.

One small study of the miniature (synthetic data, a random BERT, no early stopping) is enlarged in one direction at a
time: trials, tasks, training examples, the backbone's width. Each study is a whole program run. The figure shows its
seconds and, for comparison, the training and evaluation seconds of its trials divided by the number of cores.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from transformers import BertConfig, BertForSequenceClassification

from krona_tune.record.parquet_reader import read_trials
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest
from krona_tune.train.backbone import open_tokenizer
from tests.benchmarks.peer.case import MINILM
from tests.benchmarks.svg_figure import new_figure, save_figure

RESULTS = Path(__file__).parent / "results"
TASKS = ("rte", "cola", "mrpc", "sst2", "qnli", "qqp", "stsb", "mnli")
SPACE = """\
data: mini
adapter: {method: krona, a_out: 16, a_in: [8, 16], scale: {low: 1.0, high: 8.0, log: true}}
training: {learning_rate: {low: 1e-3, high: 1e-2, log: true}, batch_size: 32, dropout: 0.0}
schedule: {epochs: 2, grace_epochs: 2, reduction: 2}
examples: {validation: 128, max_length: 64}
search: {baseline_learning_rates: []}
"""


@dataclass(frozen=True, kw_only=True)
class Size:
    """One study: trials per task, tasks, training examples per task, and the width of a backbone of six layers."""

    trials: int = 4
    tasks: int = 1
    examples: int = 512
    width: int = 384


@dataclass(frozen=True, kw_only=True)
class Took:
    """A study's seconds: of the program, until the first trial, and of its trials divided by the number of cores."""

    direction: str
    size: int
    program: float
    first_trial: float
    trials: float


DIRECTIONS: dict[str, tuple[int, ...]] = {
    "trials": (2, 4, 8, 16, 32),
    "tasks": (1, 2, 4, 8),
    "examples": (256, 512, 1024, 2048),
    "width": (96, 192, 384, 768),
}
LABELS = {
    "trials": "trials",
    "tasks": "tasks, 4 trials each",
    "examples": "training examples",
    "width": "width of the backbone",
}


def run(home: Path, size: Size) -> tuple[float, float, float]:
    """Returns the seconds of `Took` for one study."""
    folder = StudyFolder(home / "studies" / f"{size.trials}-{size.tasks}-{size.examples}-{size.width}")
    space = home / "space.yaml"
    space.write_text(SPACE, encoding="utf-8")
    words = ["--space", str(space), "--model", str(_backbone(home, size.width)), "--storage", str(folder.root.parent)]
    words += ["--tasks", ",".join(TASKS[: size.tasks]), "--trials", str(size.trials), "--name", folder.name]
    words += ["--set", f"examples.train={size.examples}"]
    began, clock = time.time(), time.perf_counter()
    subprocess.run([sys.executable, "run_study.py", *words], check=True, stdout=subprocess.DEVNULL)
    program = time.perf_counter() - clock
    rows = read_trials(folder.results)
    busy = sum(row.train_seconds + row.evaluation_seconds for row in rows)
    return program, min(row.started_at for row in rows) - began, busy / read_manifest(folder.manifest).workers


def _backbone(home: Path, width: int) -> Path:
    """Returns the folder of a random BERT of six layers, with MiniLM's vocabulary."""
    folder = home / f"bert-{width}"
    if not folder.exists():
        tokenizer = open_tokenizer(str(MINILM), 30522)
        sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": max(1, width // 32)}
        BertForSequenceClassification(BertConfig(num_hidden_layers=6, **sizes)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def draw(table: Path, picture: Path) -> None:
    """Draws the four curves from the CSV file that `main` writes."""
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure, panels = new_figure(width=12, height=3, ncols=4)
    for direction, panel in zip(DIRECTIONS, panels, strict=True):
        own = [row for row in rows if row["direction"] == direction]
        sizes = [int(row["size"]) for row in own]
        for name, label in (("program", "whole program"), ("trials", "trials, over the cores")):
            panel.plot(sizes, [float(row[name]) for row in own], marker="o", label=label)
        panel.set(xlabel=LABELS[direction], xlim=0, ylim=0)
    panels[0].set(ylabel="seconds")
    panels[0].legend()
    save_figure(figure, picture)


def main() -> None:
    """Runs each study once and writes a table and a picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, default=RESULTS, help="where the results go")
    asked = parser.parse_args()
    asked.keep.mkdir(exist_ok=True)
    known: dict[Size, tuple[float, float, float]] = {}
    found: list[Took] = []
    with tempfile.TemporaryDirectory() as home:
        for direction, numbers in DIRECTIONS.items():
            for number in numbers:
                size = replace(Size(), **{direction: number})
                known[size] = known.get(size) or run(Path(home), size)
                program, first, trials = known[size]
                found.append(Took(direction=direction, size=number, program=program, first_trial=first, trials=trials))
                print(f"{direction} {number}: {program:.1f} s, {trials:.1f} s of them trials", flush=True)
    with (asked.keep / "growth.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(asdict(found[0])))
        table.writeheader()
        table.writerows(asdict(each) for each in found)
    draw(asked.keep / "growth.csv", asked.keep / "growth.svg")


if __name__ == "__main__":
    main()
