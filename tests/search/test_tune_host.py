"""Tests the seam with Ray Tune: what Tune says is recorded, trials pass the gate, and a study waits for Tune's run."""

import errno
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from krona_tune.search import tune_host
from krona_tune.search.budget import Amount, Budget
from krona_tune.search.ledger import Ledger
from krona_tune.search.searchers.asha import CONTINUE, STOP
from krona_tune.search.searchers.task_searcher import Gate, GatedSearcher
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.search.trial_loop import TrialLoop
from krona_tune.search.trial_message import StepResult
from krona_tune.search.tune_host import PAUSE, GatedScheduler, Recorder
from krona_tune.study.result import Status
from tests.search.ledgers import config, ledger
from tests.search.rungs import report


class Tune:
    """Takes the place of Tune's controller: trials with states, and those that it was told to stop."""

    def __init__(self, *states: str) -> None:
        self.trials = [SimpleNamespace(trial_id=f"t{number}", status=state) for number, state in enumerate(states)]
        self.stopped: list[str] = []
        self.released = 0
        self._running_trials = [trial for trial in self.trials if trial.status == Trial.RUNNING]
        self._pending_trials = [trial for trial in self.trials if trial.status == Trial.PENDING]
        self._paused_trials = [trial for trial in self.trials if trial.status == Trial.PAUSED]
        self.workers = self._actor_manager = Workers()

    def _cleanup_cached_actors(self, force_all: bool) -> None:
        self.released += force_all

    def get_trials(self) -> list[Any]:
        return self.trials

    def get_live_trials(self) -> list[Any]:
        return [trial for trial in self.trials if trial.status != Trial.TERMINATED]

    def stop_trial(self, trial: Any) -> None:
        self.stopped.append(trial.trial_id)
        trial.status = Trial.TERMINATED


class Workers:
    """Takes the place of what holds the workers: one is about to end, which is known when somebody listens."""

    num_live_actors = 1

    def next(self, timeout: float) -> None:
        self.num_live_actors = 0


class Stopping(FIFOScheduler):
    """Stops every trial."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return STOP


@pytest.mark.parametrize(("most", "decision"), [(0, PAUSE), (1, PAUSE), (2, CONTINUE), (3, CONTINUE)])
def test_a_trial_pauses_if_more_run_than_may(most: int, decision: str) -> None:
    tune = Tune(Trial.RUNNING, Trial.RUNNING, Trial.PAUSED, Trial.TERMINATED)
    assert GatedScheduler(FIFOScheduler(), Gate(most)).on_trial_result(tune, tune.trials[0], {}) == decision
    assert GatedScheduler(Stopping(), Gate(most)).on_trial_result(tune, tune.trials[0], {}) == STOP


def test_the_gate_is_told_what_the_scheduler_ends() -> None:
    told: list[str] = []

    class Judging(Gate):
        def judge(self, tune_id: str) -> None:
            told.append(tune_id)

    tune = Tune(Trial.RUNNING)
    for inner in (FIFOScheduler(), Stopping()):
        GatedScheduler(inner, Judging()).on_trial_result(tune, tune.trials[0], {})
    assert told == [tune.trials[0].trial_id]


def test_a_paused_trial_continues_when_there_is_room() -> None:
    tune, gate = Tune(Trial.RUNNING, Trial.PAUSED), Gate(1)
    assert GatedScheduler(FIFOScheduler(), gate).choose_trial_to_run(tune) is None
    assert gate.running == 1
    assert GatedScheduler(FIFOScheduler(), Gate(2)).choose_trial_to_run(tune) is tune.trials[1]
    assert GatedScheduler(FIFOScheduler(), Gate(0)).choose_trial_to_run(Tune(Trial.PENDING)) is None


@pytest.mark.parametrize(
    ("states", "most", "released", "heard"),
    [
        ([Trial.RUNNING, Trial.PAUSED], 2, 0, False),
        ([Trial.RUNNING, Trial.PAUSED], 1, 1, False),
        ([Trial.PAUSED], 0, 1, False),
        ([Trial.TERMINATED], 0, 1, True),  # Tune hears nothing while it waits for the searcher alone
        ([], 0, 1, True),
    ],
)
def test_idle_workers_give_back_what_nobody_may_use(states: list[str], most: int, released: int, heard: bool) -> None:
    tune, gate = Tune(*states), Gate(most)
    GatedScheduler(FIFOScheduler(), gate).choose_trial_to_run(tune)
    assert (tune.released, not tune.workers.num_live_actors) == (released, heard)
    searcher = Known([], lambda *told: Status.COMPLETED, {})
    searcher.gate = gate
    searcher.suggest("t9")
    assert tune.released == released + (most == 0), "a worker that the next trial needs must stay"


class Known(GatedSearcher):
    """A searcher that proposes nothing."""

    exhausted = False

    def propose(self) -> None:
        return None

    def forget(self, message: Any) -> None: ...

    def tell_end(self, message: Any, status: Status, result: Any) -> None: ...


def test_a_paused_trial_that_somebody_stopped_ends_without_running() -> None:
    class Stop(Gate):
        def stopped(self, tune_id: str) -> bool:
            return tune_id == "t1"

    tune = Tune(Trial.RUNNING, Trial.PAUSED, Trial.PAUSED)
    assert GatedScheduler(FIFOScheduler(), Stop(0)).choose_trial_to_run(tune) is None
    assert tune.stopped == ["t1"]


def tuned(number: int, result: dict[str, Any] | None = None) -> Any:
    """Returns a trial as Tune's callbacks see it."""
    return SimpleNamespace(trial_id=f"tune{number}", config=config(number).to_dict(), last_result=result)


