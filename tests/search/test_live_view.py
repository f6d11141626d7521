"""Tests the view: a line for each ended trial, and the total of a study's phases."""

from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from krona_tune.record.driver_state import TrialProgress
from krona_tune.search.ledger import Ledger
from krona_tune.search.terminal.live_view import View
from krona_tune.study.devices import Price
from krona_tune.study.kinds import TrialKind
from krona_tune.study.result import Status, TrialResult
from tests.record.events import curve, manifest
from tests.search.conftest import count_on
from tests.search.ledgers import SHAPE, Heard, config, run, run_finalist
from tests.study.final_rows import row


def nothing_done(trial_id: str) -> TrialProgress:
    return TrialProgress()


def half_done(trial_id: str) -> TrialProgress:
    return TrialProgress(share=0.5)


def view(book: Ledger, *, quiet: bool = False) -> tuple[View, StringIO]:
    screen = StringIO()
    return View(Console(file=screen, width=200), book, manifest("cola").tasks, nothing_done, quiet=quiet), screen


def test_the_phases_trials_add_up() -> None:
    book = Ledger(count_on(SHAPE), Heard(), [])
    shown, screen = view(book)
    shown.expect({"cola": 1})
    run(book, config(0), 0.5)
    shown.changed()
    shown.say("The search is done.")
    shown.expect({"cola": 2})
    run_finalist(book, 1, 7, 0.5, 0.375)
    shown.changed()
    first, between, last = screen.getvalue().splitlines()
    assert first.startswith("[1/1] cola-000  completed  score 0.500 after 1 epoch  ")
    assert between == "The search is done."
    assert last.startswith("[2/3] cola-final-1-s7  completed  score 0.500 after 1 epoch, 0.375 on test  ")


def test_a_resumed_study_counts_what_it_has() -> None:
    ended = row("000", "search", 0.5, task="cola", ended_at=7.0)
    book = Ledger(count_on(SHAPE), Heard(), [ended, replace(ended, trial_id="cola-001", status=Status.INTERRUPTED)])
    shown, screen = view(book)
    shown.expect({"cola": 3})
    run(book, config(2), status=Status.FAILED)
    shown.changed()
    assert screen.getvalue().startswith("[2/5] cola-002  failed  no score")
    book.reopened("cola-002")
    shown.changed()
    run(book, config(2), 0.5)
    shown.changed()
    assert screen.getvalue().splitlines()[1].startswith("[2/5] cola-002  completed  score 0.500")


def test_quiet_is_quiet() -> None:
    book = Ledger(count_on(SHAPE), Heard(), [])
    shown, screen = view(book, quiet=True)
    shown.say("The search is done.")
    run(book, config(0), 0.5)
    shown.changed()
    assert screen.getvalue() == ""


def test_a_terminal_that_can_not_draw_gets_lines() -> None:
    book, screen = Ledger(count_on(SHAPE), Heard(), []), StringIO()
    console = Console(file=screen, width=200, force_terminal=True, _environ={"TERM": "dumb"})
    with View(console, book, manifest("cola").tasks, nothing_done, quiet=False) as shown:
        run(book, config(0), 0.5)
        shown.changed()
        assert "cola-000  completed  score 0.500" in screen.getvalue()


def test_what_runs_is_shown_with_how_far_it_is_its_loss_and_its_rate() -> None:
    def progress(trial_id: str) -> TrialProgress:
        number = int(trial_id[-1])
        return TrialProgress(share=number / 16, curve=curve(*(1 / (at + 1) for at in range(number))))

    book = Ledger(count_on(SHAPE), Heard(), [])
    for number in range(10):
        book.started(config(number))
    screen = StringIO()
    console = Console(file=screen, width=400)
    console.print(View(console, book, manifest("cola").tasks, progress, quiet=True))
    lines = [line.split() for line in screen.getvalue().splitlines()]
    assert ["running", "done", "training", "loss", "learning", "rate"] in lines
    assert ["cola-000", "0%", "–", "–"] in lines
    assert ["cola-007", "44%", "0.143", "0.00966"] in lines
    assert ["and", "2", "more"] in lines
    assert "cola-008" not in screen.getvalue()


