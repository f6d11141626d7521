"""Tests that after a sync MLflow holds each record once, and that a second sync changes nothing."""

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from krona_tune.adapters.adapter_card import CARD, read_card
from krona_tune.record.mlflow_mirror.mlflow_sink import MlflowSink, MlflowStore, sync
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest
from tests.record.adapters import RUN_STATUSES, SCORES, happen, study_folder
from tests.record.conftest import SPEC
from tests.record.events import RUNGS, started
from tests.record.looking import changed_nothing, held


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return study_folder(tmp_path / "studies")


def sink_of(folder: StudyFolder, uri: str) -> MlflowSink:
    facts = read_manifest(folder.manifest)
    return MlflowSink(MlflowStore(tracking_uri=uri, study=folder.name, manifest=facts, spec=SPEC))


def test_an_empty_store_gets_everything_and_a_second_time_nothing(folder: StudyFolder, tracking_uri: str) -> None:
    outcome = sync(folder, tracking_uri)
    assert (outcome.trials, outcome.updated) == (len(SCORES), len(SCORES))
    first = held(tracking_uri)
    assert (first.statuses, first.scores) == (RUN_STATUSES, SCORES)
    assert changed_nothing(sync(folder, tracking_uri))
    assert held(tracking_uri).everything == first.everything


def test_the_scores_of_what_is_chosen_and_of_what_won_follow_a_new_choice(
    folder: StudyFolder, tracking_uri: str
) -> None:
    """First the second trial had won, and another one is chosen; then that one has won, too."""
    path, client = folder.adapter("cola") / CARD, MlflowClient(tracking_uri)
    card = read_card(path.parent).model_copy(update={"score": 0.75, "test_score": 0.625})

    def scores(winner: str) -> list[float]:
        path.write_text(card.model_copy(update={"winner": winner}).model_dump_json(), encoding="utf-8")
        sync(folder, tracking_uri)
        experiment = client.get_experiment_by_name(folder.name).experiment_id
        [task] = client.search_runs([experiment], "attributes.run_name = 'cola'")
        return [task.data.metrics[name] for name in ("chosen_score", "chosen_test_score", "winner_score")]

    assert scores("cola-0001") == [0.75, 0.625, SCORES["cola-0001"][RUNGS[1]]]
    assert scores("") == [0.75, 0.625, 0.75]


def test_what_was_mirrored_already_is_left_as_it_is(folder: StudyFolder, tracking_uri: str) -> None:
    sink = sink_of(folder, tracking_uri)
    happen(sink)
    sink.study_ended([folder.page, folder.adapter("cola")])
    first = held(tracking_uri)
    assert (first.statuses, first.scores) == (RUN_STATUSES, SCORES)
    assert changed_nothing(sync(folder, tracking_uri))
    assert held(tracking_uri).everything == first.everything


def test_a_mirror_that_was_cut_off_is_completed_and_what_it_left_running_is_closed(
    folder: StudyFolder, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = sink_of(folder, tracking_uri)
    happen(sink, range(2))
    sink.trial_started(started(2))
    monkeypatch.setattr("krona_tune.record.mlflow_mirror.mlflow_sink.MlflowStore.close", lambda store, artifacts: None)
    sink.study_ended([])
    monkeypatch.undo()
    assert held(tracking_uri).statuses == {**dict(list(RUN_STATUSES.items())[:2]), "cola-0002": "RUNNING"}
    assert sync(folder, tracking_uri).updated == 2
    after = held(tracking_uri)
    assert (after.statuses, after.scores) == (RUN_STATUSES, SCORES)
    assert {run[0]["status"] for name, run in after.everything.items() if name in {"cola", "rte"}} == {"FINISHED"}


def test_a_task_whose_run_was_deleted_gets_one_with_all_of_its_trials(folder: StudyFolder, tracking_uri: str) -> None:
    sync(folder, tracking_uri)
    client = MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name(folder.name).experiment_id

    def task() -> Run:
        [found] = client.search_runs([experiment], "attributes.run_name = 'cola'")
        return found

    before = task()
    client.delete_run(before.info.run_id)
    sync(folder, tracking_uri)
    assert task().data.metrics == before.data.metrics
    below = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{task().info.run_id}'")
    assert len(below) == before.data.metrics["trials"]


@pytest.mark.slow
def test_the_store_beside_the_study_is_made_whole_where_there_is_none(folder: StudyFolder) -> None:
    assert sync(folder).page is None
    assert held(folder.tracking_uri).scores == SCORES
    assert not [path for path in folder.root.parent.glob(".mlflow.db*") if path.suffix != ".lock"]


def test_a_servers_page_opens_as_model_training(folder: StudyFolder, tracking_uri: str) -> None:
    outcome = sync(folder, tracking_uri)
    page = type(outcome)(trials=1, updated=0, experiment_id="7", tracking_uri="http://host:5000/").page
    assert page == "http://host:5000/#/experiments/7/runs?workflowType=machine_learning"
