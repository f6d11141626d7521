"""Tests that orders are tags of a study's experiment and of the runs of the trials that they are about."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from krona_tune.record.mlflow_mirror.mlflow_sink import MlflowSink, MlflowStore, sync
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.records import Records
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import Order
from krona_tune.study.result import Status, TrialResult
from tests.record.conftest import SPEC
from tests.record.events import ended, manifest, report, started
from tests.record.looking import held

OpenSink = Callable[..., MlflowSink]

PARENT, CLONE = started(1), started(2)
TAKEN = Order(
    id="20261127T000000Z-abcdef123456",
    what="clone_trial",
    trial=PARENT.trial_id,
    settings=("training.learning_rate=0.001",),
    by="ann",
    given_at=1_700_000_000.0,
    state="taken",
)
DONE = TAKEN.model_copy(
    update={"state": "done", "outcome": "it is cola-0002", "made": CLONE.trial_id, "ended_at": 1_700_000_009.0}
)
PAUSE = Order(
    id="20261127T000001Z-abcdef123456", what="pause", by="bob", given_at=1_700_000_001.0, state="done", outcome="paused"
)
NAME = f"krona.order.{DONE.id}"
SAID = "ann: clone cola-0001 training.learning_rate=0.001: done: it is cola-0002"


def complete(trial: TrialResult) -> TrialResult:
    return ended(trial, Status.COMPLETED, [report(trial, 0, 0.5)])


def run(sink: MlflowSink, trial: TrialResult) -> None:
    sink.trial_started(trial)
    sink.reported(report(trial, 0, 0.5))
    sink.trial_ended(complete(trial))


def finish(sink: MlflowSink) -> None:
    sink.study_ended([])
    assert sink.unsent == 0


def experiment_tags(uri: str) -> dict[str, str]:
    tags = MlflowClient(uri, uri).get_experiment_by_name("first-study").tags
    return {name: value for name, value in tags.items() if name.startswith("krona.order.")}


def run_tags(uri: str) -> dict[str, dict[str, str]]:
    """Returns the orders that each trial's run names."""
    client = MlflowClient(uri, uri)
    runs = client.search_runs([client.get_experiment_by_name("first-study").experiment_id])
    tags = {run.info.run_name: run.data.tags for run in runs if "krona.trial_id" in run.data.tags}
    return {
        trial_id: {name: value for name, value in each.items() if name.startswith("krona.order.")}
        for trial_id, each in tags.items()
    }


@pytest.fixture
def sink_after(tracking_uri: str) -> Callable[[Records], MlflowSink]:
    """Returns a function that opens the sink of a study that is resumed with these records."""
    return lambda earlier: MlflowSink(
        MlflowStore(
            tracking_uri=tracking_uri, study="first-study", manifest=manifest("cola", "rte", synthetic=True), spec=SPEC
        ),
        earlier,
    )


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """Writes a finished study with two trials and two orders."""
    folder = StudyFolder(tmp_path / "studies" / "first-study")
    folder.root.mkdir(parents=True)
    folder.spec.write_text(SPEC, encoding="utf-8")
    manifest("cola", "rte", synthetic=True).write(folder.manifest)
    sink = ParquetSink(folder.results)
    for trial in (PARENT, CLONE):
        sink.trial_started(trial)
        sink.reported(report(trial, 0, 0.5))
        sink.trial_ended(complete(trial))
    for order in (TAKEN, DONE, PAUSE):
        sink.ordered(order)
    sink.study_ended([])
    return folder


def test_an_order_is_a_tag_of_the_experiment_and_of_the_trials_that_it_names(
    mlflow_sink: OpenSink, tracking_uri: str
) -> None:
    sink = mlflow_sink()
    run(sink, PARENT)
    sink.ordered(TAKEN)
    run(sink, CLONE)
    run(sink, started(3))
    sink.ordered(DONE)
    sink.ordered(PAUSE)
    finish(sink)
    assert experiment_tags(tracking_uri) == {NAME: SAID, f"krona.order.{PAUSE.id}": "bob: pause: done: paused"}
    assert run_tags(tracking_uri) == {"cola-0001": {NAME: SAID}, "cola-0002": {NAME: SAID}, "cola-0003": {}}


def test_a_trial_that_starts_after_the_order_gets_its_tag_too(mlflow_sink: OpenSink, tracking_uri: str) -> None:
    sink = mlflow_sink()
    sink.ordered(DONE)
    run(sink, CLONE)
    run(sink, PARENT)
    finish(sink)
    assert run_tags(tracking_uri) == {"cola-0001": {NAME: SAID}, "cola-0002": {NAME: SAID}}


