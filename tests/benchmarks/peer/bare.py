"""Measures what Ray, the search and the records cost beside training: python -m tests.benchmarks.peer.bare DATA

Runs a study of 24 trials with ASHA; then the same trials, each to the rung that it reached, in a bare loop, one process
per core. Efficiency is the loop's training and evaluation seconds over the cores' seconds from the start of the study's
first trial to the end of its last one.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console

from krona_tune.record.ownership import claim
from krona_tune.report.study_page import write_report
from krona_tune.search.driver import Driver
from krona_tune.search.driver_options import DriverOptions
from krona_tune.search.planning.plan import make_plan
from krona_tune.search.start_options import StartOptions
from krona_tune.search.startup import begin_study
from krona_tune.search.startup.cluster import connecting, leave_ray
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.schedule import Schedule
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.request.trial import check_trial
from krona_tune.study.result import TrialResult
from krona_tune.train.backbone import load_backbone
from krona_tune.train.device import keep_freed_memory, this_device
from krona_tune.train.loop import TrialRun
from tests.benchmarks.peer.case import MINILM, TRIALS_AT_ONCE, Case
from tests.benchmarks.peer.ours import spec
from tests.benchmarks.peer.workers import work_of

CASE = Case(task="cola", train_examples=1000, epochs=4, trials=24)
RUNGS = Schedule(examples_per_epoch=1000, rungs=(1000, 2000, 4000), reduction=2)


@dataclass(frozen=True, kw_only=True)
class Study:
    """The study's rows, and its wall and busy seconds."""

    rows: tuple[TrialResult, ...]

    @property
    def wall(self) -> float:
        return max(row.ended_at or 0.0 for row in self.rows) - min(row.started_at for row in self.rows)

    @property
    def busy(self) -> float:
        return sum(row.train_seconds + row.evaluation_seconds for row in self.rows)


def study(data: str) -> Study:
    asked = StudySpec.model_validate(spec(CASE, data).plain() | {"search": {"trials": CASE.trials}})
    with tempfile.TemporaryDirectory() as storage:
        folder = StudyFolder(Path(storage) / "study")
        gathered = begin_study.gather_resources(make_plan(asked, "benchmark"), connecting(None))
        with claim(folder):
            started = begin_study.begin_study(gathered, folder, command="benchmark")
            done = Driver(started, DriverOptions(start=StartOptions(quiet=True)), None, Console()).run(write_report)
        leave_ray(lost=bool(done.lost))
    return Study(rows=tuple(done.ledger.rows.values()))


def bare(data: str, rows: Sequence[TrialResult]) -> float:
    """Returns the seconds that the trials' steps and evaluations take in this process."""
    keep_freed_memory()
    backbone = load_backbone(str(MINILM), this_device("auto", gpu=False))
    work = work_of(CASE.task, data, train=CASE.train_examples, validation=None, seed=CASE.seed, rungs=RUNGS)
    seconds = 0.0
    for row in rows:
        run = TrialRun(row.trial_id, check_trial(row.task, row.seed, row.params, row.kind), work, backbone)
        began = time.perf_counter()
        while run.rung <= (-1 if row.rung is None else row.rung):
            run.advance()
        seconds += time.perf_counter() - began
        run.close()
    return seconds


def main(data: str) -> None:
    """Prints which share of the cores' time was training."""
    done = study(data)
    by_cost = sorted(done.rows, key=lambda row: row.examples)
    shares = [by_cost[core::TRIALS_AT_ONCE] for core in range(TRIALS_AT_ONCE)]
    with ProcessPoolExecutor(TRIALS_AT_ONCE, mp_context=get_context("spawn")) as cores:
        seconds = sum(cores.map(bare, [data] * TRIALS_AT_ONCE, shares))
    available = done.wall * TRIALS_AT_ONCE
    print(
        f"{len(done.rows)} trials, {sum(row.examples for row in done.rows):,} examples, {done.wall:.1f} s on the clock"
    )
    print(f"training in the study {done.busy:.1f} s of {available:.1f} ({done.busy / available:.2f})")
    print(f"in a bare loop {seconds:.1f} s, so efficiency {seconds / available:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
