"""Tests a study with a real tracking server: what it gets, what it answers, and what happens if it is down."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

import krona_tune
from krona_tune.record import background
from krona_tune.record.mlflow_mirror.mlflow_sink import MlflowSink, MlflowStore, artifacts_of, sync
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.sink import FanOut
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest
from tests.record.adapters import RUN_STATUSES, SCORES, happen, study_folder
from tests.record.looking import changed_nothing, held
from tests.services.conftest import Server, fresh
from tests.services.processes import Postgres
from tests.waiting import until

pytestmark = pytest.mark.slow
SENTENCES = ["the old dog sleeps", "dog the sleeps old"]
ASK = """
import json, sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
print(json.dumps(mlflow.pyfunc.load_model("models:/first-study.cola@winner").predict(json.loads(sys.argv[2]))))
"""


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """Returns a study that has not recorded anything yet."""
    return study_folder(tmp_path / "studies", records=False)


def sinks(folder: StudyFolder, uri: str) -> FanOut:
    mirror = MlflowSink(
        MlflowStore(
            tracking_uri=uri,
            study=folder.name,
            manifest=read_manifest(folder.manifest),
            spec="model: tiny\n",
            storage=folder.storage,
        )
    )
    return FanOut([ParquetSink(folder.results), mirror])


def complete(uri: str) -> bool:
    found = held(uri)
    return (found.statuses, found.scores) == (RUN_STATUSES, SCORES)


def test_a_server_has_runs_artifacts_and_a_model_that_another_process_asks(
    server: Server, folder: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    with server.up() as uri:
        study = sinks(folder, uri)
        happen(study)
        study.study_ended(artifacts_of(folder))
        assert not study.failures
        assert not capsys.readouterr().out
        assert complete(uri)
        client = MlflowClient(uri, uri)
        experiment = client.get_experiment_by_name("first-study")
        assert experiment.artifact_location.startswith("mlflow-artifacts:")
        assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
        [parent] = client.search_runs([experiment.experiment_id], "attributes.run_name = 'cola'")
        kept = {file.path for file in client.list_artifacts(parent.info.run_id)}
        assert kept == {"study.yaml", "manifest.json", "report.html", "trials.csv", "adapter"}
        command = [sys.executable, "-c", ASK, uri, json.dumps(SENTENCES)]
        asked = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder.root.parent)
        assert json.loads(asked.stdout) == krona_tune.predict(folder.adapter("cola"), SENTENCES)
        before = held(uri).everything
        assert changed_nothing(sync(folder, uri))
        assert held(uri).everything == before


@pytest.mark.long
def test_a_server_that_is_away_from_the_start_costs_a_warning_and_a_sync(
    server: Server, folder: StudyFolder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "DRAIN_SECONDS", 5.0)
    with caplog.at_level(logging.WARNING):
        study = sinks(folder, server.uri)
        happen(study)
        study.study_ended(artifacts_of(folder))
    assert "the study continues" in caplog.text
    assert "krona-tune sync sends them" in caplog.text
    with server.up() as uri:
        assert sync(folder, uri).updated == len(SCORES)
        assert complete(uri)


@pytest.mark.long
def test_a_server_that_dies_in_the_middle_is_given_the_rest_by_a_sync(
    server: Server, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "DRAIN_SECONDS", 5.0)
    with server.up() as uri:
        study = sinks(folder, uri)
        happen(study, range(2))
        until(lambda: _has_two(uri))
    happen(study, range(2, len(SCORES)))
    study.study_ended(artifacts_of(folder))
    with server.up() as uri:
        assert set(held(uri).statuses) == {"cola-0000", "cola-0001"}
        assert sync(folder, uri).updated == 2
        assert complete(uri)
        assert changed_nothing(sync(folder, uri))


def test_a_database_that_is_restarted_costs_a_warning(
    database: Postgres, folder: StudyFolder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every connection is cut, and the database does not answer while trials end."""
    elsewhere = folder.root.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    uri = fresh(database.address, "restarted")
    with caplog.at_level(logging.WARNING):
        study = sinks(folder, uri)
        happen(study, range(2))
        until(lambda: _has_two(uri))
        database.stop("immediate")
        happen(study, range(2, len(SCORES)))
        until(lambda: "the study continues" in caplog.text)
        database.start()
        study.study_ended(artifacts_of(folder))
    sync(folder, uri)
    assert complete(uri)
    assert changed_nothing(sync(folder, uri))
    assert list(elsewhere.iterdir()) == []


def _has_two(uri: str) -> bool:
    found = MlflowClient(uri).get_experiment_by_name("first-study")
    return found is not None and list(held(uri).statuses.values()) == ["FINISHED", "FINISHED"]