def test_an_order_about_a_trial_that_never_was_is_a_tag_of_the_experiment(
    mlflow_sink: OpenSink, tracking_uri: str
) -> None:
    order = Order(id=PAUSE.id, what="stop_trial", trial="cola-0099", by="bob", state="refused", outcome="no such trial")
    sink = mlflow_sink()
    sink.ordered(order)
    finish(sink)
    assert experiment_tags(tracking_uri) == {
        f"krona.order.{order.id}": "bob: stop cola-0099: refused: no such trial",
    }
    assert run_tags(tracking_uri) == {}


def test_what_a_killed_driver_had_not_sent_of_its_orders_is_sent_when_the_study_goes_on(
    mlflow_sink: OpenSink, sink_after: Callable[[Records], MlflowSink], tracking_uri: str
) -> None:
    """The killed driver had sent the parent and that the order was taken, not the clone and the order's end."""
    killed = mlflow_sink()
    run(killed, PARENT)
    killed.ordered(TAKEN)
    finish(killed)
    assert run_tags(tracking_uri) == {"cola-0001": {NAME: SAID.partition(": done")[0] + ": taken"}}
    rows = (complete(PARENT), complete(CLONE))
    reports = (report(PARENT, 0, 0.5), report(CLONE, 0, 0.5))
    again = sink_after(Records(trials=rows, reports=reports, orders=(DONE, PAUSE)))
    run(again, started(3))
    finish(again)
    assert set(experiment_tags(tracking_uri)) == {NAME, f"krona.order.{PAUSE.id}"}
    assert run_tags(tracking_uri) == {"cola-0001": {NAME: SAID}, "cola-0002": {NAME: SAID}, "cola-0003": {}}


def test_a_run_that_lacks_an_order_of_its_experiment_gets_it_when_the_study_goes_on(
    mlflow_sink: OpenSink, sink_after: Callable[[Records], MlflowSink], tracking_uri: str
) -> None:
    killed = mlflow_sink()
    run(killed, PARENT)
    killed.ordered(DONE)
    finish(killed)
    rows = (complete(PARENT), complete(CLONE))
    again = sink_after(Records(trials=rows, reports=(report(CLONE, 0, 0.5),), orders=(DONE,)))
    run(again, started(3))
    finish(again)
    assert run_tags(tracking_uri) == {"cola-0001": {NAME: SAID}, "cola-0002": {NAME: SAID}, "cola-0003": {}}


def test_sync_sends_the_orders_once(folder: StudyFolder, tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sync(folder, tracking_uri).updated == 2
    first, tags = held(tracking_uri), experiment_tags(tracking_uri)
    assert tags == {NAME: SAID, f"krona.order.{PAUSE.id}": "bob: pause: done: paused"}
    assert run_tags(tracking_uri) == {"cola-0001": {NAME: SAID}, "cola-0002": {NAME: SAID}}
    sent: list[object] = []
    monkeypatch.setattr(MlflowStore, "send", lambda store, events: sent.append(events))
    assert sync(folder, tracking_uri).updated == 0
    assert sent == []
    assert (held(tracking_uri).everything, experiment_tags(tracking_uri)) == (first.everything, tags)


def test_sync_completes_the_runs_that_lack_an_order(folder: StudyFolder, tracking_uri: str) -> None:
    sync(folder, tracking_uri)
    client = MlflowClient(tracking_uri, tracking_uri)
    experiment = client.get_experiment_by_name("first-study").experiment_id
    [clone] = client.search_runs([experiment], f"tags.`krona.trial_id` = '{CLONE.trial_id}'")
    client.delete_tag(clone.info.run_id, NAME)
    sync(folder, tracking_uri)
    assert run_tags(tracking_uri) == {"cola-0001": {NAME: SAID}, "cola-0002": {NAME: SAID}}


def test_sending_an_order_again_changes_nothing(mlflow_sink: OpenSink, tracking_uri: str) -> None:
    sink = mlflow_sink()
    run(sink, PARENT)
    run(sink, CLONE)
    sink.ordered(DONE)
    finish(sink)
    first = (run_tags(tracking_uri), experiment_tags(tracking_uri))
    again = mlflow_sink()
    again.ordered(DONE)
    finish(again)
    assert (run_tags(tracking_uri), experiment_tags(tracking_uri)) == first
