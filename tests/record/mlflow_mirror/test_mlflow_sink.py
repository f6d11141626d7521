"""Tests what MLflow holds: an experiment, a parent run per task, a child run per trial, and nothing twice."""

import csv
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from krona_tune.record import background
from krona_tune.record.background import NotSentError
from krona_tune.record.mlflow_mirror.mlflow_names import task_metrics, trial_line
from krona_tune.record.mlflow_mirror.mlflow_sink import MlflowSink, MlflowStore
from krona_tune.record.records import Records
from krona_tune.study.result import Report, Status
from tests.adapters.cards import made
from tests.record.conftest import SPEC
from tests.record.events import RUNGS, curve, ended, manifest, report, started
from tests.waiting import until

OpenSink = Callable[[], MlflowSink]


class Store:
    """Reads one experiment from the store."""

    def __init__(self, uri: str) -> None:
        self.client = MlflowClient(uri)
        self.experiment = self.client.get_experiment_by_name("first-study")

    def runs(self) -> list[Run]:
        return list(self.client.search_runs([self.experiment.experiment_id]))

    def parent(self, task: str) -> Run:
        [run] = [run for run in self.runs() if run.info.run_name == task]
        return run

    def child(self, trial_id: str) -> Run:
        [run] = [run for run in self.runs() if run.data.tags.get("krona.trial_id") == trial_id]
        return run

    def artifact(self, run: Run, path: str) -> str:
        return Path(self.client.download_artifacts(run.info.run_id, path)).read_text(encoding="utf-8")

    def history(self, run: Run, metric: str) -> list[tuple[int, float]]:
        points = self.client.get_metric_history(run.info.run_id, metric)
        return sorted((point.step, point.value) for point in points)


def test_a_trial_is_a_child_of_its_task(mlflow_sink: OpenSink, tracking_uri: str) -> None:
    trial = started(3, layer_norms=True)
    reports = [report(trial, 0, 0.25), report(trial, 1, 0.5)]
    sink = mlflow_sink()
    sink.trial_started(trial)
    for each in reports:
        sink.reported(each)
    sink.trial_ended(ended(trial, Status.STOPPED_EARLY, reports))
    sink.study_ended([])
    store = Store(tracking_uri)
    parent, child = store.parent("cola"), store.child("cola-0003")
    assert store.experiment.tags["krona.study"] == "first-study"
    assert (parent.info.status, child.info.status) == ("FINISHED", "FINISHED")
    assert child.info.run_name == "cola-0003"
    tags = {name: value for name, value in child.data.tags.items() if name.startswith(("krona.", "mlflow.parent"))}
    assert tags == {
        "krona.study": "first-study",
        "krona.task": "cola",
        "krona.trial_id": "cola-0003",
        "krona.status": "stopped_early",
        "krona.kind": "search",
        "krona.method": "krona",
        "krona.synthetic": "true",
        "krona.fingerprint": trial.fingerprint,
        "mlflow.parentRunId": parent.info.run_id,
    }
    expected = {"task": "cola", "seed": 10, **trial.params}
    assert child.data.params == {name: str(value) for name, value in expected.items()}
    assert store.history(child, "score") == [(RUNGS[0], 0.25), (RUNGS[1], 0.5)]
    assert store.history(child, "metric_matthews") == [(RUNGS[0], 0.25), (RUNGS[1], 0.5)]
    assert store.history(child, "train_loss") == [(RUNGS[0], 0.7), (RUNGS[1], 0.6)]
    at_the_end = {
        "trainable_parameters": 2003,
        "trainable_percent": 0.01,
        "train_seconds": 5.0,
        "evaluation_seconds": 0.5,
        "peak_memory_bytes": 1_000_003,
        "epochs": 3.0,
    }
    for name, value in at_the_end.items():
        assert store.history(child, name) == [(RUNGS[1], value)]


def test_every_run_says_which_data_it_used(mlflow_sink: OpenSink, tracking_uri: str) -> None:
    sink = mlflow_sink()
    sink.trial_started(started(3))
    sink.study_ended([])
    store, facts = Store(tracking_uri), manifest("cola").tasks["cola"]
    for run in (store.parent("cola"), store.child("cola-0003")):
        [used] = run.inputs.dataset_inputs
        assert (used.dataset.name, used.dataset.digest) == (facts.title, facts.fingerprint[:16])
        assert json.loads(used.dataset.profile)["train_examples"] == facts.train_examples
        assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "training")]


