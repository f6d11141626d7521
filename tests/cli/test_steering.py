"""Tests the command that gives orders: what it asks of the driver, what it refuses itself, and what it then says."""

from contextlib import nullcontext
from pathlib import Path
from threading import Thread

import pytest
from filelock import FileLock

import krona_tune
from krona_tune import cli
from krona_tune.cli import steering
from krona_tune.record.driver_state import write_driver_state
from krona_tune.record.orders import give_order, waiting_orders
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import Order, OrderRequest
from krona_tune.study.study_state import DriverState, Stage
from tests.conftest import Run
from tests.record.events import manifest, started
from tests.waiting import until

STUDY = ("order", "mine", "--storage", "studies")


@pytest.fixture
def study(run: Run, tmp_path: Path) -> StudyFolder:
    folder = StudyFolder(tmp_path / "here" / "studies" / "mine")
    folder.results.mkdir(parents=True)
    folder.spec.write_text("model: m\nname: mine\n")
    ParquetSink(folder.results).trial_started(started(3))
    return folder


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        (("stop",), OrderRequest(what="stop")),
        (("stop", "cola-0003"), OrderRequest(what="stop_trial", trial="cola-0003")),
        (
            ("clone", "cola-0003", "--set", "training.learning_rate=0.001", "--set", "scale=2", "--from-last-rung"),
            OrderRequest(
                what="clone_trial",
                trial="cola-0003",
                settings=("training.learning_rate=0.001", "scale=2"),
                from_last_rung=True,
            ),
        ),
        (("pause",), OrderRequest(what="pause")),
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
    assert said == f"{request_.text}: the study does not run; its next driver reads it\n"
    (order,) = waiting_orders(study)
    assert (order.request, order.by) == (request_, "ann")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("time-budget", "soon"), "time-budget soon: 'soon' is refused; write a time such as 90s, 20min, 1h30m or 2d"),
        (("trials", "12"), "trials 12: each task has 12 already; write +20 for 20 more a task"),
        (("max-concurrent", "0"), "max-concurrent 0: '0' is not a number of trials; write 1 to 1,000,000"),
        (
            ("clone", "cola-0003", "--set", "adapter.scael=2"),
            "clone cola-0003: adapter.scael: unknown knob 'scael', did you mean 'scale'?",
        ),
        (
            ("clone", "cola-0003", "--set", "scale=true"),
            "clone cola-0003: scale: true is no number; write a number",
        ),
        (
            ("clone", "cola-0003", "--set", "scale=1:30"),
            "clone cola-0003: scale, line 1, column 1: 1:30 would be 90",
        ),
        (("clone", "cola-0003"), "clone: cola-0003 has these values: the same would be trained again; change one"),
        (("stop", "cola-003"), "stop cola-003: unknown trial 'cola-003', did you mean 'cola-0003'?"),
        (("cancel",), "cancel: the study does not run; there is nothing to end"),
        (("continue",), "continue: the study is not paused, and nobody ended its search; there is nothing to do"),
    ],
)
@pytest.mark.parametrize("runs", [False, True])
def test_what_a_driver_would_refuse_is_refused_at_once(
    run: Run, study: StudyFolder, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], problem: str, runs: bool
) -> None:
    """Of a study that runs, only its driver knows whether there is something to end or to let go on."""
    monkeypatch.setattr(steering, "ANSWER_SECONDS", 0.0)
    with FileLock(study.root / ".lock") if runs else nullcontext():
        status, _, said = run(*STUDY, *words, program=cli.main)
    if runs and words[0] in {"cancel", "continue"}:
        assert (status, len(waiting_orders(study))) == (0, 1)
    else:
        assert (status, said.startswith(problem), waiting_orders(study)) == (2, True, []), said


@pytest.mark.parametrize("stage", ["search", "end"])
def test_a_driver_that_has_come_to_its_end_takes_no_orders(
    run: Run, study: StudyFolder, monkeypatch: pytest.MonkeyPatch, stage: Stage
) -> None:
    monkeypatch.setattr(steering, "ANSWER_SECONDS", 0.0)
    write_driver_state(study, DriverState(stage=stage, trials=1, ended=1, slots=1, at=1.0))
    with FileLock(study.root / ".lock"):
        status, _, refused = run(*STUDY, "cancel", program=cli.main)
        _, said, _ = run(*STUDY, "pause", program=cli.main)
    ends = stage == "end"
    assert (status, "the study does not run; there is nothing to end" in refused) == (2 if ends else 0, ends)
    assert ("its next driver reads it" in said) is ends