def recorder_of(book: Ledger, stopper: StudyStopper, changed: Callable[[], None] = lambda: None) -> Recorder:
    return Recorder(TrialLoop(ledger=book, stopper=stopper, changed=changed))


@pytest.fixture
def book() -> Ledger:
    return ledger()[0]


@pytest.fixture
def stopper() -> StudyStopper:
    return StudyStopper(Budget(), Amount)


def test_a_trial_is_recorded_from_its_start_to_its_end(book: Ledger, stopper: StudyStopper) -> None:
    shown: list[int] = []
    recorder = recorder_of(book, stopper, lambda: shown.append(len(book.running)))
    recorder.on_trial_start(0, [], tuned(0))
    recorder.on_trial_complete(0, [], tuned(0, {"status": "completed", "score": 0.5}))
    assert book.rows["cola-000"].status is Status.COMPLETED
    assert shown == [1, 0]


def test_a_trial_that_got_further_may_lose_its_worker_as_often_again(book: Ledger, stopper: StudyStopper) -> None:
    """Nodes that are taken away from time to time fail no long trial; a repeated report is no step forward."""
    recorder, trial = recorder_of(book, stopper), Trial("KronaTrial", stub=True, config=config(0).to_dict())
    recorder.on_trial_start(0, [], trial)
    for rung, failures in ((0, 0), (0, 2), (1, 0)):
        trial.run_metadata.num_failures = 2
        recorder.on_trial_result(0, [], trial, StepResult(report=report("cola-000", rung, 0.5)).to_dict())
        assert (stopper.halted, trial.num_failures) == ("", failures)


def test_an_event_that_can_not_be_recorded_halts_the_study(book: Ledger, stopper: StudyStopper) -> None:
    recorder = recorder_of(book, stopper)
    recorder.on_trial_start(0, [], tuned(0))
    recorder.on_trial_result(0, [], tuned(0), {"report": {"odd": 1}, "checkpoint": ""})
    assert stopper.halted.startswith("the event on_trial_result could not be recorded: TypeError: ")
    recorder.on_trial_complete(0, [], tuned(0, {"score": 0.5}))
    assert book.rows["cola-000"].status is Status.INTERRUPTED


