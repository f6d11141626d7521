"""Tests that several studies put their runs into one experiment of MLflow, and that each still reads only its own."""

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from krona_tune.record.mlflow_mirror.mlflow_sink import MlflowSink, MlflowStore
from krona_tune.study.manifest import Manifest
from krona_tune.study.result import Status
from tests.record.conftest import SPEC
from tests.record.events import ended, manifest, report, started

TIMES = {"first-study": "2025-01-02T03:04:05+00:00", "second-study": "2025-01-03T03:04:05+00:00"}


def run_study(uri: str, study: str, experiment: str, scores: dict[int, float]) -> None:
    facts = facts_of(study)
    sink = MlflowSink(MlflowStore(tracking_uri=uri, study=study, manifest=facts, spec=SPEC, experiment=experiment))
    for number, score in scores.items():
        trial = started(number)
        sink.reported(report(trial, 0, score))
        sink.trial_ended(ended(trial, Status.COMPLETED, [report(trial, 0, score)]))
    sink.study_ended([])
    assert sink.unsent == 0


def facts_of(study: str) -> Manifest:
    return manifest("cola").model_copy(update={"name": study, "created_at": TIMES[study]})


def runs_of(uri: str, experiment: str) -> list[Run]:
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    return [] if found is None else list(client.search_runs([found.experiment_id]))


def names(runs: list[Run]) -> set[str]:
    return {str(run.info.run_name) for run in runs}


def test_two_studies_stand_in_one_table_and_a_second_session_adds_to_its_own_runs(tracking_uri: str) -> None:
    run_study(tracking_uri, "first-study", "all", {0: 0.25, 1: 0.5})
    run_study(tracking_uri, "second-study", "all", {0: 0.75})
    run_study(tracking_uri, "first-study", "all", {2: 0.625})
    runs = runs_of(tracking_uri, "all")
    of_first = {f"first-study/{name}" for name in ("cola", "cola-0000", "cola-0001", "cola-0002")}
    assert names(runs) == {*of_first, "second-study/cola", "second-study/cola-0000"}
    tasks = {run.info.run_name: run for run in runs if run.data.tags["krona.kind"] == "task"}
    assert tasks["first-study/cola"].data.metrics["trials"] == 3
    assert tasks["second-study/cola"].data.metrics["best_score"] == 0.75
    assert not runs_of(tracking_uri, "first-study")


def test_studies_that_began_in_the_same_second_are_apart(tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TIMES, "second-study", TIMES["first-study"])
    run_study(tracking_uri, "first-study", "all", {0: 0.25})
    run_study(tracking_uri, "second-study", "all", {0: 0.75})
    tasks = {run.info.run_name: run for run in runs_of(tracking_uri, "all") if run.data.tags["krona.kind"] == "task"}
    assert {name: run.data.metrics["best_score"] for name, run in tasks.items()} == {
        "first-study/cola": 0.25,
        "second-study/cola": 0.75,
    }


def test_a_persons_own_run_below_a_task_is_left_alone(tracking_uri: str) -> None:
    run_study(tracking_uri, "first-study", "", {0: 0.25})
    [task] = [run for run in runs_of(tracking_uri, "first-study") if run.info.run_name == "cola"]
    client, experiment = MlflowClient(tracking_uri), task.info.experiment_id
    client.create_run(experiment, tags={"mlflow.parentRunId": task.info.run_id}, run_name="mine")
    run_study(tracking_uri, "first-study", "", {1: 0.5})
    [task] = [run for run in runs_of(tracking_uri, "first-study") if run.info.run_name == "cola"]
    assert task.data.metrics["trials"] == 2


def test_an_experiment_of_one_study_is_not_shared_nor_a_shared_one_taken_for_a_study(tracking_uri: str) -> None:
    run_study(tracking_uri, "first-study", "", {0: 0.25})
    run_study(tracking_uri, "second-study", "first-study", {0: 0.75})
    assert names(runs_of(tracking_uri, "first-study")) == {"cola", "cola-0000"}
    assert names(runs_of(tracking_uri, "first-study (studies)")) == {"second-study/cola", "second-study/cola-0000"}
    run_study(tracking_uri, "first-study", "second-study", {0: 0.25})
    run_study(tracking_uri, "second-study", "", {0: 0.75})
    assert names(runs_of(tracking_uri, "second-study")) == {"first-study/cola", "first-study/cola-0000"}
    own = f"second-study ({TIMES['second-study']})"
    assert names(runs_of(tracking_uri, own)) == {"cola", "cola-0000"}


def test_an_experiment_that_a_person_made_takes_studies(tracking_uri: str) -> None:
    MlflowClient(tracking_uri).create_experiment("mine")
    run_study(tracking_uri, "first-study", "mine", {0: 0.25})
    assert names(runs_of(tracking_uri, "mine")) == {"first-study/cola", "first-study/cola-0000"}


def test_an_experiment_of_a_persons_own_runs_takes_studies_that_name_it(tracking_uri: str) -> None:
    client = MlflowClient(tracking_uri)
    client.create_run(client.create_experiment("mine"), run_name="by hand")
    run_study(tracking_uri, "first-study", "mine", {0: 0.25})
    assert names(runs_of(tracking_uri, "mine")) == {"by hand", "first-study/cola", "first-study/cola-0000"}


def test_a_deleted_experiment_is_restored_only_if_studies_shared_it(tracking_uri: str) -> None:
    client = MlflowClient(tracking_uri)
    foreign = client.create_experiment("theirs")
    client.delete_experiment(foreign)
    for experiment in ("theirs", "all"):
        run_study(tracking_uri, "first-study", experiment, {0: 0.25})
    ours = client.get_experiment_by_name("all").experiment_id
    client.delete_experiment(ours)
    run_study(tracking_uri, "second-study", "all", {0: 0.75})
    assert [client.get_experiment(each).lifecycle_stage for each in (foreign, ours)] == ["deleted", "active"]
    assert names(runs_of(tracking_uri, "theirs (studies)")) == {"first-study/cola", "first-study/cola-0000"}


@pytest.mark.parametrize(("scores", "searched"), [({0: 0.25, 1: 0.5}, "scale"), ({0: 0.25}, None)])
def test_a_tasks_run_says_which_knobs_were_searched(
    tracking_uri: str, scores: dict[int, float], searched: str | None
) -> None:
    run_study(tracking_uri, "first-study", "", scores)
    [task] = [run for run in runs_of(tracking_uri, "first-study") if run.info.run_name == "cola"]
    assert task.data.tags.get("krona.searched") == searched
    note = task.data.tags["mlflow.note.content"]
    assert ("Searched: scale." in note, "a_in 16, a_out 24" in note) == (searched is not None,) * 2
    lines = MlflowClient(tracking_uri).download_artifacts(task.info.run_id, "trials.csv")
    with open(lines, encoding="utf-8") as file:
        columns = file.readline().strip().split(",")
    assert (columns.index("a_out") > columns.index("train_loss")) == (searched is not None)
