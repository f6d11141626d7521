"""Makes ledgers whose sink keeps what it hears, and fills them with trials."""

from typing import Any

from krona_tune.search.ledger import Ledger
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.order import Order
from krona_tune.study.result import Report, ScoreOnTest, Status, TrialResult
from tests.models import build
from tests.search.conftest import count_on
from tests.search.rungs import report

SHAPE = build("bert")[0]


class Heard:
    """A sink that keeps its events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def trial_started(self, result: TrialResult) -> None:
        self.events.append(("started", result))

    def reported(self, report: Report) -> None:
        self.events.append(("reported", report))

    def trial_ended(self, result: TrialResult) -> None:
        self.events.append(("ended", result))

    def ordered(self, order: Order) -> None:
        self.events.append(("ordered", order))

    def study_ended(self, artifacts: Any) -> None: ...


def config(number: int, task: str = "cola", kind: str = "search", **params: Any) -> TrialMessage:
    knobs = {"method": "krona", "a_out": 4, "a_in": 6, **params} if kind == "search" else {"method": "head_only"}
    return TrialMessage(f"{task}-{number:03d}" + "-head" * (kind != "search"), task, number, kind, 5, knobs)


def ledger(*earlier: TrialResult) -> tuple[Ledger, Heard]:
    heard = Heard()
    return Ledger(count_on(SHAPE), heard, list(earlier)), heard


def run(book: Ledger, trial: TrialMessage, *scores: float, status: Status = Status.COMPLETED) -> TrialResult:
    book.started(trial)
    for rung, score in enumerate(scores):
        book.reported(report(trial.trial_id, rung, score, trial.task), f"there/rung-{rung + 1}")
    book.ended(trial.trial_id, status)
    return book.rows[trial.trial_id]


def finalist(number: int, seed: int, of: str) -> TrialMessage:
    knobs = {"method": "krona", "a_out": 4 * number, "a_in": 6}
    return TrialMessage(f"cola-final-{number}-s{seed}", "cola", number, "finalist", seed, knobs, of)


def run_finalist(book: Ledger, number: int, seed: int, score: float, test: float) -> None:
    trial = finalist(number, seed, f"cola-00{number}")
    book.started(trial)
    book.reported(report(trial.trial_id, 0, score), "there/rung-1")
    book.tested(trial.trial_id, ScoreOnTest(score=test, metrics={"matthews": test}, examples=90, resampled=(test,)))
    book.ended(trial.trial_id, Status.COMPLETED)