def test_an_error_of_the_view_does_not_stop_the_study(book: Ledger, stopper: StudyStopper) -> None:
    def broken() -> None:
        raise KeyError("a flaw of the view")

    recorder_of(book, stopper, broken).on_trial_start(0, [], tuned(0))
    assert book.running == {"cola-000"}
    assert not stopper.interrupted


def test_a_run_that_was_abandoned_records_nothing_more(book: Ledger, stopper: StudyStopper) -> None:
    recorder = recorder_of(book, stopper)
    recorder.on_trial_start(0, [], tuned(0))
    recorder.close()
    recorder.on_trial_error(0, [], tuned(0))
    recorder.on_trial_start(0, [], tuned(1))
    assert book.running == set(book.rows) == {"cola-000"}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError(), "ValueError"),
        (ValueError(" \n"), "ValueError"),
        (KeyError("first\nlast"), "KeyError: 'first\\nlast'"),
        (OSError("a trace\n\nlast \n"), "OSError: last"),
        (None, "the worker was lost"),
    ],
)
def test_an_error_of_a_trial_is_recorded_whatever_it_says(
    book: Ledger, stopper: StudyStopper, error: Exception | None, said: str
) -> None:
    failed = tuned(0)
    failed.pickled_error_file, failed.get_pickled_error = "there", lambda: error
    recorder_of(book, stopper).on_trial_error(0, [], failed)
    assert not stopper.halted
    assert (book.rows["cola-000"].status, book.rows["cola-000"].error) == (Status.FAILED, said)


@pytest.fixture
def looking_often(monkeypatch: pytest.MonkeyPatch) -> StudyStopper:
    monkeypatch.setattr(tune_host, "WATCH_SECONDS", 0.01)
    return StudyStopper(Budget(), Amount)


def test_a_run_that_ends_well_stops_nothing(looking_often: StudyStopper) -> None:
    done = []
    tune_host.watched(lambda: done.append(threading.current_thread().name), lambda: None, looking_often)
    assert done == ["tune"]
    assert not looking_often.interrupted


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "Tune's state could not be kept: [Errno 28] No space left"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "Ray Tune failed: ConnectionRefusedError: "),
        (FileNotFoundError(errno.ENOENT, "gone"), "Ray Tune failed: FileNotFoundError: "),
        (RuntimeError("an actor died\nmore"), "Ray Tune failed: RuntimeError: an actor died"),
    ],
)
def test_a_run_that_fails_halts_the_study_and_says_why(
    looking_often: StudyStopper, error: Exception, reason: str
) -> None:
    def fails() -> None:
        raise error

    tune_host.watched(fails, lambda: None, looking_often)
    assert looking_often.halted.startswith(reason)
    assert not looking_often.lost


def test_a_run_on_a_ray_that_is_lost_is_abandoned(looking_often: StudyStopper) -> None:
    forever, looks = threading.Event(), iter([None, None, "Ray's raylet ended"])
    tune_host.watched(forever.wait, lambda: next(looks), looking_often)
    assert (looking_often.lost, looking_often.halted) == ("Ray's raylet ended", "")
    forever.set()


def test_a_run_that_fails_since_ray_is_lost_is_abandoned_too(looking_often: StudyStopper) -> None:
    failed = threading.Event()

    def fails() -> None:
        failed.set()
        raise RuntimeError("the owner died")

    tune_host.watched(fails, lambda: "Ray's gcs_server ended" if failed.is_set() else None, looking_often)
    assert (looking_often.lost, looking_often.halted) == ("Ray's gcs_server ended", "")


def test_a_second_request_to_stop_abandons_the_run(looking_often: StudyStopper) -> None:
    forever = threading.Event()

    def pressed() -> str | None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune_host.watched(forever.wait, pressed, looking_often)
    assert looking_often.lost
    forever.set()


def test_a_second_request_that_python_dropped_abandons_the_run_too(looking_often: StudyStopper) -> None:
    forever = threading.Event()

    def pressed() -> None:
        looking_often.at_once = True

    with pytest.raises(KeyboardInterrupt):
        tune_host.watched(forever.wait, pressed, looking_often)
    assert looking_often.lost
    forever.set()
