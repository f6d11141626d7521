"""Tests that every trial has a row from its start, is interrupted until it ends, and has its seconds counted once."""

from dataclasses import replace
from math import inf, nan

import pytest

from krona_tune.adapters.placement import count
from krona_tune.report.cost import DeviceRates, total_cost
from krona_tune.search.budget import spent
from krona_tune.search.ledger import Ledger
from krona_tune.study.devices import Devices
from krona_tune.study.result import ScoreOnTest, Status
from tests.record.events import curve
from tests.search.conftest import count_on
from tests.search.ledgers import SHAPE, Heard, config, finalist, ledger, run, run_finalist
from tests.search.rungs import report


def test_a_row_is_interrupted_until_it_has_ended() -> None:
    book, heard = ledger()
    book.started(config(0))
    assert (book.rows["cola-000"].status, book.rows["cola-000"].ended_at) == (Status.INTERRUPTED, None)
    assert book.running == {"cola-000"}
    book.ended("cola-000", Status.DIVERGED, "the loss is nan")
    row = book.rows["cola-000"]
    assert (row.status, row.error) == (Status.DIVERGED, "the loss is nan")
    assert row.ended_at is not None
    assert row.ended_at >= row.started_at > 0
    assert not book.running
    assert [name for name, _ in heard.events] == ["started", "ended"]
    assert heard.events[-1][1] == row


def test_a_row_knows_its_trial_and_what_it_trains() -> None:
    book, _ = ledger()
    trial = config(3, "rte", layer_norms=True, a_out=8)
    book.started(trial)
    row = book.rows["rte-003"]
    counted = count(SHAPE, trial.checked().adapter, outputs=2)
    assert row.fingerprint == trial.checked().fingerprint
    assert (row.task, row.number, row.kind, row.seed, row.params) == ("rte", 3, "search", 5, trial.params)
    assert (row.adapter_parameters, row.norm_parameters) == (counted.adapter, SHAPE.norms)
    assert row.head_parameters == SHAPE.head_parameters(2) > 0
    assert row.trainable_parameters == counted.trainable
    assert row.trainable_percent == counted.percent


@pytest.mark.parametrize(("task", "outputs"), [("stsb", 1), ("rte", 2), ("mnli", 3)])
def test_the_head_has_an_output_for_each_label_and_one_for_a_regression(task: str, outputs: int) -> None:
    book, _ = ledger()
    book.started(config(0, task))
    assert book.rows[f"{task}-000"].head_parameters == SHAPE.head_parameters(outputs)


def test_reports_add_their_seconds_and_the_last_one_gives_the_score() -> None:
    book, heard = ledger()
    row = run(book, config(0), 0.25, 0.5, 0.375)
    assert (row.score, row.rung, row.examples, row.epochs) == (0.375, 2, 240, 4)
    assert (row.train_seconds, row.evaluation_seconds) == (3, 3)
    assert row.checkpoint == "there/rung-3"
    assert [name for name, _ in heard.events] == ["started", *["reported"] * 3, "ended"]


def test_a_report_that_is_repeated_counts_once() -> None:
    book, heard = ledger()
    book.started(config(0))
    for rung in (0, 1, 1, 0, 1, 2):
        book.reported(report("cola-000", rung, 0.1 * rung), f"there/{rung}")
    assert (book.rows["cola-000"].train_seconds, book.rows["cola-000"].rung) == (3, 2)
    book.reported(report("cola-000", 2, 0.2), "elsewhere/2")
    assert book.rows["cola-000"].checkpoint == "elsewhere/2"
    assert [event.rung for name, event in heard.events if name == "reported"] == [0, 1, 2]


def test_a_rung_that_is_trained_again_is_used_on_the_devices_and_says_nothing_else() -> None:
    """The second state was lost with its machine: the trial repeats the first report, then trains again."""
    devices = Devices(kind="CPU", count=2)
    book = Ledger(count_on(SHAPE), Heard(), [], devices=devices)
    book.started(config(0))
    first, second = report("cola-000", 0, 0.5), report("cola-000", 1, 0.75)
    for each in (first, second):
        book.reported(each, "there")
    before = book.rows["cola-000"]
    again = replace(second, score=0.7, train_seconds=second.train_seconds + 1)
    for each in (first, again, again):
        book.reported(each, "there")
    row = book.rows["cola-000"]
    used = 2 * (again.train_seconds + again.evaluation_seconds)
    assert row == replace(before, device_seconds=pytest.approx(before.device_seconds + used))


def test_the_peak_of_memory_is_the_highest_of_all_reports() -> None:
    book, _ = ledger()
    book.started(config(0))
    for rung, peak in enumerate((30, 70, 50)):
        book.reported(replace(report("cola-000", rung, 0.5), peak_memory_bytes=peak), "")
    assert book.rows["cola-000"].peak_memory_bytes == 70


