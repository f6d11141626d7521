"""Trains the first taught point of deeper backbones at several learning rates, where it adapts more layers than before.

python -m tests.benchmarks.curves.adapted_layers RESULT BACKBONES NAME TASKS GLUE SEED...

NAME is a folder of BACKBONES, as `tests.benchmarks.curves.backbones` writes it, TASKS a file that describes one's own
tasks, GLUE the folder with GLUE's official ones. On each of these tasks and on SST-2 and STS-B the best point of the
recorded curves of the *other* tasks is trained with three epochs of 400 examples, at the rate that keeps how far a
first step moves one map, and at shares of it. Rows are added to RESULT; `report RESULT` prints the mean scores.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

from krona_tune.adapters.placement import common_dimensions, sites
from krona_tune.search.planning.plan import Plan, make_plan
from krona_tune.search.planning.space import adapter_of
from krona_tune.search.planning.teaching import read_teaching
from krona_tune.search.startup.task_data import prepare_data
from krona_tune.train.backbone import load_backbone
from krona_tune.train.device import keep_freed_memory, this_device
from krona_tune.train.hidden_states import HiddenStateStore
from tests.benchmarks.one_training import add_rows, reports
from tests.study.request.written_specs import load_changed

SPACE = Path(__file__).with_name("adapted_layers.yaml")
OF_GLUE = ("sst2", "stsb")
SHARES = (1.0, 0.58, 0.33)
STORED_BYTES = 2 * 10**9


def planned(folder: Path, tasks: dict[str, Any], glue: str) -> Plan:
    """Returns the plan of a space as it is made for a backbone: layers as shares of the depth, sizes of the width."""
    more = {"model": str(folder), "tasks": tasks, "data": glue}
    geometry = make_plan(load_changed(SPACE, (), more), "benchmark").geometry
    depth = geometry.depths[geometry.first_stack]
    every = adapter_of({"method": "krona", "a_out": 1, "a_in": 1, "roles": "query+value", "layers": "all"})
    d_out, d_in = common_dimensions(sites(geometry, every))
    changes = (
        f"adapter.a_out={{divisors: {{low: {max(1, d_out // 48)}, high: {d_out // 2}}}}}",
        f"adapter.a_in={{divisors: {{low: {max(1, d_in // 96)}, high: {d_in // 8}}}}}",
        f"adapter.layers=[all, last {depth // 2}, last {depth // 3}]",
    )
    return make_plan(load_changed(SPACE, changes, more), "benchmark")


def rows(name: str, folder: Path, plan: Plan, seed: int) -> list[dict[str, Any]]:
    """Returns one row for each task and share of the learning rate."""
    device = this_device("auto", gpu=False)
    backbone = load_backbone(str(folder), device)
    works = prepare_data(plan, str(folder)).works
    found = []
    assert plan.taught
    rule = replace(plan.taught.rule, by_depth=False)
    with tempfile.TemporaryDirectory() as kept:
        store = HiddenStateStore(Path(kept), STORED_BYTES)
        for task, work in works.items():
            first = read_teaching(plan.space, without=[task], rule=rule).points[0]
            for share in SHARES:
                point = {**first, "learning_rate": share * first["learning_rate"]}
                *_, (_, score) = reports(f"{task}-{share}", point, seed, work, backbone, store)
                knobs = {key: point[key] for key in ("layers", "roles", "learning_rate")}
                found.append({"backbone": name, "task": task, "seed": seed, "share": share, "score": score, **knobs})
                print(found[-1], flush=True)
    return found


def report(result: str) -> None:
    """Prints the mean scores over seeds by backbone and task, then over tasks."""
    frame = pd.read_parquet(result)
    means = frame.pivot_table(index=["backbone", "task"], columns="share", values="score")
    print(means.round(3).to_string())
    print(means.groupby("backbone").mean().round(3).to_string())


def main(*words: str) -> None:
    """Trains and adds rows, or prints what there is."""
    if words[0] == "report":
        report(words[1])
        return
    result, backbones, name, own, glue, *seeds = words
    torch.set_num_threads(1)
    keep_freed_memory()
    described = yaml.safe_load(Path(own).read_text(encoding="utf-8"))["tasks"]
    folder = Path(backbones) / name
    plan = planned(folder, {**dict.fromkeys(OF_GLUE, "glue"), **described}, glue)
    found = [row for seed in map(int, seeds) for row in rows(name, folder, plan, seed)]
    add_rows(Path(result), found)


if __name__ == "__main__":
    main(*sys.argv[1:])
