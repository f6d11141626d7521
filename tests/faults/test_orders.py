"""Tests orders to a real study: while it runs, while no driver runs it, and while its driver is killed."""

import signal
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from krona_tune.record.driver_state import read_driver_state
from krona_tune.record.orders import give_order, waiting_orders
from krona_tune.record.parquet_reader import read_orders, read_reports
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import Order, OrderRequest
from krona_tune.study.request.loader import load_spec
from krona_tune.study.result import Status
from tests.faults.drivers import ENDLESS, LONG, NO_HEAD, begun, rungs, running, seen, trainers_of, well_ended
from tests.waiting import until
from tests.whole_studies import ONE_WORKER, Home, WarmProgram, rows_of

pytestmark = pytest.mark.slow


def ordered(folder: StudyFolder, **asked: object) -> Order:
    """Gives an order and returns its row when it is done or refused; that of a clone when it is taken."""
    order = give_order(folder, OrderRequest(**asked), by="ann")
    found: list[Order] = []

    def answered() -> bool:
        found[:] = [each for each in read_orders(folder.results) if each.id == order.id]
        return bool(found) and (found[0].ended_at is not None or order.what == "clone_trial")

    until(answered)
    return found[0]


def reported_of(folder: StudyFolder, trials: list[str]) -> set[str]:
    return {report.trial_id for report in read_reports(folder.results)}.intersection(trials)


def test_a_running_study_takes_orders(home: Home, bert: Path, warm: WarmProgram) -> None:
    folder = home.study("steered")
    length = ("--set", "schedule.epochs=30")  # the clone is trained to its end
    driver = begun(home, bert, "steered", "cola", 3, *ENDLESS, *length, *NO_HEAD, "--max-concurrent", "2")
    stopped = seen(driver, lambda: rungs(folder) >= 3 and running(folder))[0]
    assert ordered(folder, what="stop_trial", trial=stopped).state == "done"
    assert rows_of(folder)[stopped].status is Status.STOPPED_BY_USER
    source = min(seen(driver, lambda: reported_of(folder, running(folder))))
    clone = ordered(folder, what="clone_trial", trial=source, settings=("learning_rate=0.0031",), from_last_rung=True)
    assert (clone.state, clone.made) == ("taken", "cola-clone-0"), clone
    assert ordered(folder, what="pause").state == "done"
    until(lambda: (state := read_driver_state(folder)) and state.paused)
    until(lambda: not trainers_of(home))
    before = rungs(folder)
    for row in running(folder):  # the rest ends soon
        assert ordered(folder, what="stop_trial", trial=row).state == "done"
    assert ordered(folder, what="trials", value="+1").outcome == "search.trials: 4"
    assert ordered(folder, what="max_concurrent", value="1").state == "done"
    assert rungs(folder) == before, "a paused study trained"
    assert ordered(folder, what="continue").state == "done"
    refused = ordered(folder, what="stop_trial", trial="cola-777")
    assert (refused.state, "unknown trial" in refused.outcome) == ("refused", True)
    until(lambda: running(folder) == ["cola-clone-0"])
    assert "from rung" in next(each.outcome for each in read_orders(folder.results) if each.id == clone.id)
    assert ordered(folder, what="stop").state == "done"
    said = well_ended(driver)
    assert "ann ended the search" in said
    assert load_spec(folder.spec).search.trials == 4
    assert not waiting_orders(folder)
    assert rows_of(folder)["cola-clone-0"].of == source
    assert "stopped by user" in folder.page.read_text(encoding="utf-8")
    _mlflow_says_all(folder)
    warm.run(home, "--resume", "steered")
    assert len([row for row in rows_of(folder).values() if row.kind == "search"]) < 5, "a stopped search went on"


def _mlflow_says_all(folder: StudyFolder) -> None:
    client = MlflowClient(folder.tracking_uri)
    experiment = client.get_experiment_by_name(folder.name)
    orders = read_orders(folder.results)
    said = {name.removeprefix("krona.order."): text for name, text in experiment.tags.items() if ".order." in name}
    assert said.keys() == {order.id for order in orders}
    for order in orders:
        assert order.state in said[order.id]


@pytest.mark.long
@pytest.mark.parametrize("moment", ["before the start", "after the row"])
def test_an_order_survives_its_driver(home: Home, bert: Path, warm: WarmProgram, moment: str) -> None:
    name = f"killed-{moment.replace(' ', '-')}"
    folder = home.study(name)
    driver = begun(home, bert, name, "cola", 2, *LONG, *ONE_WORKER)
    seen(driver, lambda: rungs(folder) >= 1 and rows_of(folder).get("cola-000"))
    clone = OrderRequest(what="clone_trial", trial="cola-000", settings=("learning_rate=0.0031",))
    if moment == "before the start":
        driver.send_signal(signal.SIGKILL)
        driver.communicate(timeout=60)
        give_order(folder, clone, by="ann")
    else:
        give_order(folder, clone, by="ann")
        seen(driver, lambda: read_orders(folder.results))
        driver.send_signal(signal.SIGKILL)
        driver.communicate(timeout=60)
    done = warm.run(home, "--resume", name)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = rows_of(folder)
    assert sorted(rows) == ["cola-000", "cola-001", "cola-clone-0", "cola-head-0"]
    assert rows["cola-clone-0"].params == {**rows["cola-000"].params, "learning_rate": 0.0031}
    assert Status.INTERRUPTED not in {row.status for row in rows.values()}
    (order,) = read_orders(folder.results)
    assert (order.state, order.made) == ("done", "cola-clone-0")
    assert not waiting_orders(folder)