def test_a_second_end_changes_nothing() -> None:
    book, heard = ledger()
    row = run(book, config(0), 0.25)
    book.ended("cola-000", Status.FAILED, "again")
    book.ended("cola-007", Status.FAILED, "never started")
    assert book.rows == {"cola-000": row}
    assert len([name for name, _ in heard.events if name == "ended"]) == 1


def test_a_trial_that_goes_on_keeps_its_row_and_adds_to_it() -> None:
    before, _ = ledger()
    early = run(before, config(0), 0.25, status=Status.INTERRUPTED)
    book, heard = ledger(early)
    book.started(config(0))
    assert book.rows["cola-000"].started_at == early.started_at
    book.reported(report("cola-000", 0, 0.25), "there/1")
    book.reported(report("cola-000", 1, 0.5), "there/2")
    book.ended("cola-000", Status.COMPLETED)
    row = book.rows["cola-000"]
    assert (row.train_seconds, row.score, row.status) == (2, 0.5, Status.COMPLETED)
    assert [event.rung for name, event in heard.events if name == "reported"] == [1]


def test_a_trial_that_goes_on_elsewhere_keeps_what_it_used_and_adds_what_it_uses_there() -> None:
    before = Ledger(count_on(SHAPE), Heard(), [], devices=Devices(kind="cuda", count=2.0))
    early = run(before, config(0), 0.25, status=Status.INTERRUPTED)
    assert (early.device, early.devices, early.device_seconds) == ("cuda", 2.0, 2 * 2)
    book = Ledger(count_on(SHAPE), Heard(), [early], devices=Devices(kind="cpu", count=5.0))
    row = run(book, config(0), 0.25, 0.5, 0.75)
    assert (row.device, row.devices, row.device_seconds) == ("cpu", 5.0, 2 * 2 + 5 * 4)
    assert spent(book.rows, 0.0).device_hours == total_cost([row], DeviceRates()).device_seconds / 3600 == 24 / 3600


@pytest.mark.parametrize(("first", "copied"), [(1, 80), (0, 0)], ids=["from the other's state", "without it after all"])
def test_a_clone_has_not_seen_what_the_other_had(first: int, copied: int) -> None:
    book, _ = ledger()
    book.started(replace(config(0), copied_examples=80))
    assert (book.rows["cola-000"].examples, book.rows["cola-000"].own_examples) == (0, 0)
    for rung in range(first, 3):
        book.reported(report("cola-000", rung, 0.5), "")
    row = book.rows["cola-000"]
    assert (row.examples, row.own_examples) == (240, 240 - copied)
    assert spent(book.rows, 0.0).examples == 240 - copied


def test_the_best_has_the_highest_score_then_the_fewest_parameters() -> None:
    book, _ = ledger()
    assert book.standings.best("cola") is None
    run(book, config(0, a_out=24), 0.5, 0.7)
    run(book, config(1, a_out=6), 0.7)
    run(book, config(2, a_out=8), 0.1, 0.7, status=Status.STOPPED_EARLY)
    run(book, config(3, a_out=4), 0.9, 0.6)
    run(book, config(4), status=Status.FAILED)
    run(book, config(5, "rte"), 0.95)
    sizes = {book.rows[f"cola-00{n}"].trainable_parameters for n in range(3)}
    assert len(sizes) == 3
    best = book.standings.best("cola")
    assert best is not None
    assert best.score == 0.7
    assert best.trainable_parameters == min(sizes)


def test_a_negative_score_is_a_score() -> None:
    book, _ = ledger()
    run(book, config(0), -0.25)
    run(book, config(1), -0.125)
    assert book.standings.best("cola") == book.rows["cola-001"]


@pytest.mark.parametrize("score", [nan, inf, -inf])
def test_a_score_that_is_no_number_is_none(score: float) -> None:
    """Such a report comes from a trial on all examples, of which none is held out."""
    book, _ = ledger()
    assert run(book, config(0), 0.5, score).score is None
    assert book.standings.best("cola") is None


def test_baselines_stand_apart_from_the_search() -> None:
    book, _ = ledger()
    assert book.standings.baseline("cola") is None
    run(book, config(0, kind="baseline"), 0.9)
    run(book, config(1, kind="baseline"), 0.8)
    assert book.standings.best("cola") is None
    run(book, config(0), 0.5)
    assert book.standings.best("cola") == book.rows["cola-000"]
    assert book.standings.baseline("cola") == book.rows["cola-000-head"]
    assert book.standings.baseline("rte") is None


def test_a_word_about_the_look_at_the_test_half_is_in_the_row_and_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    book, _ = ledger()
    trial = finalist(2, 7, "cola-002")
    book.started(trial)
    book.tested(trial.trial_id, ScoreOnTest(score=0.5, metrics={}, examples=90, note="no interval: too slow"))
    assert (book.rows[trial.trial_id].test_note, book.rows[trial.trial_id].test_resampled) == (
        "no interval: too slow",
        (),
    )
    assert "cola-final-2-s7 on the test half: no interval: too slow" in caplog.text


