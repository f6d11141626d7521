"""Tests the command that gives orders: what it asks of the driver, what it refuses itself, and what it then says."""

from pathlib import Path
from threading import Thread
from time import sleep

import pytest
from filelock import FileLock

from krona_tune import cli
from krona_tune.record.orders import waiting_orders
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import OrderRequest
from tests.conftest import Run

STUDY = ("order", "mine", "--storage", "studies")


@pytest.fixture
def study(run: Run, tmp_path: Path) -> StudyFolder:
    folder = StudyFolder(tmp_path / "here" / "studies" / "mine")
    folder.results.mkdir(parents=True)
    folder.spec.write_text("model: m\nname: mine\n")
    return folder


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        (("stop",), OrderRequest(what="stop")),
        (("stop", "cola-003"), OrderRequest(what="stop_trial", trial="cola-003")),
        (
            ("clone", "cola-003", "--set", "training.learning_rate=0.001", "--set", "scale=2", "--from-last-rung"),
            OrderRequest(
                what="clone_trial",
                trial="cola-003",
                settings=("training.learning_rate=0.001", "scale=2"),
                from_last_rung=True,
            ),
        ),
        (("pause",), OrderRequest(what="pause")),
        (("continue",), OrderRequest(what="continue")),
        (("cancel",), OrderRequest(what="cancel")),
        (("trials", "+20"), OrderRequest(what="trials", value="+20")),
        (("max-concurrent", "4"), OrderRequest(what="max_concurrent", value="4")),
        (("time-budget", "2h"), OrderRequest(what="time_budget", value="2h")),
    ],
)
def test_words_become_an_order_that_waits(
    run: Run, study: StudyFolder, words: tuple[str, ...], request_: OrderRequest
) -> None:
    status, said, _ = run(*STUDY, *words, "--by", "ann", program=cli.main)
    assert status == 0
    assert said == f"{request_.said}: the study does not run; its next driver reads it\n"
    (order,) = waiting_orders(study)
    assert (order.request, order.by) == (request_, "ann")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("stopp",), "ORDER: unknown order 'stopp', did you mean 'stop'?"),
        (("clone",), "clone: needs a further word; name a trial: clone cola-003"),
        (("pause", "cola-003"), "pause: takes no 'cola-003'; write pause alone"),
        (("trials",), "trials: needs a further word; write trials +20"),
        (("stop", "../x"), "order.trial: "),
        (("stop", "cola-003", "--set", "scale=2"), "order: stop_trial changes no settings"),
        (("clone", "cola-003", "--set", "scale"), "order.settings.0: "),
        (("pause", "--by", "a" * 81), "--by: "),
    ],
)
def test_words_that_make_no_order_are_refused(
    run: Run, study: StudyFolder, words: tuple[str, ...], problem: str
) -> None:
    status, _, said = run(*STUDY, *words, program=cli.main)
    assert status == 2
    assert said.startswith(problem)
    assert said.count("\n") == 1
    assert not waiting_orders(study)


def test_a_study_that_is_not_there_is_named(run: Run, study: StudyFolder) -> None:
    status, _, said = run("order", "min", "stop", "--storage", "studies", program=cli.main)
    assert (status, said) == (2, "studies: unknown study 'min', did you mean 'mine'?\n")


@pytest.mark.parametrize(
    ("state", "status", "text"),
    [("done", 0, "pause: done, as asked\n"), ("refused", 2, "pause was refused: as asked\n")],
)
def test_the_drivers_answer_is_said(run: Run, study: StudyFolder, state: str, status: int, text: str) -> None:
    def answer() -> None:
        while not (waiting := waiting_orders(study)):
            sleep(0.01)
        ParquetSink(study.results).ordered(waiting[0].model_copy(update={"state": state, "outcome": "as asked"}))

    with FileLock(study.root / ".lock"):
        driver = Thread(target=answer)
        driver.start()
        found, out, err = run(*STUDY, "pause", program=cli.main)
        driver.join()
    assert (found, out + err) == (status, text)
