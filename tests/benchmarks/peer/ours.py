"""Runs krona_tune on a fixed list of configurations: all of `run_study.py`, except that Optuna proposes nothing.

python -m tests.benchmarks.peer.ours CASE DATA OUT [bf16 | fp32]
"""

import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from krona_tune.record.driver_state import TrialProgress
from krona_tune.record.mlflow_mirror.mlflow_sink import MlflowSink, MlflowStore
from krona_tune.record.ownership import claim
from krona_tune.record.parquet_reader import read_reports
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.sink import FanOut
from krona_tune.report.study_page import write_report
from krona_tune.search.artifacts import save_best_adapters
from krona_tune.search.budget import Amount, Budget
from krona_tune.search.ledger import Ledger
from krona_tune.search.planning.plan import make_plan
from krona_tune.search.searchers.proposal import Origin
from krona_tune.search.searchers.task_searcher import Gate, StudySearcher
from krona_tune.search.startup import begin_study
from krona_tune.search.startup.begin_study import DriverContext
from krona_tune.search.startup.cluster import connecting
from krona_tune.search.startup.preflight import run_preflight
from krona_tune.search.startup.timed_forecast import timed_forecast
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.search.terminal.live_view import View
from krona_tune.search.trial_loop import TrialLoop
from krona_tune.search.tune_host import Phase, tune_trials
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.loader import dump_spec
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.result import Status
from tests.benchmarks.peer.case import CASES, LAYERS, MINILM, TRIALS_AT_ONCE, Case, Configuration, Side, process_start


def spec(case: Case, data: str, precision: str = "auto") -> StudySpec:
    """Returns the request; η = 2 puts a rung at the end of each of three epochs."""
    listed = case.configurations
    rates = [configuration.learning_rate for configuration in listed]
    places = sorted({_layers(configuration) for configuration in listed if configuration.factor})
    training = {"learning_rate": {"low": min(rates), "high": max(rates), "log": True}, "warmup": case.warmup}
    return StudySpec.model_validate(
        {
            "model": str(MINILM),
            "data": str(Path(data).resolve()),
            "tasks": (case.task,),
            "seed": case.seed,
            "precision": precision,
            "adapter": {
                **{"method": "krona", "layers": places},
                **{"a_out": [8, 12, 16], "a_in": [8, 12, 16], "scale": [2, 4, 8]},
            },
            "training": {**training, "batch_size": case.batch_size, "dropout": 0.0},
            "schedule": {"epochs": case.epochs, "grace_epochs": 1, "reduction": 2},
            "examples": {"train": case.train_examples, "max_length": case.max_length},
            "search": {"trials": case.trials},
            "resources": {"max_concurrent": TRIALS_AT_ONCE},
        }
    )


def _layers(configuration: Configuration) -> str:
    return f"last {LAYERS - configuration.first_layer}" if configuration.first_layer else "all"


class Listed:
    """A sampler that proposes the configurations in their order and keeps nothing."""

    def __init__(self, case: Case) -> None:
        self._listed = case.configurations
        self._training = {"warmup": case.warmup, "batch_size": case.batch_size, "dropout": 0.0}

    def ask(self, trial_id: str, number: int) -> dict[str, Any]:
        listed = self._listed[number]
        sizes = {"a_out": listed.factor, "a_in": listed.factor, "scale": listed.scale, "layers": _layers(listed)}
        adapter = {"method": "krona", **sizes} if listed.factor else {"method": "head_only"}
        return {**adapter, "learning_rate": listed.learning_rate, **self._training}

    def origin(self, trial_id: str) -> Origin:
        return Origin()

    def report(self, trial_id: str, step: int, score: float) -> None: ...

    def tell(self, trial_id: str, status: Status, score: float | None) -> None: ...


def study(case: Case, data: str, precision: str, folder: StudyFolder) -> tuple[Ledger, float]:
    """Runs everything from the request to adapters, records and page; returns also the forecast seconds of a trial."""
    plan = make_plan(spec(case, data, precision), "benchmark")
    gathered = begin_study.gather_resources(plan, connecting(None))
    findings = run_preflight(gathered, folder, None)
    findings.refuse()
    assert findings.probe is not None, "nothing was foretold"
    foretold = timed_forecast(gathered, findings.probe).tasks[case.task]
    with claim(folder):
        started = begin_study.begin_study(gathered, folder, command="benchmark")
        mlflow = MlflowSink(
            MlflowStore(
                tracking_uri=folder.tracking_uri,
                study=folder.name,
                manifest=started.manifest,
                spec=dump_spec(plan.spec),
            )
        )
        sinks = FanOut([ParquetSink(folder.results), mlflow])
        ledger = Ledger(plan.count, sinks, [])
        _search(started, ledger, case)
        adapters = save_best_adapters(started, ledger.standings, sys.exit)
        sinks.study_ended([folder.spec, folder.manifest, write_report(folder), *adapters])
    return ledger, foretold.whole(foretold.adapter)


def _search(started: DriverContext, ledger: Ledger, case: Case) -> None:
    stopper = StudyStopper(Budget(), Amount)
    sampler: Any = Listed(case)
    numbers = list(range(case.trials))
    view = View(Console(), ledger, started.manifest.tasks, lambda trial_id: TrialProgress(), quiet=True)
    phase = Phase(
        searcher=StudySearcher(
            [], {case.task: sampler}, {case.task: numbers}, stopper.final_status, {case.task: case.seed}
        ),
        new=Counter(),
        works=started.prepared.works,
    )
    phase.searcher.gate = Gate(started.slots.count)
    tune_trials(
        phase,
        TrialLoop(ledger=ledger, stopper=stopper, changed=view.changed),
        workplace=started.workplace(started.folder),
        slots=started.slots,
        storage=started.folder.ray,
    )


def main(name: str, data: str, out: str, precision: str = "auto") -> None:
    """Runs the study and writes its measurements."""
    began = process_start()
    with tempfile.TemporaryDirectory() as storage:
        folder = StudyFolder(Path(storage) / "study")
        ledger, foretold = study(CASES[name], data, precision, folder)
        reports = read_reports(folder.results)
    ray.shutdown()
    rows = sorted(ledger.rows.values(), key=lambda row: row.number)
    if bad := [asdict(row) for row in rows if row.status != "completed"]:
        raise RuntimeError(str(bad))
    Side(
        scores=[[r.score for r in reports if r.trial_id == row.trial_id] for row in rows],
        trainable=[row.trainable_parameters for row in rows],
        first_trial_seconds=min(row.started_at for row in rows) - began,
        trial_seconds=[(row.ended_at or 0.0) - row.started_at for row in rows],
        foretold_seconds=foretold,
    ).write(Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