def test_a_finalists_row_tells_what_it_repeats_and_its_look_at_the_test_half() -> None:
    book, heard = ledger()
    run_finalist(book, 2, 7, 0.5, 0.375)
    row = book.rows["cola-final-2-s7"]
    assert (row.kind, row.of, row.seed) == ("finalist", "cola-002", 7)
    assert (row.test_score, row.test_examples, row.test_metrics, row.test_resampled) == (
        0.375,
        90,
        {"matthews": 0.375},
        (0.375,),
    )
    assert [name for name, _ in heard.events] == ["started", "reported", "ended"]
    assert heard.events[-1][1] == row


def test_the_winner_is_the_best_of_the_search_until_there_are_finalists() -> None:
    book, _ = ledger()
    assert book.standings.winner("cola") is None
    run(book, config(0), 0.9)
    assert book.standings.winner("cola") == book.standings.best("cola") == book.rows["cola-000"]
    run_finalist(book, 1, 7, 0.75, 0.9)
    run_finalist(book, 1, 8, 0.25, 0.9)
    run_finalist(book, 2, 7, 0.5, 0.1)
    run_finalist(book, 2, 8, 0.625, 0.1)
    assert book.standings.winner("cola") == book.rows["cola-final-2-s8"]
    assert book.standings.best("cola") == book.rows["cola-000"]
    assert book.standings.winner("rte") is None


def test_a_finalists_report_is_no_matter_of_early_stopping() -> None:
    book, _ = ledger()
    run_finalist(book, 1, 7, 0.5, 0.4)
    assert not book.is_judged(report("cola-final-1-s7", 0, 0.5))


def test_what_a_killed_driver_let_go_on_is_not_judged_again() -> None:
    """Each has reported 2 s after its start; the third one's end may have come between its report and the kill."""
    rows = [run(ledger()[0], config(number), 0.5) for number in range(5)]
    killed = [
        replace(row, status=Status.INTERRUPTED, ended_at=None, started_at=1000.0 + at)
        for row, at in zip(rows, (0.0, 3.0, 5.0), strict=False)
    ]
    stopped = replace(rows[3], status=Status.INTERRUPTED, started_at=1000.0, ended_at=1006.5)
    lost = replace(rows[4], status=Status.FAILED, started_at=1000.0, ended_at=1001.0)
    book, _ = ledger(*killed, stopped, lost)
    judged = [book.is_judged(report(row.trial_id, 0, 0.5)) for row in book.rows.values()]
    assert judged == [True, True, False, False, True]
    alone, _ = ledger(killed[0], lost)
    assert not alone.is_judged(report("cola-000", 0, 0.5))
    further, _ = ledger(replace(killed[2], rung=1), lost)
    assert further.is_judged(report("cola-002", 0, 0.5))


def test_a_trial_that_goes_on_has_not_ended_and_its_pause_is_no_time_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr("krona_tune.search.ledger.time.time", lambda: now[0])
    first, _ = ledger()
    first.started(config(0))
    now[0] = 1060.0
    first.ended("cola-000", Status.INTERRUPTED, "the state could not be kept", curve(0.5))
    assert first.rows["cola-000"].curve == curve(0.5)
    now[0] += 72 * 3600
    second, heard = ledger(first.rows["cola-000"])
    second.started(config(0))
    row = second.rows["cola-000"]
    assert (row.ended_at, row.error, row.started_at, row.paused_seconds) == (None, "", 1000.0, 72 * 3600)
    assert row.curve == ()
    assert heard.events == [("started", row)]
    now[0] += 60
    second.ended("cola-000", Status.COMPLETED)
    row = second.rows["cola-000"]
    assert row.ended_at is not None
    assert row.ended_at - row.started_at - row.paused_seconds == 120
    assert total_cost([row], DeviceRates()).wall_seconds == 120


def test_the_pause_of_a_trial_whose_driver_was_killed_counts_from_its_last_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("krona_tune.search.ledger.time.time", lambda: 5000.0)
    killed = replace(run(ledger()[0], config(0), 0.5), status=Status.INTERRUPTED, ended_at=None, started_at=1000.0)
    assert (killed.train_seconds, killed.evaluation_seconds) == (1, 1)
    book, _ = ledger(killed)
    book.started(config(0))
    assert book.rows["cola-000"].paused_seconds == 5000 - 1002


def test_a_waiting_trial_that_an_order_ends_has_not_run_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = replace(run(ledger()[0], config(0), 0.5), status=Status.INTERRUPTED, ended_at=None, started_at=1000.0)
    monkeypatch.setattr("krona_tune.search.ledger.time.time", lambda: 5000.0)
    book, heard = ledger(killed)
    book.stopped_while_waiting("cola-000")
    row = book.rows["cola-000"]
    assert (row.status, row.ended_at, row.paused_seconds) == (Status.STOPPED_BY_USER, 5000.0, 5000 - 1002)
    assert heard.events == [("ended", row)]
    assert total_cost([row], DeviceRates()).wall_seconds == 2