def test_a_long_rungs_progress_counts_for_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two trials have ended and two are half done after 30 s: of the six left, the two halves count as one done."""
    times = iter([100.0, 130.0])
    monkeypatch.setattr("krona_tune.search.terminal.live_view.time.monotonic", lambda: next(times))
    book = Ledger(count_on(SHAPE), Heard(), [])
    screen = StringIO()
    console = Console(file=screen, width=200)
    shown = View(console, book, manifest("cola").tasks, half_done, quiet=True)
    shown.expect({"cola": 8})
    for number in range(2):
        run(book, config(number), 0.5)
    for number in (2, 3):
        book.started(config(number))
    console.print(shown)
    assert "2 of 8 trials, 30 s, about 50 s left" in screen.getvalue()


def test_nothing_is_cut_on_a_narrow_screen() -> None:
    large = row("000", "search", 0.5, task="cola", ended_at=7.0, trainable_parameters=123_456_789)
    book = Ledger(count_on(SHAPE), Heard(), [large])
    screen = StringIO()
    Console(file=screen, width=60).print(
        View(Console(width=60), book, manifest("cola").tasks, nothing_done, quiet=True)
    )
    assert "…" not in screen.getvalue()


def test_with_a_price_the_last_line_says_what_the_trials_cost() -> None:
    took = row("000", "search", 0.5, task="cola", ended_at=7.0)
    book = Ledger(count_on(SHAPE), Heard(), [replace(took, device_seconds=7200.0)])
    screen = StringIO()
    for price in (Price(per_hour=2.1), None):
        shown = View(Console(width=200), book, manifest("cola").tasks, nothing_done, quiet=True, price=price)
        Console(file=screen, width=200).print(shown)
    with_price, without = (line.strip() for line in screen.getvalue().splitlines() if " of 1 trials, " in line)
    assert with_price.endswith(", cost so far 4.20")
    assert "cost" not in without


class Changing(dict[str, TrialResult]):
    """Rows that grow by one while they are iterated."""

    def values(self) -> Any:
        for each in super().values():
            self[f"late-{len(self)}"] = each
            yield each


def test_rows_and_trials_that_come_during_a_redraw_do_no_harm() -> None:
    book = Ledger(count_on(SHAPE), Heard(), [])
    for number in range(2):
        book.started(config(number))

    def another_begins(trial_id: str) -> TrialProgress:
        book.started(config(len(book.rows)))
        return half_done(trial_id)

    screen = StringIO()
    console = Console(file=screen, width=200)
    shown = View(console, book, manifest("cola").tasks, another_begins, quiet=True)
    book.rows = Changing(book.rows)
    console.print(shown)
    assert [line.split()[:2] for line in screen.getvalue().splitlines() if line.startswith("cola-0")] == [
        ["cola-000", "50%"],
        ["cola-001", "50%"],
    ]
    assert "cola-002" not in screen.getvalue()


def test_a_full_training_that_was_cut_off_is_none_of_the_plan() -> None:
    """Whoever asks for it again lets it go on."""
    ended = row("000", "search", 0.5, task="cola", ended_at=7.0)
    cut = replace(ended, trial_id="cola-full-1", kind=TrialKind.FULL_TRAIN, status=Status.INTERRUPTED)
    shown, _ = view(Ledger(count_on(SHAPE), Heard(), [ended, cut]))
    assert shown.counts() == (1, 1)
    shown.end_search()
    assert shown.counts() == (1, 1)
    going = Ledger(count_on(SHAPE), Heard(), [ended, cut])
    going.running = {cut.trial_id}
    assert view(going)[0].counts() == (1, 2)


def test_of_many_tasks_the_progress_is_seen_in_a_low_terminal() -> None:
    facts = {f"task_{number}": manifest("cola").tasks["cola"] for number in range(40)}
    for height, first in ((24, False), (80, True)):
        screen = Console(file=StringIO(), force_terminal=True, width=100, height=height, color_system=None)
        shown = View(screen, Ledger(None, Heard(), []), facts, nothing_done, quiet=True)
        lines = screen.render_lines(shown, screen.options.update(height=None))
        text = ["".join(part.text for part in line).strip() for line in lines]
        assert text[-1 if first else 0].startswith("0 of 0 trials, ")
