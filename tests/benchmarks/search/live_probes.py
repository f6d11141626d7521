"""Trains what is recommended in a made space on real tasks, and asks whether a probe's interval held its end.

python -m tests.benchmarks.search.live_probes RESULT BACKBONES NAME TASKS GLUE SEED

NAME is a folder of BACKBONES, as `tests.benchmarks.curves.backbones` writes it, or `minilm`, the packaged model; TASKS
a file that describes one's own tasks, GLUE the folder with GLUE's official ones. Each of these tasks and of OF_GLUE is
a study of its own with a space made for eight minutes; its recommended configuration is trained to its end, and judged
after a third, too. Rows are added to RESULT, one a training; `report RESULT` prints them and in how many the interval
holds.

Written before any was trained: what a probe foretells of them should hold in .85 to .95. The interval is that of the
recorded curves alone, without the chance between validation examples that the product adds to it. None of one's own
tasks made the figures of the probe; CoLA, MRPC and RTE did on MiniLM, for which they are left out.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import torch
import yaml
from scipy.stats import binomtest

import krona_tune
from krona_tune.search.planning.expected_score import BEST, score_at_the_end
from krona_tune.search.planning.recommendation import Recommendation
from krona_tune.search.startup.probe import ending_early
from krona_tune.search.startup.task_data import prepare_data
from krona_tune.train.backbone import load_backbone
from krona_tune.train.backbone_source import download
from krona_tune.train.device import keep_freed_memory, this_device
from krona_tune.train.hidden_states import HiddenStateStore
from tests.benchmarks.one_training import add_rows, reports
from tests.benchmarks.search.probed_trainings import MINILM

OF_GLUE = ("cola", "mrpc", "rte")
MADE_FOR = "8min"
STORED_BYTES = 2 * 10**9


def recommended(folder: str | None, task: str, described: dict[str, Any] | None, glue: str) -> Recommendation:
    """Returns what is recommended for one task in a space that is made for it."""
    tasks: Any = {task: described} if described else task
    data = None if described else glue
    study = krona_tune.Study(tasks=tasks, model=folder, data=data, time_budget=MADE_FOR, name="probe")
    return study.recommend().found


def row(name: str, found: Recommendation, seed: int) -> dict[str, Any]:
    """Trains a recommended configuration; returns its scores after a third and at its end."""
    [task], source = found.trains.spec.tasks, download(found.trains.source)
    prepared = prepare_data(replace(found.trains, source=source), source.location)
    backbone = load_backbone(source.location, this_device("auto", gpu=False), found.trains.geometry)
    work = ending_early(prepared.works[task])
    store, began = HiddenStateStore.of_this_machine(STORED_BYTES), time.perf_counter()
    (_, early), (_, end) = reports(task, found.point, seed, work, backbone, store)
    return {
        "backbone": name,
        "task": task,
        "seed": seed,
        "taught": found.taught,
        "examples": work.schedule.examples_per_epoch,
        "epochs": work.schedule.epochs,
        "constant": prepared.facts[task].constant_score,
        "early": early,
        "end": end,
        "seconds": time.perf_counter() - began,
    }


def report(result: str) -> None:
    """Prints a Markdown table of the trainings, and in how many the interval held."""
    rows = pd.read_parquet(result).sort_values(["backbone", "task", "seed"]).to_dict("records")
    print("| | constant | after a third | foretold | end |\n|---|---|---|---|---|")
    held, widths = 0, []
    for each in rows:
        constant, end = each["constant"], each["end"]
        found = score_at_the_end(each["early"], constant)
        holds = found.low <= end <= found.high
        held += holds
        widths.append((found.high - found.low) / (BEST - constant))
        foretold = f"{found.score:.3f} ({found.low:.3f} to {found.high:.3f}){'' if holds else ', missed'}"
        print(f"| {each['backbone']}: {each['task']} | {constant:.3f} | {each['early']:.3f} | {foretold} | {end:.3f} |")
    interval = binomtest(held, len(rows)).proportion_ci()
    print(f"\nheld in {held} of {len(rows)} ({interval.low:.2f}-{interval.high:.2f}), width {fmean(widths):.2f}")


def main(*words: str) -> None:
    """Trains and adds rows, or prints what there is."""
    if words[0] == "report":
        report(words[1])
        return
    result, backbones, name, own, glue, seed = words
    torch.set_num_threads(1)
    keep_freed_memory()
    described = yaml.safe_load(Path(own).read_text(encoding="utf-8"))["tasks"]
    folder = None if name == MINILM else str(Path(backbones) / name)
    tasks = {**described, **({} if name == MINILM else dict.fromkeys(OF_GLUE))}
    for task, said in tasks.items():
        found = row(name, recommended(folder, task, said, glue), int(seed))
        print(found, flush=True)
        add_rows(Path(result), [found])


if __name__ == "__main__":
    main(*sys.argv[1:])
