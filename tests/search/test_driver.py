"""Tests what a driver does with its trials, and what it says between its phases."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from krona_tune.search import driver
from krona_tune.search.budget import Amount, Budget, Rates
from krona_tune.search.driver import TrialLoop
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Status
from tests.search.conftest import spec
from tests.search.ledgers import config, ledger


@pytest.fixture
def loop() -> TrialLoop:
    return TrialLoop(ledger=ledger()[0], stopper=StudyStopper(Budget(), Amount), changed=lambda: None)


def test_a_trial_that_another_worker_goes_on_with_is_begun_once(loop: TrialLoop) -> None:
    loop.start(config(0))
    began = loop.ledger.rows["cola-000"]
    loop.start(config(0))
    assert loop.ledger.rows["cola-000"] is began


def test_a_trial_whose_worker_took_too_much_memory_says_how_large_it_was(loop: TrialLoop) -> None:
    loop.lose(config(0, batch_size=64), "tune0", "Ray ended the worker", out_of_memory=True)
    row = loop.ledger.rows["cola-000"]
    assert row.status is Status.OUT_OF_MEMORY
    assert row.error.startswith("Ray ended the worker; batches of 64; ")


@pytest.mark.parametrize(("left", "said"), [(0, []), (3, ["The budget of seconds ended the search with 3 trials"])])
def test_a_search_that_has_just_ended_is_not_said_to_be_cut_short(
    monkeypatch: pytest.MonkeyPatch, left: int, said: list[str]
) -> None:
    heard: list[str] = []
    view: Any = SimpleNamespace(expect=lambda new: None, say=heard.append)
    plan = SimpleNamespace(spec=spec())
    session: Any = SimpleNamespace(
        context=SimpleNamespace(plan=plan, prepared=SimpleNamespace(works={}), folder=StudyFolder(Path("x"))),
        ledger=ledger()[0],
        stopper=StudyStopper(Budget(seconds=1), lambda: Amount(seconds=2)),
        view=view,
        orders=SimpleNamespace(plan=plan),
        forecast=None,
        _rates=lambda: Rates(devices=1, slots=1),
        _run=lambda phase, stage: None,
    )
    monkeypatch.setattr(driver, "search_phase", lambda *asked: SimpleNamespace(new={}, trials=4, surrogate=None))
    monkeypatch.setattr(driver, "search_left", lambda *asked: left)
    assert driver.Driver._search(session)
    assert [line[: len(begin)] for line, begin in zip(heard, said, strict=True)] == said