def test_an_order_about_the_search_waits_for_its_driver_while_a_full_training_runs(
    run: Run, study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steering, "ANSWER_SECONDS", 0.0)
    state = DriverState(stage="full training", trials=1, ended=1, slots=1, at=1.0, training=True)
    write_driver_state(study, state)
    with FileLock(study.root / ".lock"):
        said = [run(*STUDY, *words, program=cli.main)[1] for words in (["trials", "+2"], ["pause"])]
    assert "a full training runs; the next driver of the search reads it" in said[0]
    assert "its driver reads it within a few seconds" in said[1]


@pytest.mark.parametrize("kind", ["finalist", "full_data"])
def test_only_trials_of_the_search_are_stopped_and_the_reason_fits_each_kind(
    run: Run, study: StudyFolder, kind: str
) -> None:
    ParquetSink(study.results).trial_started(started(4, kind=kind))
    status, _, said = run(*STUDY, "stop", "cola-0004", program=cli.main)
    assert status == 2
    assert "cola-0004 is no trial of the search; pause or cancel the study instead" in flat(said)


def test_a_study_that_is_paused_is_not_paused_again_but_goes_on(run: Run, study: StudyFolder) -> None:
    paused = Order(id="20261127T000000Z-abcdef", what="pause", state="done", ended_at=1.0)
    ParquetSink(study.results).ordered(paused)
    status, _, said = run(*STUDY, "pause", program=cli.main)
    assert (status, said) == (2, "pause: the study is paused already; let it go on with continue\n")
    for word in ("continue", "pause"):  # the second may be right when the first is done
        assert run(*STUDY, word, program=cli.main)[0] == 0
    assert [order.what for order in waiting_orders(study)] == ["continue", "pause"]


def test_the_plan_of_a_resume_says_which_orders_wait_and_which_its_flags_overrule(
    run: Run, study: StudyFolder, model: str
) -> None:
    study.spec.write_text(f"model: {model}\nname: mine\ntasks: [cola]\ndata: mini\n")
    budget, more = OrderRequest(what="time_budget", value="2h"), OrderRequest(what="trials", value="+4")
    for asked in (budget, more, OrderRequest(what="cancel")):
        give_order(study, asked, by="ann")
    flags = ("--time-budget", "5h", "--dry-run", "--storage", "studies")
    status, said, _ = run("resume", "mine", *flags, program=cli.main)
    assert status == 0
    assert "time-budget 2h, of ann (refused: this start sets search.time_budget); trials +4, of ann;" in flat(said)
    assert "cancel, of ann (refused: its driver has ended)" in flat(said)
    assert len(waiting_orders(study)) == 3


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("stopp",), "ORDER: unknown order 'stopp', did you mean 'stop'?"),
        (("clone",), "clone: needs a further word; name a trial: clone cola-003"),
        (("pause", "cola-003"), "pause: takes no 'cola-003'; write pause alone"),
        (("trials",), "trials: needs a further word; write trials +20"),
        (("stop", "../x"), "order.trial: "),
        (("stop", "cola-003", "--set", "scale=2"), "order: stop_trial changes no settings"),
        (("clone", "cola-0003", "--set", "scale"), "order.settings.0: "),
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
        until(lambda: waiting_orders(study))
        [order] = waiting_orders(study)
        ParquetSink(study.results).ordered(order.model_copy(update={"state": state, "outcome": "as asked"}))

    with FileLock(study.root / ".lock"):
        driver = Thread(target=answer)
        driver.start()
        found, out, err = run(*STUDY, "pause", program=cli.main)
        driver.join()
    assert (found, out + err) == (status, text)


def test_python_refuses_at_once_too(study: StudyFolder) -> None:
    manifest("cola").write(study.manifest)
    with pytest.raises(Refusal, match="time-budget soon: 'soon' is refused"):
        krona_tune.open_study(study.root).order("time_budget", value="soon")
    assert not waiting_orders(study)