@pytest.mark.parametrize(
    ("status", "run_status"),
    [
        (Status.COMPLETED, "FINISHED"),
        (Status.STOPPED_EARLY, "FINISHED"),
        (Status.DIVERGED, "FAILED"),
        (Status.OUT_OF_MEMORY, "FAILED"),
        (Status.FAILED, "FAILED"),
        (Status.INTERRUPTED, "KILLED"),
    ],
)
def test_a_run_ends_as_its_trial_did(mlflow_sink: OpenSink, tracking_uri: str, status: Status, run_status: str) -> None:
    sink = mlflow_sink()
    sink.trial_started(started(0))
    sink.trial_ended(ended(started(0), status, [], error="went wrong"))
    sink.study_ended([])
    child = Store(tracking_uri).child("cola-0000")
    assert (child.info.status, child.data.tags["krona.error"]) == (run_status, "went wrong")


def test_a_finalist_is_a_run_that_tells_what_it_repeats_and_its_test_scores(
    mlflow_sink: OpenSink, tracking_uri: str
) -> None:
    trial = replace(started(2, kind="finalist"), of="cola-0001")
    sink = mlflow_sink()
    sink.reported(report(trial, 1, 0.9))
    done = ended(trial, Status.COMPLETED, [report(trial, 1, 0.9)])
    sink.trial_ended(replace(done, test_score=0.375, test_metrics={"matthews": 0.375}, test_resampled=(0.25, 0.5)))
    sink.study_ended([])
    store = Store(tracking_uri)
    child, parent = store.child("cola-0002"), store.parent("cola")
    assert (child.data.tags["krona.kind"], child.data.tags["krona.of"]) == ("finalist", "cola-0001")
    assert store.history(child, "test_score") == [(RUNGS[1], 0.375)]
    assert store.history(child, "test_metric_matthews") == [(RUNGS[1], 0.375)]
    assert "test_resampled" not in child.data.metrics
    assert "best_score" not in parent.data.metrics


def test_a_trial_that_never_ended_is_killed(mlflow_sink: OpenSink, tracking_uri: str) -> None:
    sink = mlflow_sink()
    sink.trial_started(started(0))
    sink.study_ended([])
    assert Store(tracking_uri).child("cola-0000").info.status == "KILLED"


