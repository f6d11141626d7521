"""Reads what a tracking store holds of the study `first-study`, as plain values."""

from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from krona_tune.record.mlflow_mirror.mlflow_sink import SyncOutcome


@dataclass(frozen=True)
class Held:
    """Each trial's run status, its scores by step, and everything that a second sync could change."""

    statuses: dict[str, str]
    scores: dict[str, dict[int, float]]
    everything: dict[str, Any]


def held(uri: str) -> Held:
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.get_experiment_by_name("first-study")
    runs = list(client.search_runs([experiment.experiment_id]))
    assert len({run.info.run_name for run in runs}) == len(runs)
    trials = {run.info.run_name: run for run in runs if "krona.trial_id" in run.data.tags}
    scores = {name: _history(client, run, "score") for name, run in trials.items()}
    everything = {
        run.info.run_name: (
            dict(run.info),
            dict(run.data.params),
            dict(run.data.tags),
            {name: _history(client, run, name) for name in run.data.metrics},
            sorted(file.path for file in client.list_artifacts(run.info.run_id)),
        )
        for run in runs
    }
    versions = client.search_model_versions("name='first-study.cola'")
    everything["versions"] = [(str(found.version), dict(found.tags)) for found in versions]
    return Held({name: run.info.status for name, run in trials.items()}, scores, everything)


def _history(client: MlflowClient, run: Run, metric: str) -> dict[int, float]:
    points = client.get_metric_history(run.info.run_id, metric)
    found = {point.step: point.value for point in points}
    assert len(found) == len(points), f"{run.info.run_name}: {metric} stands twice"
    return found


def changed_nothing(outcome: SyncOutcome) -> bool:
    return outcome.updated == 0
