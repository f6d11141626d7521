"""`python -m tests.benchmarks.scale.study`: runs the simulated study's driver; only the workers' training is a stub."""

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ray
from rich.console import Console

from krona_tune.record.ownership import claim
from krona_tune.search import driver, tune_host
from krona_tune.search.driver_options import DriverOptions
from krona_tune.search.forecast import Forecast, TaskForecast, TrialParts
from krona_tune.search.planning.plan import make_plan
from krona_tune.search.start_options import StartOptions
from krona_tune.search.startup import begin_study
from krona_tune.search.startup.begin_study import DriverContext
from krona_tune.search.startup.cluster import OURS, QUIET, connecting
from krona_tune.search.tune_host import Phase, TrialEvents
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.loader import build_spec
from tests.benchmarks.scale.executor import execute
from tests.benchmarks.scale.stub import StubPlace, StubTrial
from tests.search.models import saved_bert

TASKS = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte")
TUNE = tune_host.tune_trials


def request(home: Path, trials: int) -> dict[str, object]:
    """Returns the request of the simulated study, with `trials` trials per task."""
    rate = {"low": 1e-4, "high": 1.0, "log": True}
    return {
        "model": str(home / "bert"),
        "data": "mini",
        "name": "scale",
        "tasks": list(TASKS),
        "adapter": {"a_out": "divisors", "a_in": "divisors", "scale": {"low": 0.25, "high": 32.0, "log": True}},
        "training": {"learning_rate": rate},
        "schedule": {"epochs": 4, "grace_epochs": 1, "reduction": 2},
        "examples": {"train": 64, "validation": 32, "test": 32, "max_length": 40},
        "search": {"trials": trials},
    }


def run(home: Path, trials: int, slots: int, seconds: float, *, in_ray: bool) -> None:
    """Runs or resumes the study, with its trials as actors of Ray Tune or in one loop that replaces Tune."""
    if not (home / "bert").exists():
        saved_bert(home / "bert")
    os.environ |= QUIET
    ray.init(address="local", num_cpus=slots, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    OURS.set()  # the study may end it
    gathered = begin_study.gather_resources(
        make_plan(build_spec(request(home, trials), "scale"), "scale"), connecting(None)
    )
    place = StubPlace(rungs={n: w.schedule.rungs for n, w in gathered.prepared.works.items()}, seconds=seconds)

    def by_ray(phase: Phase, events: TrialEvents, **others: Any) -> None:
        TUNE(replace(phase, works={}), events, **others)

    def by_loop(phase: Phase, events: TrialEvents, **others: Any) -> None:
        execute(phase, events, place, slots)

    folder = StudyFolder(home / "studies" / "scale")
    with (
        patch.object(tune_host, "KronaTrial", StubTrial),
        patch.object(DriverContext, "workplace", lambda *of: place),
        patch.object(driver, "tune_trials", by_ray if in_ray else by_loop),
        claim(folder),
    ):
        started = begin_study.begin_study(gathered, folder, "the simulation of scale")
        options = DriverOptions(start=StartOptions(quiet=True))
        done = driver.Driver(started, options, foretold(gathered, seconds), Console()).run(lambda folder: folder.spec)
    print(f"lost sinks: {done.lost_sinks}")
    ray.shutdown()


def foretold(gathered: begin_study.Resources, seconds: float) -> Forecast:
    """Returns the forecast of trials that have a rung every so many seconds."""
    parts = TrialParts(epoch=seconds, evaluation=0.0)
    works = gathered.prepared.works.items()
    tasks = {task: TaskForecast(schedule=work.schedule, adapter=parts, head=parts) for task, work in works}
    return Forecast(tasks=tasks, planned=gathered.plan.planned)


def main() -> None:
    """Reads the arguments that `tests.benchmarks.scale.run` passes on and runs the study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--trials", type=int, required=True, help="a task")
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="between two rungs of a trial")
    parser.add_argument("--in-ray", action="store_true", help="actors of Ray Tune instead of one loop")
    words = parser.parse_args()
    run(words.home, words.trials, words.slots, words.seconds, in_ray=words.in_ray)


if __name__ == "__main__":
    main()