def test_artifacts_stand_with_the_tasks_that_they_concern(
    mlflow_sink: OpenSink, tracking_uri: str, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    page.write_text("<p>page</p>")
    adapters = [tmp_path / "adapters" / name for name in ("rte", "rte-winner")]
    for adapter in adapters:
        adapter.mkdir(parents=True)
        (adapter / "adapter.json").write_text(f'["{adapter.name}"]')
    sink = mlflow_sink()
    for number, score in enumerate((0.25, 0.75, 0.5)):
        trial = started(number)
        sink.reported(report(trial, 0, score))
        sink.trial_ended(ended(trial, Status.COMPLETED, [report(trial, 0, score)]))
    sink.study_ended([page, *adapters, tmp_path / "not there"])
    store = Store(tracking_uri)
    cola, rte = store.parent("cola"), store.parent("rte")
    for parent in (cola, rte):
        assert store.artifact(parent, "study.yaml") == SPEC
        assert '"name": "first-study"' in store.artifact(parent, "manifest.json")
        assert store.artifact(parent, "report.html") == "<p>page</p>"
    assert store.artifact(rte, "adapter/adapter.json") == '["rte"]', "what is chosen"
    assert store.artifact(rte, "adapter-winner/adapter.json") == '["rte-winner"]'
    assert not {"adapter", "adapter-winner"} & {file.path for file in store.client.list_artifacts(cola.info.run_id)}
    labels = ("entailment", "not_entailment")
    cards = [made(task="rte", labels=labels, winner=winner).model_dump_json() for winner in ("rte-007", "")]
    for card, kept in zip(cards, ('["rte-winner"]', cards[1]), strict=True):
        (adapters[0] / "adapter.json").write_text(card)
        mlflow_sink().study_ended([page, adapters[0]])
        assert store.artifact(rte, "adapter-winner/adapter.json") == kept, "what has won by now, if that is known"
    lines = list(csv.DictReader(store.artifact(cola, "trials.csv").splitlines()))
    assert [(line["trial_id"], line["score"]) for line in lines] == [
        ("cola-0001", "0.75"),
        ("cola-0002", "0.5"),
        ("cola-0000", "0.25"),
    ]
    assert cola.data.metrics["best_score"] == 0.75
    assert cola.data.metrics["trials"] == 3
    rising = store.client.get_metric_history(cola.info.run_id, "best_so_far")
    assert [(point.step, point.value) for point in rising] == [(1, 0.25), (2, 0.75), (3, 0.75)]
    assert rte.data.metrics["constant_score"] == 0.55


def test_where_curves_teach_the_best_is_one_that_was_trained_to_its_end() -> None:
    tags = {"krona.kind": "search", "krona.proposed_by": "recorded curves"}
    runs = [("stopped_early", 0.7), ("completed", 0.66), ("completed", 0.6)]
    lines = [trial_line({**tags, "krona.trial_id": str(n), "krona.status": status}, {}, {"score": score})
             for n, (status, score) in enumerate(runs)]  # fmt: skip
    assert task_metrics(lines, None)["best_score"] == 0.66
    assert task_metrics(lines[:1], None)["best_score"] == 0.7


def test_the_best_so_far_ends_at_the_best_also_where_curves_teach(mlflow_sink: OpenSink, tracking_uri: str) -> None:
    for number, (status, score) in enumerate([(Status.STOPPED_EARLY, 0.75), (Status.COMPLETED, 0.5)]):
        sink = mlflow_sink()  # an interrupted study ends twice
        trial = started(number)
        sink.reported(report(trial, 0, score))
        row = ended(trial, status, [report(trial, 0, score)])
        sink.trial_ended(replace(row, proposed_by="recorded curves"))
        sink.study_ended([])
        told = Store(tracking_uri).parent("cola").data.metrics
        assert told["best_so_far"] == told["best_score"] == score


def test_a_tasks_run_tells_the_best_scores_and_the_experiment_opens_as_model_training(
    mlflow_sink: OpenSink, tracking_uri: str
) -> None:
    sink = mlflow_sink()
    for trial, score in ((started(0), 0.5), (started(1), 0.75), (started(2, kind="baseline"), 0.125)):
        sink.reported(report(trial, 0, score))
        sink.trial_ended(ended(trial, Status.COMPLETED, [report(trial, 0, score)]))
    sink.study_ended([])
    store = Store(tracking_uri)
    parent = store.parent("cola")
    assert store.experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    expected = {"trials": 3, "best_score": 0.75, "best_so_far": 0.75, "head_only_score": 0.125, "constant_score": 0.0}
    assert parent.data.metrics == expected
    assert "| best score | 0.75 |" in parent.data.tags["mlflow.note.content"]
    assert parent.data.tags["mlflow.source.name"] == "krona_tune"


def test_a_resumed_study_reopens_its_runs(mlflow_sink: OpenSink, tracking_uri: str) -> None:
    trial = started(0)
    for score in (0.25, 0.5):
        sink = mlflow_sink()
        sink.trial_started(trial)
        sink.reported(report(trial, 1, score))
        sink.study_ended([])
    before = {run.info.run_id for run in Store(tracking_uri).runs()}
    sink = mlflow_sink()
    sink.trial_ended(ended(trial, Status.COMPLETED, [report(trial, 1, 0.5)]))
    sink.study_ended([])
    store = Store(tracking_uri)
    assert {run.info.run_id for run in store.runs()} == before
    assert len(before) == 3
    assert store.child("cola-0000").info.status == "FINISHED"
    assert store.child("cola-0000").data.metrics["score"] == 0.5
    assert store.parent("cola").data.metrics["trials"] == 1


def test_another_study_of_the_same_name_gets_an_experiment_of_its_own(mlflow_sink: OpenSink, tracking_uri: str) -> None:
    first = mlflow_sink()
    first.trial_started(started(0))
    first.study_ended([])
    later = manifest("cola", "rte", synthetic=True).model_copy(update={"created_at": "2031-01-01T00:00:00+00:00"})
    for _ in range(2):
        other = MlflowSink(
            MlflowStore(tracking_uri=tracking_uri, study="first-study", manifest=later, spec="model: x\n")
        )
        other.trial_started(started(0))
        other.study_ended([])
    names = {e.name for e in MlflowClient(tracking_uri).search_experiments()} - {"Default", "none"}
    assert names == {"first-study", "first-study (2031-01-01T00:00:00+00:00)"}


def test_an_experiment_that_was_there_before_is_the_first_studys_alone(
    mlflow_sink: OpenSink, tracking_uri: str
) -> None:
    client = MlflowClient(tracking_uri)
    given = client.create_experiment("first-study")
    first = mlflow_sink()
    first.trial_started(started(0))
    first.study_ended([])
    later = manifest("cola", "rte", synthetic=True).model_copy(update={"created_at": "2031-01-01T00:00:00+00:00"})
    other = MlflowSink(MlflowStore(tracking_uri=tracking_uri, study="first-study", manifest=later, spec="model: x\n"))
    other.trial_started(started(0))
    other.study_ended([])
    assert {run.info.run_name for run in client.search_runs([given])} >= {"cola", "cola-0000"}
    own = client.get_experiment_by_name("first-study (2031-01-01T00:00:00+00:00)")
    assert len(client.search_runs([given])) == len(client.search_runs([own.experiment_id]))


@pytest.mark.parametrize(
    ("runs", "deleted"), [(1, "nothing"), (1, "the runs"), (1, "the experiment"), (0, "the experiment")]
)
def test_an_experiment_that_somebody_else_filled_or_deleted_is_left_as_it_is(
    mlflow_sink: OpenSink, tracking_uri: str, runs: int, deleted: str
) -> None:
    client = MlflowClient(tracking_uri)
    foreign = client.create_experiment("first-study")
    theirs = [client.create_run(foreign).info.run_id for _ in range(runs)]
    for run_id in theirs if deleted == "the runs" else []:
        client.delete_run(run_id)
    if deleted == "the experiment":
        client.delete_experiment(foreign)
    before = client.get_experiment(foreign)
    for number in range(2):
        sink = mlflow_sink()
        sink.trial_started(started(number))
        sink.study_ended([])
    after = client.get_experiment(foreign)
    assert (after.tags, after.lifecycle_stage) == (before.tags, before.lifecycle_stage)
    assert [run.info.run_id for run in client.search_runs([foreign], run_view_type=ViewType.ALL)] == theirs
    [own] = [each for each in client.search_experiments() if each.name.startswith("first-study (")]
    names = {run.info.run_name for run in client.search_runs([own.experiment_id])}
    assert names == {"cola", "rte", "cola-0000", "cola-0001"}


def test_a_study_keeps_its_experiment_from_before_experiments_said_when_it_began(
    mlflow_sink: OpenSink, tracking_uri: str
) -> None:
    client = MlflowClient(tracking_uri)
    own = client.create_experiment("first-study", tags={"krona.study": "first-study"})
    client.create_run(own, run_name="cola", tags={"krona.kind": "task", "krona.task": "cola"})
    sink = mlflow_sink()
    sink.trial_started(started(0))
    sink.study_ended([])
    assert {run.info.run_name for run in client.search_runs([own])} == {"cola", "rte", "cola-0000"}


@pytest.mark.parametrize("deleted", [False, True])
def test_a_renamed_experiment_goes_on_under_its_new_name(
    mlflow_sink: OpenSink, tracking_uri: str, deleted: bool
) -> None:
    client = MlflowClient(tracking_uri)
    for number in range(2):
        sink = mlflow_sink()
        sink.trial_started(started(number))
        sink.study_ended([])
        if not number:
            own = client.get_experiment_by_name("first-study").experiment_id
            client.rename_experiment(own, "glue, second try")
            if deleted:
                client.delete_experiment(own)
    names = {each.name for each in client.search_experiments(ViewType.ALL)} - {"Default", "none"}
    assert names == {"glue, second try"}
    assert {run.info.run_name for run in client.search_runs([own])} == {"cola", "rte", "cola-0000", "cola-0001"}


def test_of_two_experiments_of_a_study_that_which_is_not_deleted_goes_on(
    mlflow_sink: OpenSink, tracking_uri: str
) -> None:
    client = MlflowClient(tracking_uri)
    tags = {"krona.study": "first-study", "krona.begun": manifest("cola").created_at}
    kept, deleted = (client.create_experiment(name, tags=tags) for name in ("renamed", "first-study"))
    other = client.create_experiment("another study", tags={**tags, "krona.study": "second-study"})
    client.delete_experiment(deleted)
    sink = mlflow_sink()
    sink.trial_started(started(0))
    sink.study_ended([])
    assert client.get_experiment(deleted).lifecycle_stage == "deleted"
    assert [len(client.search_runs([each])) for each in (kept, other)] == [3, 0]


def test_a_run_of_ours_is_running_while_its_trial_runs(mlflow_sink: OpenSink, tracking_uri: str) -> None:
    sink = mlflow_sink()
    sink.trial_started(started(0))
    until(lambda: not sink.unsent)
    store = Store(tracking_uri)
    assert (store.child("cola-0000").info.status, store.parent("cola").info.status) == ("RUNNING", "RUNNING")
    sink.study_ended([])


def test_neither_an_active_run_nor_the_environment_interferes(
    mlflow_sink: OpenSink, tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = MlflowClient(tracking_uri)
    experiment = elsewhere.create_experiment("elsewhere", (tmp_path / "elsewhere").as_uri())
    foreign = elsewhere.create_run(experiment)
    monkeypatch.setenv("MLFLOW_RUN_ID", foreign.info.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    with mlflow.start_run():
        sink = mlflow_sink()
        sink.trial_ended(ended(started(0), Status.COMPLETED, [report(started(0), 0, 0.5)]))
        sink.study_ended([])
    assert elsewhere.get_run(foreign.info.run_id).data.metrics == {}
    assert Store(tracking_uri).child("cola-0000").data.metrics["score"] == 0.5


def test_an_unknown_task_gets_a_run_of_its_own(mlflow_sink: OpenSink, tracking_uri: str) -> None:
    sink = mlflow_sink()
    sink.trial_started(started(0, "wnli"))
    sink.study_ended([])
    assert Store(tracking_uri).parent("wnli").data.tags["krona.synthetic"] == "false"


def test_reports_wait_for_no_store(mlflow_sink: OpenSink, monkeypatch: pytest.MonkeyPatch) -> None:
    answers, open_store = threading.Event(), MlflowStore.open

    def open_late(store: MlflowStore) -> None:
        answers.wait()
        open_store(store)

    monkeypatch.setattr(MlflowStore, "open", open_late)
    sink = mlflow_sink()
    trial = started(0)
    for _ in range(200):
        sink.reported(report(trial, 0, 0.5))
    assert sink.unsent == 200
    answers.set()
    sink.study_ended([])
    assert sink.unsent == 0


def test_more_metrics_than_a_batch_takes_are_all_kept(mlflow_sink: OpenSink, tracking_uri: str) -> None:
    trial = started(0)
    sink = mlflow_sink()
    for number in range(400):
        sink.reported(replace(report(trial, 0, number / 400), examples=number))
    sink.study_ended([])
    store = Store(tracking_uri)
    assert [step for step, _ in store.history(store.child("cola-0000"), "score")] == list(range(400))


def test_a_training_curve_is_logged_once_also_after_a_restart_and_up_to_a_divergence(tracking_uri: str) -> None:
    """The first driver is killed before MLflow has the second report; the second session sees the trial diverge."""
    trial = started(0)
    first = replace(report(trial, 0, 0.25), curve=curve(0.9, 0.7))
    second = replace(report(trial, 1, 0.5), curve=curve(0.6, 0.5, after=RUNGS[0], to=RUNGS[1]))
    after = ended(trial, Status.DIVERGED, [first, second], "Diverged: the training loss is inf")
    row = replace(after, curve=curve(0.8, 7.5, after=RUNGS[1], to=RUNGS[2]))

    def sink(*earlier: Report) -> MlflowSink:
        return MlflowSink(
            MlflowStore(tracking_uri=tracking_uri, study="first-study", manifest=manifest("cola"), spec=SPEC),
            Records(trials=(trial,) * bool(earlier), reports=earlier),
        )

    killed = sink()
    killed.trial_started(trial)
    killed.reported(first)
    killed.study_ended([])
    again = sink(first, second)
    again.trial_started(trial)
    again.trial_ended(row)
    again.study_ended([])
    sink(first, second).study_ended([])
    store = Store(tracking_uri)
    points = (*first.curve, *second.curve, *row.curve)
    child = store.child("cola-0000")
    assert store.history(child, "train_loss") == [(point.examples, point.loss) for point in points]
    assert store.history(child, "learning_rate") == [(point.examples, point.learning_rate) for point in points]
    [line] = csv.DictReader(store.artifact(store.parent("cola"), "trials.csv").splitlines())
    assert line["learning_rate"] == str(trial.params["learning_rate"]), "the table has the knob, not the curve's end"
    assert line["train_loss"] == "7.5"


def test_what_a_killed_driver_had_not_sent_is_sent_when_the_study_goes_on(tracking_uri: str) -> None:
    """Trial 0 had ended, trial 1 is resumed; MLflow lacks the last rung of both."""
    done, cut = started(0), started(1)
    reports = [report(done, 0, 0.25), report(done, 1, 0.5), report(cut, 0, 0.75)]
    row = ended(done, Status.COMPLETED, reports[:2])

    def sink(earlier: Records) -> MlflowSink:
        return MlflowSink(
            MlflowStore(tracking_uri=tracking_uri, study="first-study", manifest=manifest("cola"), spec=SPEC), earlier
        )

    first = sink(Records())
    first.trial_started(done)
    first.reported(reports[0])
    first.study_ended([])
    again = sink(Records(trials=(row, cut), reports=tuple(reports)))
    again.trial_started(cut)
    again.reported(report(cut, 1, 0.875))
    again.trial_ended(ended(cut, Status.COMPLETED, [reports[2], report(cut, 1, 0.875)]))
    again.study_ended([])
    store = Store(tracking_uri)
    assert store.history(store.child("cola-0000"), "score") == [(RUNGS[0], 0.25), (RUNGS[1], 0.5)]
    assert store.history(store.child("cola-0001"), "score") == [(RUNGS[0], 0.75), (RUNGS[1], 0.875)]
    assert [store.child(f"cola-000{number}").data.tags["krona.status"] for number in (0, 1)] == ["completed"] * 2
    assert [store.child(f"cola-000{number}").info.status for number in (0, 1)] == ["FINISHED"] * 2


@pytest.mark.slow
def test_a_server_that_is_not_there_only_warns(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "DRAIN_SECONDS", 3.0)
    with caplog.at_level(logging.WARNING, "krona_tune"):
        sink = MlflowSink(
            MlflowStore(tracking_uri="http://127.0.0.1:9", study="first-study", manifest=manifest("cola"), spec=SPEC)
        )
        sink.trial_started(started(0))
        sink.reported(report(started(0), 0, 0.5))
        with pytest.raises(NotSentError, match=r"MLflow at http://127.0.0.1:9 lacks 2 of 2 events \(ConnectionError: "):
            sink.study_ended([])
    assert sink.unsent == 2
    assert "http://127.0.0.1:9 does not answer" in caplog.text


def test_a_trial_that_goes_on_after_an_error_loses_it_in_its_run(mlflow_sink: OpenSink, tracking_uri: str) -> None:
    trial, error = started(1), "the state of cola-0001 could not be kept: No space left on device"
    first, second = report(trial, 0, 0.25), report(trial, 1, 0.5)
    for begun, reports, status in ((trial, [first], Status.INTERRUPTED), (trial, [first, second], Status.COMPLETED)):
        sink = mlflow_sink()
        sink.trial_started(begun)
        sink.reported(reports[-1])
        row = ended(begun, status, reports)
        sink.trial_ended(replace(row, error=error if status is Status.INTERRUPTED else ""))
        sink.study_ended([])
        told = Store(tracking_uri).child("cola-0001").data.tags
        assert told.get("krona.error") == (error if status is Status.INTERRUPTED else "")


def test_a_trial_that_goes_on_within_a_session_loses_its_error_too(mlflow_sink: OpenSink, tracking_uri: str) -> None:
    sink, trial = mlflow_sink(), started(1)
    sink.trial_started(trial)
    sink.trial_ended(ended(trial, Status.FAILED, [], error="the disk was full"))
    sink.trial_started(trial)
    sink.trial_ended(ended(trial, Status.COMPLETED, [report(trial, 0, 0.5)]))
    sink.study_ended([])
    run = Store(tracking_uri).child("cola-0001")
    assert (run.info.status, run.data.tags.get("krona.error") or "") == ("FINISHED", "")


def test_a_run_of_another_trial_with_the_same_id_gives_way(mlflow_sink: OpenSink, tracking_uri: str) -> None:
    """The machine of a study with a bucket was lost, and what it had sent to MLflow was not in the bucket yet."""
    lost, again = started(1), replace(started(1), fingerprint="another", params={**started(1).params, "scale": 9.5})
    for trial, score in ((lost, 0.25), (again, 0.75)):
        sink = mlflow_sink()
        sink.trial_started(trial)
        sink.reported(report(trial, 0, score))
        sink.trial_ended(ended(trial, Status.COMPLETED, [report(trial, 0, score)]))
        sink.study_ended([])
    run = Store(tracking_uri).child("cola-0001")
    assert (run.data.tags["krona.fingerprint"], run.data.params["scale"]) == ("another", "9.5")
    assert Store(tracking_uri).history(run, "score") == [(RUNGS[0], 0.75)]
